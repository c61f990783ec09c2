"""Learning and measuring for the benchmarks, each once: what was learned or measured before is read back.

Owns the folder of results; must not know which questions are asked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.learning.selections import SELECTIONS
from cnsctl.bases.folders import POCKET
from cnsctl.data.prompts import parse, render_class
from cnsctl.data.texts import calibration_texts, training_texts
from cnsctl.engine import neurons, train
from cnsctl.engine.concepts import to_concept
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.seeds import fold
from cnsctl.engine.verify import fit_error
from cnsctl.results import Learned
from cnsctl.specs import Delta, LearnSpec, Mode
from cnsctl.store import delta_key, write_atomic
from cnsctl.store.codec import decode_delta, encode_delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base

ROOT = Path(__file__).parents[2]
HELD_OUT = ROOT / "benchmarks/heldout"
CONCEPTS = ROOT / "benchmarks/concepts"
NOISES = (1, 2, 3)
"""Seeds of the noise that errors are taken at: their spread is what a figure is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to learn."""

    selection: str = "CNS"
    """One of SELECTIONS."""
    mode: Mode = Mode.PROMPT
    spec: dict[str, Any] = field(default_factory=dict)
    """Fields of `LearnSpec` that differ from the base's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A held-out picture."""

    caption: str
    concepts: tuple[str, ...]
    kind: str
    latent: torch.Tensor
    """(1, c, h, w)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Error removed, percent, against the bare class words on the base alone; one figure per noise seed."""

    by_noise: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.by_noise))

    @property
    def spread(self) -> float:
        """Standard deviation over noise seeds."""
        return float(np.std(self.by_noise))


