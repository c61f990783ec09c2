"""What is exported in which ways and measured; each function gives the rows of one table.

Owns the comparisons; must not know how a page looks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.exports.files import DIFF, Exporter, Way, Written
from benchmarks.exports.stock import Asked, Stock, psnr
from benchmarks.learning.bench import Bench, Scene, said
from benchmarks.learning.pairs import by_pair, title
from benchmarks.learning.rows import elsewhere
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.data.png import png_bytes, png_pixels
from cnsctl.data.prompt_grammar import parse
from cnsctl.data.prompt_templates import base_probe_texts
from cnsctl.engine.generate import Request
from cnsctl.engine.seeds import fold
from cnsctl.store import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnsctl.concept import Delta

RANKS = (1, 2, 4, 8, 16, 32)
LEAKS = (1.0, 5.0, 10.0, 20.0, 50.0)
FRAMES = (0.0, 0.8)
NAMINGS = (16, 64)
NOISE = 1
"""Noise seed of all errors: every row has the same noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of a table."""

    name: str
    removed: Mapping[str, float] = field(default_factory=dict)
    """Error removed in percent, per concept or pair."""
    kept: float | None = None
    leak: float | None = None
    leak_frame: float | None = None
    bytes: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """Other columns."""

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.removed.values())))


class Measured:
    """Trained concepts, their files, and the stock pipeline that reads them; figures are kept in a file.

    Args:
        bench: of the concepts, with their held-out scenes.
        trained: by name.
        folder: of the files.
        n_scenes: held-out scenes of a concept or pair that are used at most.
    """

    def __init__(self, bench: Bench, trained: Mapping[str, Delta], folder: Path, *, n_scenes: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bench, self.trained, self.n_scenes = bench, trained, n_scenes
        overlay = bench.overlay(list(trained.items()), DEFAULT_MODE)
        self.exporter = Exporter(base=bench.base, folder=folder, concepts=overlay.concepts)
        self.stock = Stock(bench.folder, bench.base)
        self._images = folder / "images"
        self._images.mkdir(exist_ok=True)
        self._figures = folder / "figures.jsonl"
        self._known: dict[str, list[float]] = {}
        for line in self._figures.read_text(encoding="utf-8").splitlines() if self._figures.is_file() else []:
            with suppress(ValueError):  # the last line of a run that was stopped
                self._known.update([json.loads(line)])

    def scenes(self, name: str) -> list[Scene]:
        return elsewhere(self.bench, name)[: self.n_scenes]

    def pairs(self, names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], list[Scene]]]:
        """Two concepts and the scenes that show both, by title."""
        shown = by_pair([s for s in self.bench.scenes if s.kind in ("pair", "hat") and set(s.concepts) <= set(names)])
        return {title(pair): (pair.concepts, scenes[: self.n_scenes]) for pair, scenes in shown.items()}

    def removed(self, files: Written | None, scenes: Sequence[Scene]) -> float:
        """Error removed on scenes in the stock pipeline, against the same pipeline with the class words."""
        bare = sum(self._errors(None, [said(s, self.bench.bare) for s in scenes], scenes))
        words = {n: f"a <{n}> {word}" for n, word in self.bench.class_words.items()}
        return 100 * (1 - sum(self._errors(files, [said(s, words) for s in scenes], scenes)) / bare)

    def ours(self, names: Sequence[str], mode: Mode, scenes: Sequence[Scene]) -> float:
        """The same by cnsctl itself, in a mode of a store."""
        acting = [(name, self.trained[name]) for name in names]
        return self.bench.removed(acting, mode, scenes).by_noise[self.bench.noises.index(NOISE)]

    def images(self, files: Written | None, texts: Sequence[str]) -> list[NDArray[np.uint8]]:
        """An image per text, with its place as the seed; each is generated once."""
        paths = [self._images / f"{_key(files, text, seed)}.png" for seed, text in enumerate(texts)]
        if not all(path.is_file() for path in paths):
            with self.stock.loaded(files):
                for seed, (text, path) in enumerate(zip(texts, paths, strict=True)):
                    write_atomic(path, png_bytes(self.stock.image(text, seed)))
        return [png_pixels(path.read_bytes()) for path in paths]

    def _errors(self, files: Written | None, texts: Sequence[str], scenes: Sequence[Scene]) -> list[float]:
        """Mean error per scene. Figures of equal files, texts and scenes are not computed again."""
        keys = [_key(files, text, scene) for text, scene in zip(texts, scenes, strict=True)]
        if any(key not in self._known for key in keys):
            with self.stock.loaded(files), self._figures.open("a", encoding="utf-8") as kept:
                for key, text, scene in zip(keys, texts, scenes, strict=True):
                    seed = fold(NOISE, scene.caption, scene.kind)
                    asked = Asked(text=text, latent=scene.latent, noise_seed=seed)
                    self._known[key] = self.stock.errors(asked).tolist()
                    kept.write("\n" + json.dumps([key, self._known[key]]))  # several runs may share a folder
        return [float(np.mean(self._known[key])) for key in keys]


def _key(files: Written | None, *parts: object) -> str:
    digest = hashlib.sha256(repr([p.key if isinstance(p, Scene) else p for p in parts]).encode())
    for path in () if files is None else (*files.embeddings, *files.weights):
        digest.update(path.read_bytes())
    digest.update(b"" if files is None else f"{files.format} {files.scale}".encode())
    return digest.hexdigest()[:24]


def one(found: Measured, names: Sequence[str], ranks: Sequence[int]) -> Iterator[Line]:
    """One concept at a time, by format and rank."""
    export = found.exporter
    for mode in (Mode.TOKEN, Mode.PROMPT):
        yield Line(name=f"cnsctl, `{mode}` mode", removed={n: found.ours([n], mode, found.scenes(n)) for n in names})
    yield of_files(found, "`embedding`", {n: export.embedding(n) for n in names}, kept=0.0, leak=0.0)
    for rank in ranks:
        yield of_files(found, f"`lora`, rank {rank}", {n: export.lora(n, way=Way(rank=rank)) for n in names})
    yield of_files(found, "`lora-exact`", {n: export.exact(n) for n in names}, kept=100.0, leak=100.0)
    yield of_files(found, "`diff`", {n: export.exact(n, format=DIFF) for n in names}, kept=100.0, leak=100.0)


def of_files(
    found: Measured, name: str, files: Mapping[str, Written], kept: float | None = None, leak: float | None = None
) -> Line:
    """A row of one file, or pair of files, per concept."""
    effects = [f.effect for f in files.values() if f.effect is not None]
    return Line(
        name=name,
        removed={n: found.removed(f, found.scenes(n)) for n, f in files.items()},
        kept=float(np.mean([e.kept for e in effects])) if effects else kept,
        leak=float(np.mean([e.leak for e in effects])) if effects else leak,
        leak_frame=float(np.mean([e.leak_frame for e in effects])) if effects else leak,
        bytes=float(np.mean([f.bytes for f in files.values()])),
    )


def two(found: Measured, names: Sequence[str], ranks: Sequence[int]) -> Iterator[Line]:
    """Two concepts in one prompt, on scenes that show both."""
    export, pairs = found.exporter, found.pairs(names)
    for mode in (Mode.TOKEN, Mode.PROMPT):
        yield Line(
            name=f"cnsctl, `{mode}` mode",
            removed={t: found.ours(who, mode, scenes) for t, (who, scenes) in pairs.items()},
        )
    ways: dict[str, Callable[[Sequence[str]], Written]] = {"`embedding`": lambda who: export.embedding(*who)}
    for rank in ranks:
        ways[f"`lora`, rank {rank}, two files"] = partial(_loras, export, Way(rank=rank))
    ways["`lora` of both in one file, rank 16"] = lambda who: export.lora(*who, way=Way(rank=16), together=True)
    ways["`lora-exact`, two files"] = lambda who: export.exact(*who)
    ways["`lora-exact`, two files at half strength"] = lambda who: export.exact(*who, scale=0.5)
    for name, way in ways.items():
        files = {t: (way(who), scenes) for t, (who, scenes) in pairs.items()}
        removed = {t: found.removed(f, scenes) for t, (f, scenes) in files.items()}
        yield Line(name=name, removed=removed, bytes=float(np.mean([f.bytes for f, _ in files.values()])))


def _loras(export: Exporter, way: Way, names: Sequence[str]) -> Written:
    return export.lora(*names, way=way)


def choices(found: Measured, names: Sequence[str], *, quick: bool) -> Iterator[Line]:
    """λ, the share of start, end and padding, and the number of calibration prompts."""
    ways = {f"λ {leak:g}": Way(leak=leak) for leak in LEAKS}
    ways |= {f"start, end and padding {100 * frame:g} %": Way(frame=frame) for frame in FRAMES}
    ways |= {f"{n} prompts with, {n} without": Way(naming=n) for n in NAMINGS}
    for name, way in list(ways.items())[: 2 if quick else None]:
        line = of_files(found, name, {n: found.exporter.lora(n, way=way) for n in names})
        files = [(found.exporter.lora(*who, way=way), scenes) for who, scenes in found.pairs(names).values()]
        two_at_once = float(np.mean([found.removed(f, scenes) for f, scenes in files]))
        yield replace(line, figures={TWO: two_at_once})


TWO = "two at once"

PLACES = ("in a desert",)
"""In the prompts of images of a concept."""


def images(found: Measured, names: Sequence[str], *, quick: bool) -> Iterator[Line]:
    """Images of the stock pipeline: PSNR of other prompts against the base model, and of the concept against cnsctl."""
    texts = base_probe_texts()[: 1 if quick else 2]
    export, words = found.exporter, found.bench.class_words
    asked = {n: [f"a <{n}> {words[n]} {place}" for place in PLACES] for n in names}
    plain, ours = found.images(None, texts), {n: _by_cnsctl(found, n) for n in names}
    for name, way in {"`embedding`": export.embedding, "`lora`": export.lora, "`lora-exact`": export.exact}.items():
        files = {n: way(n) for n in names}
        other = [psnr(*two) for f in files.values() for two in zip(found.images(f, texts), plain, strict=True)]
        same = [psnr(*two) for n, f in files.items() for two in zip(found.images(f, asked[n]), ours[n], strict=True)]
        cells = {OTHERS: float(np.mean(other)), OWN: float(np.mean(same))}
        yield Line(name=name, figures=cells)


OTHERS, OWN = "other prompts", "prompts of the concept"


def _by_cnsctl(found: Measured, name: str) -> list[NDArray[np.uint8]]:
    """Images of `token` mode, with the seeds of `Measured.images`."""
    overlay = found.bench.overlay([(name, found.trained[name])], Mode.TOKEN)
    asked = [Request(prompt=parse(f"a <{name}> {p}", overlay.concepts), seed=i) for i, p in enumerate(PLACES)]
    return found.bench.images(overlay, asked)
