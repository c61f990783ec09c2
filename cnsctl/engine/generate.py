"""Generating images from prompts with seeds, a batch at a time.

Owns batching and the reuse of K and V between images of one prompt; must not know files or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cnsctl.bases.protocol import TextFeatures, TextOptions
from cnsctl.concept import Mode, Prompt
from cnsctl.engine.overlay import EMPTY, Overlay, joined, stacked, text_keys_values, without_text
from cnsctl.engine.recent import Recent
from cnsctl.errors import CnsctlError
from cnsctl.events import Denoised

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base
    from cnsctl.settings import GenerateSettings

NO_TEXT = Prompt(text="", pieces=("",))
"""The negative prompt if none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One image. Its noise comes from its own CPU generator, seeded with `seed`."""

    prompt: Prompt
    seed: int
    negative: Prompt = NO_TEXT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """The image of a request."""

    request: Request
    pixels: NDArray[np.uint8] | None
    """(h, w, 3); None if the latents contain NaN or Inf."""
    beside: int
    """Images of its batch, itself included."""


Encoded = tuple[TextFeatures, dict[str, torch.Tensor]]
"""The features of a text, (1, …), and its K and V, (1, t, rows) per site."""


class Texts:
    """Features, K and V of the last few texts: computed once per text, for any number of images.

    The key contains the identity of the deltas that act: if one is replaced meanwhile, the text is computed again.
    """

    def __init__(self, base: Base, settings: GenerateSettings, *, batch: int = 1) -> None:
        self.base = base
        self.options = TextOptions(clip_skip=settings.clip_skip, long_prompts=settings.long_prompts)
        self.recent: Recent[Encoded] = Recent(max(8, 2 * batch))

    def read_together(self, overlay: Overlay, positive: Sequence[Prompt], negative: Sequence[Prompt]) -> list[Encoded]:
        """The negative prompts, then the prompts, all of one length."""
        prompts = [*negative, *positive]
        chunks = max((overlay.splice(self.base, p, self.options).tokens.chunks for p in prompts), default=1)
        empty = without_text(self.base, chunks) if any(not p.text for p in negative) else None
        first = [self._read(overlay, p, chunks) if p.text or empty is None else empty for p in negative]
        return first + [self._read(overlay, p, chunks) for p in positive]

    def _read(self, overlay: Overlay, prompt: Prompt, chunks: int) -> Encoded:
        named = [m.name for m in prompt.mentions]
        acting = tuple(
            (n, overlay.concepts[n].key) for n in (overlay.concepts if overlay.mode is Mode.MERGED else named)
        )
        return self.recent.get(
            (overlay.mode, prompt, acting, chunks),
            lambda: text_keys_values(
                self.base, overlay, overlay.splice(self.base, prompt, self.options, chunks=chunks)
            ),
        )


def generate_images(
    base: Base, overlay: Overlay, requests: Iterable[Request], settings: GenerateSettings, *, batch: int = 1
) -> Iterator[tuple[Request, NDArray[np.uint8]]]:
    """Generate requests in order, `batch` at a time; yields each image, (h, w, 3) uint8, as soon as it is done.

    Raises:
        CnsctlError: the latents of an image contain NaN or Inf.
    """
    for event in generation(Texts(base, settings, batch=batch), overlay, requests, settings, batch=batch):
        if isinstance(event, Image):
            if event.pixels is None:
                raise not_finite(settings)
            yield event.request, event.pixels


def generation(
    texts: Texts, overlay: Overlay, requests: Iterable[Request], settings: GenerateSettings, *, batch: int = 1
) -> Iterator[Denoised | Image]:
    """Generate requests in order, `batch` at a time: yields a `Denoised` per step of a batch, then its images.

    Rows of one batch may use different concepts. A prompt and its negative prompt each use the concepts that they name.
    """
    base, guided = texts.base, settings.guidance_scale > 1
    pending = iter(requests)
    while group := list(islice(pending, batch)):
        # the negative half first, as in the stock pipeline; cast once per image, not once per step
        found = texts.read_together(overlay, [r.prompt for r in group], [r.negative for r in group] if guided else [])
        keys_values = {s: x.to(base.dtype) for s, x in stacked([kv for _, kv in found]).items()}
        features = joined([text for text, _ in found])
        samples = base.sample(settings, [torch.Generator().manual_seed(r.seed) for r in group])
        while True:
            with base.bind(keys_values, features):
                # for this step only: between two steps another caller may use the base model
                sample = next(samples, None)
            if sample is None:
                break
            latents = sample.latents
            yield Denoised(step=sample.step, total=sample.total, images=len(group))
        for request, z in zip(group, latents, strict=True):
            pixels = base.decode_latents(z) if bool(torch.isfinite(z).all()) else None
            yield Image(request=request, pixels=pixels, beside=len(group))


def fitting_batch(base: Base, settings: GenerateSettings, *, most: int) -> int:
    """How many images fit into the memory of the device: halved until a denoising step of a batch succeeds."""
    from cnsctl.bases.fitting import halved

    text, kv = text_keys_values(base, EMPTY, EMPTY.splice(base, NO_TEXT))
    texts_per_image = 2 if settings.guidance_scale > 1 else 1

    def attempt(batch: int) -> None:
        n = texts_per_image * batch
        keys_values = {s: x.to(base.dtype) for s, x in stacked([kv] * n).items()}
        with base.bind(keys_values, joined([text] * n)):
            next(iter(base.sample(settings, [torch.Generator().manual_seed(i) for i in range(batch)])))

    return halved(attempt, most)


def not_finite(settings: GenerateSettings) -> CnsctlError:
    """The error for an image without pixels."""
    return CnsctlError(
        f"latents contain NaN or Inf (sampler {settings.sampler}, {settings.steps} steps, guidance scale "
        f"{settings.guidance_scale:g})",
        hint="use more steps, another sampler, or fp32",
        reason="not-finite",
    )
