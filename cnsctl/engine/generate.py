"""Drawing: prompts with seeds in, pictures out, a batch at a time.

Owns batching and the reuse of K and V between pictures of one prompt; must not know files or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cnsctl.engine.overlay import Overlay, bound, stacked, text_keys_values
from cnsctl.specs import DrawSpec, Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base

NO_TEXT = Prompt(text="", pieces=("",))
"""The negative prompt of guidance, when none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One picture: its noise comes from its own CPU generator, seeded with `seed`."""

    prompt: Prompt
    seed: int
    negative: Prompt = NO_TEXT


def draw(
    base: Base,
    overlay: Overlay,
    requests: Iterable[Request],
    spec: DrawSpec,
    *,
    batch: int = 1,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Request, NDArray[np.uint8]]]:
    """Draw requests in order, `batch` at a time; each picture as soon as it is done, (h, w, 3) uint8.

    Rows of one batch may use different concepts. Prompt and negative prompt each read the concepts they name themselves.
    """
    texts = _Texts(base, overlay, keep=max(8, 2 * batch))
    guided = spec.guidance > 1
    pending = iter(requests)
    while group := list(islice(pending, batch)):
        positive = [texts.read(r.prompt) for r in group]
        negative = [texts.read(r.negative) for r in group] if guided else []
        generators = [torch.Generator().manual_seed(r.seed) for r in group]
        with bound(base, stacked([kv for _, kv in negative + positive])):  # the pipeline puts the negative half first
            pictures = base.sample(
                torch.cat([X for X, _ in positive]),
                torch.cat([X for X, _ in negative]) if guided else None,
                spec,
                generators,
                on_step,
            )
        yield from zip(group, pictures, strict=True)


class _Texts:
    """K and V of the last few texts: computed once per prompt, however many pictures are drawn of it."""

    def __init__(self, base: Base, overlay: Overlay, *, keep: int) -> None:
        self.base, self.overlay, self.keep = base, overlay, keep
        self.known: dict[Prompt, tuple[torch.Tensor, dict[str, torch.Tensor]]] = {}

    def read(self, prompt: Prompt) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found = self.known.pop(prompt, None)
        if found is None:
            found = text_keys_values(self.base, self.overlay, self.overlay.splice(self.base, prompt))
        self.known[prompt] = found
        while len(self.known) > self.keep:
            del self.known[next(iter(self.known))]
        return found
