"""Generating: prompts with seeds in, images out, a batch at a time.

Owns batching and the reuse of K and V between images of one prompt; must not know files or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cnsctl.bases.attention import bound
from cnsctl.concept import Mode, Prompt
from cnsctl.engine.overlay import Overlay, stacked, text_keys_values
from cnsctl.engine.recent import Recent
from cnsctl.errors import CnsctlError
from cnsctl.events import Denoised

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base
    from cnsctl.settings import GenerateSettings

NO_TEXT = Prompt(text="", pieces=("",))
"""The negative prompt of guidance, when none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One image: its noise comes from its own CPU generator, seeded with `seed`."""

    prompt: Prompt
    seed: int
    negative: Prompt = NO_TEXT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """A request that is done."""

    request: Request
    pixels: NDArray[np.uint8] | None
    """(h, w, 3); None where the latents are not finite."""


class Texts:
    """X, K and V of the last few texts: computed once per text, however many images are generated of it.

    A text is known by the bytes of the deltas that act on it: one that was replaced meanwhile is computed again.
    """

    def __init__(self, base: Base, *, batch: int = 1) -> None:
        self.base = base
        self.recent: Recent[tuple[torch.Tensor, dict[str, torch.Tensor]]] = Recent(max(8, 2 * batch))

    def read(self, overlay: Overlay, prompt: Prompt) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        named = [m.name for m in prompt.mentions]
        acting = tuple(
            (n, overlay.concepts[n].key) for n in (overlay.concepts if overlay.mode is Mode.MERGED else named)
        )
        return self.recent.get(
            (overlay.mode, prompt, acting),
            lambda: text_keys_values(self.base, overlay, overlay.splice(self.base, prompt)),
        )


def draw(
    base: Base, overlay: Overlay, requests: Iterable[Request], settings: GenerateSettings, *, batch: int = 1
) -> Iterator[tuple[Request, NDArray[np.uint8]]]:
    """Generate requests in order, `batch` at a time; each image as soon as it is done, (h, w, 3) uint8.

    Raises:
        CnsctlError: the latents of one are not finite.
    """
    for event in drawing(Texts(base, batch=batch), overlay, requests, settings, batch=batch):
        if isinstance(event, Image):
            if event.pixels is None:
                raise not_finite(settings)
            yield event.request, event.pixels


def drawing(
    texts: Texts, overlay: Overlay, requests: Iterable[Request], settings: GenerateSettings, *, batch: int = 1
) -> Iterator[Denoised | Image]:
    """Generate requests in order, `batch` at a time: a `Denoised` per step of a batch, then its images.

    Rows of one batch may use different concepts. Prompt and negative prompt each read the concepts they name themselves.
    """
    base, guided = texts.base, settings.guidance_scale > 1
    pending = iter(requests)
    while group := list(islice(pending, batch)):
        positive = [texts.read(overlay, r.prompt) for r in group]
        negative = [texts.read(overlay, r.negative) for r in group] if guided else []
        # the negative half first, as the stock pipeline has it; cast once per image, not once per step
        keys_values = {s: x.to(base.dtype) for s, x in stacked([kv for _, kv in negative + positive]).items()}
        samples = base.sample(
            torch.cat([X for X, _ in negative + positive]),
            settings,
            [torch.Generator().manual_seed(r.seed) for r in group],
        )
        while True:
            with bound(base, keys_values):  # for this step alone: between two steps the base may serve another caller
                sample = next(samples, None)
            if sample is None:
                break
            latents = sample.latents
            yield Denoised(step=sample.step, total=sample.total)
        for request, z in zip(group, latents, strict=True):
            yield Image(request=request, pixels=base.decode_latents(z) if bool(torch.isfinite(z).all()) else None)


def not_finite(settings: GenerateSettings) -> CnsctlError:
    """The error of an image without pixels."""
    return CnsctlError(
        f"latents contain NaN or Inf (sampler {settings.sampler}, {settings.steps} steps, guidance scale "
        f"{settings.guidance_scale:g})",
        hint="use other steps, another sampler, or fp32",
        reason="not-finite",
    )