class Bench:
    """A base, the pictures, and everything that has been learned or measured so far.

    Args:
        base: loaded.
        folder: the base's own.
        out: folder of results; a later run with the same one goes on where this one stops.
        steps: of every learning, unless a variant says otherwise; None takes the base's default.
        noises: seeds of noise.
    """

    def __init__(
        self,
        base: Base,
        out: Path,
        *,
        folder: Path = POCKET,
        steps: int | None = None,
        noises: tuple[int, ...] = NOISES,
    ) -> None:
        self.base, self.out, self.folder, self.noises = base, out, folder, noises
        self.defaults = {**base.learn_defaults, **({} if steps is None else {"steps": steps})}
        (out / "deltas").mkdir(parents=True, exist_ok=True)
        self._figures = out / "figures.json"
        self._known: dict[str, Any] = json.loads(self._figures.read_text()) if self._figures.is_file() else {}

    @cached_property
    def general(self) -> dict[str, torch.Tensor]:
        return neurons.general_neurons(self.base, calibration_texts())

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """The held-out scenes, as their file has them."""
        found: list[dict[str, Any]] = json.loads((HELD_OUT / "scenes.json").read_text())
        return found

    @cached_property
    def scenes(self) -> list[Scene]:
        latents = self.base.encode_pictures(_pictures([HELD_OUT / one["file"] for one in self.listed]))
        return [
            Scene(caption=one["caption"], concepts=tuple(one["concepts"]), kind=one["kind"], latent=latents[i : i + 1])
            for i, one in enumerate(self.listed)
        ]

    @cached_property
    def class_words(self) -> dict[str, str]:
        """Of everything that is learned here."""
        words = {one["name"]: one["word"] for one in json.loads((CONCEPTS / "concepts.json").read_text())}
        return words | {name: word for one in self.listed for name, word in one["concepts"].items()}

    def scenes_of(self, name: str) -> list[Scene]:
        """Held-out scenes in which a concept stands alone."""
        return [s for s in self.scenes if s.concepts == (name,)]

    def training_scenes(self, name: str) -> list[Scene]:
        """The pictures that it is learned from: what is measured on where nothing was held out."""
        latents = self.training_latents(name)
        return [
            Scene(caption=f"a <{name}>", concepts=(name,), kind=f"training {i}", latent=latents[i : i + 1])
            for i in range(len(latents))
        ]

    def training_latents(self, name: str) -> torch.Tensor:
        return self.base.encode_pictures(training_pixels(name))

    def learned(self, name: str, variant: Variant, before: Sequence[tuple[str, Delta]] = ()) -> Delta:
        """Learn a concept, or read what was learned before.

        Args:
            name: of an example or of a held-out concept.
            variant: how.
            before: in merged: the concepts that it stands on, in order.
        """
        stands_on = list(before) if variant.mode is Mode.MERGED else []
        key = self._key("delta", name, asdict(variant), [delta_key(d) for _, d in stands_on])
        path = self.out / "deltas" / f"{name}-{key}.safetensors"
        if not path.is_file():
            write_atomic(path, encode_delta(self._learn(name, variant, stands_on)))
        return decode_delta(path.read_bytes())

    def overlay(self, concepts: Sequence[tuple[str, Delta]], mode: Mode) -> Overlay:
        return Overlay(mode=mode, concepts={n: to_concept(self.base, d, key=delta_key(d)) for n, d in concepts})

    def removed(
        self, concepts: Sequence[tuple[str, Delta]], mode: Mode, scenes: Sequence[Scene], *, named: Sequence[str] = ()
    ) -> Removed:
        """Error removed on scenes, by a store with these concepts.

        Args:
            concepts: in learning order.
            mode: the store's.
            scenes: what is measured on.
            named: concepts that the prompts name; the others' class words are said. None given: all.
        """
        key = self._key(
            "removed", [(n, delta_key(d)) for n, d in concepts], mode, [(s.caption, s.kind) for s in scenes], named
        )
        if key not in self._known:
            overlay = self.overlay(concepts, mode)
            self._keep(key, [self._removed(overlay, scenes, named, noise) for noise in self.noises])
        return Removed(by_noise=tuple(self._known[key]))

    def _removed(self, overlay: Overlay, scenes: Sequence[Scene], named: Sequence[str], noise: int) -> float:
        said, bare = 0.0, 0.0
        for scene in scenes:
            text = scene.caption
            for name in scene.concepts:
                if named and name not in named:
                    text = text.replace(f"<{name}>", self.class_words[name])
            prompt = parse(text, overlay.concepts)
            seed = fold(noise, scene.caption, scene.kind)
            said += fit_error(self.base, overlay, prompt, scene.latent, noise_seed=seed)
            bare += self._bare(scene, noise, seed)
        return 100 * (1 - said / bare)

    def _bare(self, scene: Scene, noise: int, seed: int) -> float:
        """Error of the base alone with the bare class words."""
        key = self._key("bare", scene.caption, scene.kind, noise)
        if key not in self._known:
            text = render_class(parse(scene.caption, scene.concepts), self.class_words)
            self._known[key] = fit_error(self.base, EMPTY, parse(text, ()), scene.latent, noise_seed=seed)
        return float(self._known[key])

    def _learn(self, name: str, variant: Variant, before: Sequence[tuple[str, Delta]]) -> Delta:
        latents = self.training_latents(name)
        masks = {n: {s: torch.from_numpy(np.asarray(i, np.int64)) for s, i in d.indices.items()} for n, d in before}
        job = train.Job(
            name=name,
            class_word=self.class_words[name],
            latents=latents,
            texts=[training_texts(name)] * len(latents),
            spec=LearnSpec(**{**self.defaults, **variant.spec}),
            mode=variant.mode,
            prior=self.overlay(before, variant.mode) if before else EMPTY,
            general=self.general,
            others={n: {s: i.to(self.base.device) for s, i in m.items()} for n, m in masks.items()},
        )
        *_, last = train.learn(self.base, job, choose=SELECTIONS[variant.selection])
        assert isinstance(last, Learned)
        return last.delta

    def _key(self, *parts: Any) -> str:
        """Names a result: of these weights, these settings and these parts."""
        whole = [self.base.weights_hash, self.base.fingerprint, str(self.base.dtype), self.defaults, self.noises, parts]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:20]

    def _keep(self, key: str, value: Any) -> None:
        self._known[key] = value
        write_atomic(self._figures, json.dumps(self._known).encode())


def training_pixels(name: str) -> NDArray[np.uint8]:
    """The pictures (5, h, w, 3) that a concept is learned from."""
    folder = CONCEPTS / name if (CONCEPTS / name).is_dir() else ROOT / "examples" / name
    return _pictures(sorted(folder.glob("*.png")))


def varied(variant: Variant, **spec: Any) -> Variant:
    """The same with other settings of learning."""
    return replace(variant, spec={**variant.spec, **spec})


def _pictures(paths: Sequence[Path]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
