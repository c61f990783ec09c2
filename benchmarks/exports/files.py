"""Writing trained concepts as files of other programs.

Owns what is exported in which way; must not know what reads the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl.data.lora_prompts import calibration_prompts, measured_prompts
from cnsctl.engine import feature_moments, lora_fit
from cnsctl.engine.lora_effect import Effect, Measured, difference
from cnsctl.engine.overlay import site_weight
from cnsctl.formats import diff, embedding, lora, lora_exact, tensor_file
from cnsctl.formats.contents import Factors, Outgoing, SiteWeights

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base
    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.feature_moments import Moments

LORA, EXACT, DIFF, EMBEDDING = "lora", "lora-exact", "diff", "embedding"
WRITERS: Mapping[str, Any] = {LORA: lora, EXACT: lora_exact, DIFF: diff, EMBEDDING: embedding}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a LoRA is fitted."""

    rank: int = lora_fit.RANK
    leak: float = lora_fit.LEAK
    frame: float = lora_fit.FRAME_SHARE
    naming: int | None = None
    """Calibration prompts that name the concept, and as many others; None for the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One or several concepts as files."""

    concepts: tuple[str, ...]
    embeddings: tuple[Path, ...]
    """A file per concept."""
    weights: tuple[Path, ...] = ()
    """None for the embeddings alone."""
    format: str = EMBEDDING
    effect: Effect | None = None
    """Of a fitted LoRA of one concept."""
    scale: float = 1.0
    """At which the weights are loaded."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in (*self.embeddings, *self.weights))


@dataclass(slots=True, kw_only=True)
class Exporter:
    """Writes concepts of one base model into a folder."""

    base: Base
    folder: Path
    concepts: Mapping[str, Concept]
    _moments: dict[tuple[str, ...], tuple[Moments, Moments]] = field(default_factory=dict)

    def embedding(self, *names: str) -> Written:
        """The token embeddings alone."""
        return Written(concepts=names, embeddings=tuple(self._write(EMBEDDING, n, self._outgoing(n)) for n in names))

    def exact(self, *names: str, format: str = EXACT, scale: float = 1.0) -> Written:  # noqa: A002
        """The whole differences, one file per concept."""
        found = tuple(self._write(format, name, self._outgoing(name)) for name in names)
        return Written(
            concepts=names,
            embeddings=self.embedding(*names).embeddings,
            weights=found,
            format=format,
            scale=scale,
        )

    def lora(self, *names: str, way: Way | None = None, together: bool = False) -> Written:
        """Fitted LoRAs: one file per concept, or one of all."""
        how = way or Way()
        groups = (names,) if together else tuple((name,) for name in names)
        found, effect = [], None
        for group in groups:
            factors, effect = self.fitted(group, how)
            label = f"{'-'.join(group)}-{how.rank}-{how.leak:g}-{how.frame:g}-{how.naming}"
            found.append(self._write(LORA, label, self._outgoing(*group, factors=factors.__getitem__)))
        return Written(
            concepts=names,
            embeddings=self.embedding(*names).embeddings,
            weights=tuple(found),
            format=LORA,
            effect=effect if len(names) == 1 else None,
        )

    def fitted(self, names: Sequence[str], way: Way) -> tuple[dict[str, Factors], Effect]:
        """As `engine.lora_effect.fitting`, with other settings, and the moments computed once."""
        fit_on, measured_on = self.moments(tuple(names), way.naming)
        target = lora_fit.target(fit_on, leak=way.leak, frame=way.frame)
        measured, factors = Measured(measured_on), {}
        for site in self.base.sites:
            changes = {name: difference(self.base, self.concepts[name], site) for name in names}
            factors[site] = lora_fit.fit(changes, target, way.rank)
            measured.add(changes, factors[site])
        return factors, measured.effect()

    def moments(self, names: tuple[str, ...], naming: int | None) -> tuple[Moments, Moments]:
        """Of the calibration prompts, and of the measured ones."""
        key = (*names, str(naming))
        if key not in self._moments:
            own = {name: self.concepts[name] for name in names}
            size = {} if naming is None else {"naming": naming, "others": naming}
            fit_on = [p for n, c in own.items() for p in calibration_prompts(n, c.class_word, **size)]
            measured_on = [p for n, c in own.items() for p in measured_prompts(n, c.class_word)]
            self._moments[key] = (
                feature_moments.second_moments(self.base, own, fit_on),
                feature_moments.second_moments(self.base, own, measured_on),
            )
        return self._moments[key]

    def _outgoing(self, *names: str, factors: Callable[[str], Factors] | None = None) -> Outgoing:
        concepts = [self.concepts[name] for name in names]

        def site(name: str) -> SiteWeights:
            W = self.base.sites[name]
            after = site_weight(W, name, [(concept, 1.0) for concept in concepts])
            return SiteWeights(before=W.cpu().numpy(), after=after.cpu().numpy())

        first = concepts[0]
        return Outgoing(
            family=self.base.family,
            width=next(iter(self.base.shapes.values()))[1],
            prediction="v_prediction",
            resolution=(self.base.size, self.base.size),
            shapes=self.base.shapes,
            site=site,
            factors=factors,
            vectors={e: v.cpu().numpy().astype(np.float16) for e, v in first.vectors.items()},
            token=f"<{names[0]}>",
            class_word=first.class_word,
        )

    def _write(self, format: str, label: str, concept: Outgoing) -> Path:  # noqa: A002
        path = self.folder / f"{label}-{format}.safetensors"
        writer = WRITERS[format]
        with torch.no_grad(), path.open("wb") as file:
            tensor_file.write(file, writer.tensors(concept), writer.metadata(concept))
        return path
