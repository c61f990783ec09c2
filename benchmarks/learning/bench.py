"""Training, measuring and generating for the benchmarks, each once: earlier results are read from files.

Owns the folder of results; must not know the questions.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.learning.selections import SELECTIONS
from cnsctl.api import Run
from cnsctl.bases.base_folder import POCKET
from cnsctl.concept import DEFAULT_MODE, Delta, Mode
from cnsctl.data.png import png_bytes, png_pixels
from cnsctl.data.prompt_grammar import parse
from cnsctl.data.prompt_templates import calibration_texts, training_texts
from cnsctl.engine import neurons, train
from cnsctl.engine.concepts import to_concept
from cnsctl.engine.denoising_error import denoising_errors
from cnsctl.engine.generate import generate_images
from cnsctl.engine.job import Job
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.seeds import fold
from cnsctl.formats import delta as delta_file
from cnsctl.settings import TrainSettings
from cnsctl.store import delta_key, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.generate import Request

ROOT = Path(__file__).parents[2]
HELD_OUT = ROOT / "benchmarks/heldout"
CONCEPTS = ROOT / "benchmarks/concepts"
HARDER = ROOT / "benchmarks/harder"
"""The dog and the hat of the five."""
NOISES = (1, 2, 3)
"""Noise seeds of the errors; their spread is the uncertainty of a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to train."""

    selection: str = "CNS"
    """One of SELECTIONS."""
    mode: Mode = DEFAULT_MODE
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of `TrainSettings` that differ from the base model's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A held-out image."""

    caption: str
    concepts: tuple[str, ...]
    kind: str
    described: dict[str, str]
    """By concept: the most detailed description in words; empty if there is none."""
    latent: torch.Tensor
    """(1, c, h, w)."""

    @property
    def key(self) -> list[str]:
        """Identifies it in a key."""
        return [self.caption, hashlib.sha256(self.latent.numpy().tobytes()).hexdigest()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Removed:
    """Error removed, percent, compared with the class words on the base model alone."""

    said: NDArray[np.float64]
    """Error with the prompts, summed over scenes: (noise seeds, noise levels)."""
    bare: NDArray[np.float64]
    """The same with the class words on the base model alone."""

    @property
    def by_noise(self) -> tuple[float, ...]:
        """One figure per noise seed."""
        return tuple((100 * (1 - self.said.sum(1) / self.bare.sum(1))).tolist())

    @property
    def by_level(self) -> tuple[float, ...]:
        """One figure per noise level (`denoising_error.TIMES`), over all noise seeds."""
        return tuple((100 * (1 - self.said.sum(0) / self.bare.sum(0))).tolist())

    @property
    def mean(self) -> float:
        return float(np.mean(self.by_noise))

    @property
    def spread(self) -> float:
        """Standard deviation over noise seeds."""
        return float(np.std(self.by_noise, ddof=1)) if len(self.by_noise) > 1 else 0.0


class Bench:
    """A base model, the images, and everything that was trained, measured or generated so far.

    Args:
        base: loaded.
        folder: of the base model.
        out: folder of results; a later run continues where this one stops.
        steps: of each training run whose variant sets none; None for the base model's default.
        noises: noise seeds.
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
        self.defaults = {**base.train_defaults, **({} if steps is None else {"steps": steps})}
        for folder_of in ("deltas", "images"):
            (out / folder_of).mkdir(parents=True, exist_ok=True)
        self._figures = out / "figures.jsonl"
        self._known = _read(self._figures)
        self._latents: dict[str, torch.Tensor] = {}

    @cached_property
    def general(self) -> dict[str, torch.Tensor]:
        return neurons.general_neurons(self.base, calibration_texts())

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """The held-out scenes, as in their file."""
        found: list[dict[str, Any]] = json.loads((HELD_OUT / "scenes.json").read_text())
        return found

    @cached_property
    def scenes(self) -> list[Scene]:
        latents = self.base.encode_images(_pixels([HELD_OUT / one["file"] for one in self.listed]))
        return [
            Scene(
                caption=one["caption"],
                concepts=tuple(one["concepts"]),
                kind=one["kind"],
                described=one["described"],
                latent=latents[i : i + 1],
            )
            for i, one in enumerate(self.listed)
        ]

    @cached_property
    def catalogue(self) -> list[dict[str, str]]:
        """The held-out concepts, from easy to hard."""
        found: list[dict[str, str]] = json.loads((CONCEPTS / "concepts.json").read_text())
        return found

    @cached_property
    def class_words(self) -> dict[str, str]:
        """The class word of each concept."""
        words = {one["name"]: one["word"] for one in self.catalogue}
        return words | {name: word for one in self.listed for name, word in one["concepts"].items()}

    @cached_property
    def bare(self) -> dict[str, str]:
        """By concept: the class word with its article, as in captions."""
        return {name: f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for name, word in self.class_words.items()}

    @cached_property
    def described(self) -> dict[str, str]:
        """By concept: the most detailed description in words, such as `a blue and orange fox`."""
        return {name: words for one in self.listed for name, words in one["described"].items()}

    def scenes_of(self, name: str) -> list[Scene]:
        """Held-out scenes that show one concept alone."""
        return [s for s in self.scenes if s.concepts == (name,)]

    def pixels_of(self, scenes: Sequence[Scene]) -> NDArray[np.uint8]:
        """The images (n, h, w, 3) of held-out scenes."""
        files = {(one["caption"], one["kind"]): HELD_OUT / one["file"] for one in self.listed}
        return _pixels([files[s.caption, s.kind] for s in scenes])

    def training_scenes(self, name: str) -> list[Scene]:
        """The training images as scenes, for concepts without held-out scenes."""
        latents = self.training_latents(name)
        return [
            Scene(
                caption=f"a <{name}>", concepts=(name,), kind=f"training {i}", described={}, latent=latents[i : i + 1]
            )
            for i in range(len(latents))
        ]

    def training_latents(self, name: str) -> torch.Tensor:
        if name not in self._latents:
            self._latents[name] = self.base.encode_images(training_pixels(name))
        return self._latents[name]

    def trained(self, name: str, variant: Variant, before: Sequence[tuple[str, Delta]] = ()) -> Delta:
        """Train a concept, or read the delta of an earlier run.

        Args:
            name: of one of the five or of a held-out concept.
            variant: how to train it.
            before: in merged mode, the earlier concepts in order.
        """
        job = self._job(name, variant, list(before) if variant.mode is Mode.MERGED else [])
        path = self._path(job, variant)
        if not path.is_file():
            trained = Run(train.train(self.base, job, choose=SELECTIONS[variant.selection])).result()
            write_atomic(path, delta_file.write(trained.delta))
        return delta_file.read(path.read_bytes())

    def _path(self, job: Job, variant: Variant) -> Path:
        """File of a delta, named by everything that it depends on: images, texts, settings, versions."""
        key = self._key("delta", job.name, variant.selection, train.hash_of(self.base, job))
        return self.out / "deltas" / f"{job.name}-{key}.safetensors"

    def overlay(self, concepts: Sequence[tuple[str, Delta]], mode: Mode) -> Overlay:
        return Overlay(mode=mode, concepts={n: to_concept(self.base, d, key=delta_key(d)) for n, d in concepts})

    def removed(
        self, concepts: Sequence[tuple[str, Delta]], mode: Mode, scenes: Sequence[Scene], *, named: Sequence[str] = ()
    ) -> Removed:
        """Error removed on scenes, by a store with these concepts.

        Args:
            concepts: in training order.
            mode: the store's.
            scenes: on which the error is measured.
            named: concepts that the prompts name; for the others they contain the class word. Empty: all.
        """
        words = {n: w for n, w in self.bare.items() if named and n not in named}
        return self._removed(self.overlay(concepts, mode), scenes, [said(s, words) for s in scenes])

    def prompt_only(self, scenes: Sequence[Scene], *, named: Sequence[str] = ()) -> Removed:
        """The prompt-only baseline: error removed by the most detailed prompt, without training.

        Args:
            scenes: on which the error is measured.
            named: concepts that the prompt describes; for the others it contains the class word. Empty: all.
        """
        words = {n: w for n, w in self.bare.items() if named and n not in named}
        return self._removed(EMPTY, scenes, [said(s, {**s.described, **words}) for s in scenes])

    def images(self, overlay: Overlay, requests: Sequence[Request], *, batch: int = 4) -> list[NDArray[np.uint8]]:
        """Images (h, w, 3) with the base model's defaults; each is generated once."""
        paths = [self._image_path(overlay, request) for request in requests]
        missing = [(r, path) for r, path in zip(requests, paths, strict=True) if not path.is_file()]
        new = generate_images(self.base, overlay, [r for r, _ in missing], self.base.generate_defaults, batch=batch)
        for (_, pixels), (_, path) in zip(new, missing, strict=True):
            write_atomic(path, png_bytes(pixels))
        return [png_pixels(path.read_bytes()) for path in paths]

    def _image_path(self, overlay: Overlay, request: Request) -> Path:
        how = [request.prompt.text, request.negative.text, request.seed, asdict(self.base.generate_defaults)]
        return self.out / "images" / f"{self._key('image', *_known_as(overlay), *how)}.png"

    def _removed(self, overlay: Overlay, scenes: Sequence[Scene], texts: Sequence[str]) -> Removed:
        plain = [said(s, self.bare) for s in scenes]
        with_, without = (
            np.array([self._errors(by, scenes, of, noise) for noise in self.noises])
            for by, of in ((overlay, texts), (EMPTY, plain))
        )
        return Removed(said=with_, bare=without)

    def _errors(
        self, overlay: Overlay, scenes: Sequence[Scene], texts: Sequence[str], noise: int
    ) -> NDArray[np.float64]:
        """Errors per noise level, summed over scenes; each scene is measured once."""
        found = []
        for scene, text in zip(scenes, texts, strict=True):
            key = self._key("errors", *_known_as(overlay), scene.key, text, noise)
            if key not in self._known:
                seed = fold(noise, scene.caption, scene.kind)
                prompt = parse(text, overlay.concepts)
                self._keep(key, denoising_errors(self.base, overlay, prompt, scene.latent, noise_seed=seed))
            found.append(self._known[key])
        summed: NDArray[np.float64] = np.asarray(found, np.float64).sum(0)
        return summed

    def _keep(self, key: str, value: Sequence[float]) -> None:
        """Append one line: several runs may share a folder, and an incomplete line does not damage the others."""
        self._known[key] = list(value)
        with self._figures.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([key, value]))

    def _job(self, name: str, variant: Variant, before: Sequence[tuple[str, Delta]]) -> Job:
        """The job of a training run; `before` are the earlier concepts."""
        settings = TrainSettings(**{**self.defaults, **variant.settings})
        if variant.mode is not Mode.MERGED:  # these act in merged mode only
            settings = replace(settings, lambda_prev=0.0, lambda_base=0.0)
        latents = self.training_latents(name)
        masks = [{s: torch.from_numpy(np.asarray(i, np.int64)) for s, i in d.indices.items()} for _, d in before]
        return Job(
            name=name,
            class_word=self.class_words[name],
            latents=latents,
            texts=[training_texts(name)] * len(latents),
            settings=settings,
            mode=variant.mode,
            prior=self.overlay(before, variant.mode) if before else EMPTY,
            general=self.general,
            owned=neurons.packed(self.base, masks),
        )

    def _key(self, *parts: Any) -> str:
        """The key of a result: a hash of the weights and the parts."""
        whole = [self.base.part_hashes, self.base.fingerprint, str(self.base.dtype), parts]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:20]


def _known_as(overlay: Overlay) -> tuple[list[tuple[str, str]], str]:
    """Identifies an overlay in a key."""
    return [(name, concept.key) for name, concept in overlay.concepts.items()], str(overlay.mode)


def training_pixels(name: str) -> NDArray[np.uint8]:
    """The images (5, h, w, 3) that a concept is trained on."""
    folder = next(f / name for f in (CONCEPTS, HARDER, ROOT / "examples") if (f / name).is_dir())
    return _pixels(sorted(folder.glob("*.png")))


def varied(variant: Variant, **settings: Any) -> Variant:
    """The same variant with other training settings."""
    return replace(variant, settings={**variant.settings, **settings})


def _read(figures: Path) -> dict[str, list[float]]:
    known = {}
    for line in figures.read_text(encoding="utf-8").splitlines() if figures.is_file() else []:
        with suppress(ValueError):
            key, value = json.loads(line)
            known[key] = value
    return known


def said(scene: Scene, words: Mapping[str, str]) -> str:
    """Its caption with words, including the article, instead of the concepts that have words."""
    text = scene.caption
    for name, word in words.items():
        text = text.replace(f"a <{name}>", word)
    return text


def _pixels(paths: Sequence[Path]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
