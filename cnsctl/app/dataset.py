"""From pictures and a request to a job for the engine: latents, texts, general neurons, what it stands on.

Owns what of it is cached; must not know terminals or formulas.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cnsctl.data.prompt_templates import calibration_texts, caption_prompt, training_texts
from cnsctl.errors import PictureProblem, UsageProblem
from cnsctl.results import Note
from cnsctl.specs import LearnSpec, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch

    from cnsctl.app.requests import AddRequest
    from cnsctl.app.session import Session
    from cnsctl.bases.protocol import Base
    from cnsctl.data.images import Picture
    from cnsctl.engine.trainer import Job


def make_job(
    session: Session,
    request: AddRequest,
    class_word: str,
    pictures: Sequence[Picture],
    latents_file: Path | None = None,
) -> Job:
    """The job of learning from these pictures, less those that the request holds out."""
    from cnsctl.engine.trainer import Job

    base, store = session.base, session.store
    pictures = pictures[: len(pictures) - request.holdout]
    return Job(
        name=request.name,
        class_word=class_word,
        latents=_latents(session, pictures, latents_file),
        texts=[_texts_of(request.name, class_word, p) for p in pictures],
        spec=LearnSpec(**{**base.learn_defaults, **request.settings}),
        mode=store.mode,
        prior=session.prior(request.name),
        general=_general(session),
        owned=store.index.owned(store.snapshot(), besides=request.name),
    )


def _latents(session: Session, pictures: Sequence[Picture], file: Path | None) -> torch.Tensor:
    """Latents of the pictures; kept with the work, so that a resumed run stands on the very same ones."""
    import numpy as np

    from cnsctl.engine import training_state
    from cnsctl.store import write_atomic

    pixels = np.stack([p.pixels for p in pictures])
    key = hashlib.sha256(
        f"{session.base.fingerprint}{session.base.weights_hash}{session.device}{session.dtype}".encode()
    )
    key.update(pixels.tobytes())
    if file is not None and file.is_file():
        kept = training_state.latents_from_bytes(file.read_bytes(), key=key.hexdigest())
        if kept is not None:
            return kept
    found = session.base.encode_pictures(pixels)
    if file is not None:
        write_atomic(file, training_state.latents_to_bytes(found, key=key.hexdigest()))
    return found


def _texts_of(name: str, class_word: str, picture: Picture) -> tuple[Prompt, ...]:
    if picture.caption is None:
        return training_texts(name)
    return (caption_prompt(name, class_word, picture.caption),)


def long_captions(base: Base, job: Job, pictures: Sequence[Picture]) -> Iterator[Note]:
    """Say of every caption that is learned from and longer than the base reads what of it is lost.

    Raises:
        PictureProblem: the concept itself does not fit.
    """
    from cnsctl.engine.prompt_tokens import Token, splice

    tokens = {job.name: Token(class_word=job.class_word, n_vectors=job.spec.vectors)}
    for picture, prompts in zip(pictures, job.texts, strict=False):  # those held out come last, and have no texts
        if picture.caption is None:
            continue
        try:
            lost = "".join(splice(base, prompt, tokens).lost for prompt in prompts)
        except UsageProblem as err:
            raise PictureProblem(
                f"the caption of {picture.name} is too long: {err.what}",
                hint=f"shorten its .txt, or begin it with <{job.name}>",
            ) from err
        if lost:
            yield Note(text=f"{picture.name}: its caption is too long for this base, which does not read: {lost}")


def _general(session: Session) -> dict[str, Any]:
    """General neurons of the base, cached: they depend on the base and the calibration prompts alone."""
    from cnsctl.engine import neurons, training_state

    texts = calibration_texts()
    key = hashlib.sha256(
        "\n".join([session.base.fingerprint, session.device.type, *neurons.general_settings(), *texts]).encode()
    ).hexdigest()
    shapes = {site: tuple(W.shape) for site, W in session.base.sites.items()}
    cached = session.store.cached(f"general-{key[:24]}")
    found = None if cached is None else training_state.masks_from_bytes(cached, shapes=shapes)
    if found is None:
        found = neurons.general_neurons(session.base, texts)
        session.store.cache(f"general-{key[:24]}", training_state.masks_to_bytes(found))
    return {site: mask.to(session.base.device) for site, mask in found.items()}
