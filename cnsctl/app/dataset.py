"""From images and a request to a job for the engine: latents, texts, general neurons, earlier concepts.

Owns the caches of latents and general neurons; must not know terminals or formulas.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cnsctl.app.counting import Count
from cnsctl.app.processes import is_main
from cnsctl.data.prompt_templates import calibration_texts, caption_prompt, probe_prompts, training_texts
from cnsctl.errors import ImageError, UsageError
from cnsctl.events import Event, Note
from cnsctl.settings import TrainSettings, complete

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import torch

    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.session import Session
    from cnsctl.bases.protocol import Base
    from cnsctl.concept import Prompt
    from cnsctl.data.images import TrainingImage
    from cnsctl.engine.job import Job


def make_job(
    session: Session,
    request: TrainRequest,
    class_word: str,
    images: Sequence[TrainingImage],
    latents_file: Path | None = None,
    *,
    keep_latents: bool = False,
) -> Generator[Event, None, Job]:
    """The job of training on these images, without the held-out ones.

    Latents are read from their file, or written to it; `keep_latents`: but do not overwrite those of other images.
    """
    from cnsctl.engine.job import Job

    base, store = session.base, session.store
    images = images[: len(images) - request.holdout]
    latents = yield from _latents(session, images, latents_file, keep=keep_latents)
    general = yield from _general(session)
    return Job(
        name=request.name,
        class_word=class_word,
        latents=latents,
        texts=[_texts_of(request.name, class_word, image) for image in images],
        settings=complete(TrainSettings, base.train_defaults, request.settings),
        mode=store.mode,
        prior=session.prior(request.name),
        general=general,
        owned=store.index.owned(store.snapshot(), besides=request.name),
        frames=[image.frame for image in images],
        masks=[_at_latents(image, latent) for image, latent in zip(images, latents, strict=True)],
    )


def _latents(
    session: Session, images: Sequence[TrainingImage], file: Path | None, *, keep: bool
) -> Generator[Event, None, list[torch.Tensor]]:
    """Latents of the images, saved with the training state so that a resumed run uses the same ones."""
    from cnsctl.app.resume import MAX_BYTES
    from cnsctl.engine import training_state
    from cnsctl.store import read_bounded, write_atomic

    key = hashlib.sha256(
        f"{session.base.fingerprint}{session.base.part_hashes}{session.device}{session.dtype}".encode()
    )
    for image in images:
        key.update(repr(image.pixels.shape).encode() + image.pixels.tobytes())
    if file is not None and file.is_file():
        kept = training_state.latents_from_bytes(read_bounded(file, MAX_BYTES), key=key.hexdigest())
        if kept is not None:
            return kept
    count = Count("encode the images", len(images))
    yield count.begin()
    found = yield from count.each(session.encoding(image.pixels for image in images))
    if file is not None and not (keep and file.exists()):
        write_atomic(file, training_state.latents_to_bytes(found, key=key.hexdigest()))
    return found


def _at_latents(image: TrainingImage, latent: torch.Tensor) -> torch.Tensor | None:
    """The mask of an image at the scale of its latents, (h, w): the mean over the pixels of each."""
    import torch

    if image.mask is None:
        return None
    height, width = latent.shape[-2:]
    mask = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(image.mask)[None], (height, width))[0]
    return mask if bool(mask.any()) else None


def _texts_of(name: str, class_word: str, image: TrainingImage) -> tuple[Prompt, ...]:
    if image.caption is None:
        return training_texts(name)
    return (caption_prompt(name, class_word, image.caption),)


def refuse_long_class_word(base: Base, request: TrainRequest, class_word: str) -> None:
    """Check that the concept fits into the prompts of the training and of the measurements.

    Raises:
        UsageError: it does not, because its class word has too many tokens.
    """
    from cnsctl.bases.protocol import Slot
    from cnsctl.engine.prompt_tokens import splice

    n = complete(TrainSettings, base.train_defaults, request.settings).token_embeddings
    slots = {request.name: Slot(name=request.name, class_word=class_word, n_vectors=n)}
    try:
        for prompt in (*training_texts(request.name), *probe_prompts(request.name)):
            splice(base, prompt, slots)
    except UsageError as err:
        raise UsageError(
            f"class word is too long: {class_word[:80]!r}", note=err.note, reason="long-class-word"
        ) from err


def long_captions(base: Base, job: Job, images: Sequence[TrainingImage]) -> Iterator[Note]:
    """A note for every training caption that is too long for the base model, with the words that are ignored.

    Raises:
        ImageError: the concept itself does not fit into the text.
    """
    from cnsctl.engine.prompt_tokens import splice

    tokens = {job.name: job.slot}
    for image, prompts in zip(images, job.texts, strict=False):  # held-out images come last, and have no texts
        if image.caption is None:
            continue
        try:
            lost = "".join(splice(base, prompt, tokens).tokens.lost for prompt in prompts)
        except UsageError as err:
            raise ImageError(
                f"caption of {image.name} is too long: {err.what}",
                hint=f"shorten it, or begin it with <{job.name}>",
            ) from err
        if lost:
            yield Note(text=f"{image.name}: the caption is too long for this base model; ignored: {lost}")


def _general(session: Session) -> Generator[Event, None, dict[str, Any]]:
    """General neurons of the base model, cached: they depend only on it and on the calibration prompts."""
    from cnsctl.engine import neurons, training_state

    texts = calibration_texts()
    key = hashlib.sha256(
        "\n".join([session.base.fingerprint, session.device.type, *neurons.general_settings(), *texts]).encode()
    ).hexdigest()
    shapes = session.base.shapes
    cached = session.store.cached(f"general-{key[:24]}")
    found = None if cached is None else training_state.masks_from_bytes(cached, shapes=shapes)
    if found is None:
        count = Count("find general neurons", len(texts) + len(session.base.sites))
        yield count.begin()
        found = yield from count.each(neurons.finding_general_neurons(session.base, texts))
        if is_main():
            session.store.cache(f"general-{key[:24]}", training_state.masks_to_bytes(found))
    # in main memory: at the size of SDXL they take 340 MB
    return {site: mask.cpu() for site, mask in found.items()}
