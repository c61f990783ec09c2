"""The training scenes: drawn by all cores into one array on disk, with their captions and where subjects stand.

Owns `x.npy`, `m.npy`, `t.json` and `drawn.json`; must not know models.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pocket.judge.prompts import captions_held_out
from pocket.training.events import Event
from pocket.training.recipes import ROUNDS
from pocket.training.work import read_json, write_json
from pocket.world.draws import Draws
from pocket.world.scenes import SIZE, Scene, scene, subject_share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from pocket.training.work import Work

CELLS = 16
"""Rows and columns of `m.npy`: those of the latents."""

ALONE_BELOW = 1000
"""So few scenes are drawn before other processes would have started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Scenes start..stop of one set."""

    folder: Path
    start: int
    stop: int
    n_scenes: int
    offset: int
    """Seed of the set's first scene."""


def render(work: Work, *, n_scenes: int, seen: int, seed: int | None) -> Iterator[Event]:
    """Draw a set of scenes, unless there is one that the denoiser has seen less than four times.

    A set that a kill left unfinished is finished: parts whose captions are written are kept.

    Args:
        work: the folder.
        n_scenes: how many.
        seen: samples that the denoiser has learned from so far.
        seed: decides the set, together with `seen`; None takes the clock.
    """
    drawn = _drawn(work)
    if _whole(work, n_scenes) and seen - drawn["seen"] < ROUNDS * n_scenes:
        yield Event(stage="render", text=f"{n_scenes} scenes kept")
        return
    if _whole(work, n_scenes) or drawn.get("n_scenes") != n_scenes or not work.has("t.parts"):
        drawn = _begin(work, n_scenes=n_scenes, seen=seen, seed=seed)
    start = time.monotonic()
    done = 0
    for count in _run(_jobs(work, drawn)):
        done += count
        speed = done / (time.monotonic() - start)
        yield Event(stage="render", text=f"drew {done} scenes", numbers={"samples_per_s": speed})
    write_json(work.path("t.json"), _captions(work, n_scenes))
    shutil.rmtree(work.path("t.parts"))


def scenes(work: Work) -> NDArray[np.uint8]:
    """All pictures (n, 128, 128, 3), read from disk as they are used."""
    pictures: NDArray[np.uint8] = np.load(work.path("x.npy"), mmap_mode="r")
    return pictures


def coverage(work: Work) -> NDArray[np.uint8]:
    """How much of each latent cell is subject (n, 16, 16): 0 none of it, 255 all."""
    cells: NDArray[np.uint8] = np.load(work.path("m.npy"))
    return cells


def captions(work: Work) -> list[str]:
    texts: list[str] = read_json(work.path("t.json"))
    return texts


def scenes_id(work: Work) -> int:
    """Names the set of scenes: its first seed."""
    return int(_drawn(work)["offset"])


def training_scene(offset: int, index: int, n_scenes: int) -> Scene:
    """Scene `index` of a set; a caption that the judge asks for is drawn again from a seed beyond the set."""
    while True:
        found = scene(Draws(offset + index))
        if found.caption not in captions_held_out():
            return found
        index += n_scenes


def _drawn(work: Work) -> dict[str, Any]:
    """When and from which seed the present set was drawn."""
    drawn: dict[str, Any] = read_json(work.path("drawn.json")) if work.has("drawn.json") else {}
    return drawn


def _whole(work: Work, n_scenes: int) -> bool:
    return work.has("t.json") and work.has("x.npy") and work.has("m.npy") and len(captions(work)) == n_scenes


def _begin(work: Work, *, n_scenes: int, seen: int, seed: int | None) -> dict[str, Any]:
    """Forget the old set, make room for the new one."""
    offset = time.time_ns() % 2**40 if seed is None else int(Draws(seed * 1_000_003 + seen).random() * 2**40)
    work.path("t.json").unlink(missing_ok=True)
    shutil.rmtree(work.path("t.parts"), ignore_errors=True)
    drawn = {"seen": seen, "offset": offset, "n_scenes": n_scenes}
    write_json(work.path("drawn.json"), drawn)
    np.lib.format.open_memmap(work.path("x.npy"), "w+", np.uint8, (n_scenes, SIZE, SIZE, 3)).flush()
    np.lib.format.open_memmap(work.path("m.npy"), "w+", np.uint8, (n_scenes, CELLS, CELLS)).flush()
    work.path("t.parts").mkdir()
    return drawn


def _jobs(work: Work, drawn: dict[str, Any]) -> list[Job]:
    """What is still to be drawn."""
    n, offset = drawn["n_scenes"], drawn["offset"]
    size = max(64, n // 256)
    jobs = [
        Job(folder=work.folder, start=i, stop=min(i + size, n), n_scenes=n, offset=offset) for i in range(0, n, size)
    ]
    return [job for job in jobs if not _part(job).exists()]


def _run(jobs: list[Job]) -> Iterator[int]:
    """Do the jobs; yield how many scenes each one drew."""
    if sum(job.stop - job.start for job in jobs) < ALONE_BELOW:
        yield from map(_draw, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(_draw, jobs)


def _draw(job: Job) -> int:
    pictures = np.lib.format.open_memmap(job.folder / "x.npy", "r+")
    cells = np.lib.format.open_memmap(job.folder / "m.npy", "r+")
    texts = []
    for i in range(job.start, job.stop):
        found = training_scene(job.offset, i, job.n_scenes)
        pictures[i] = np.asarray(found.image)
        cells[i] = (255 * subject_share(found, CELLS)).round()
        texts.append(found.caption)
    pictures.flush()
    cells.flush()
    write_json(_part(job), texts)
    return job.stop - job.start


def _part(job: Job) -> Path:
    """Captions of a job: they are written after its pictures, so that they vouch for them."""
    return job.folder / "t.parts" / f"{job.start:08d}.json"


def _captions(work: Work, n_scenes: int) -> list[str]:
    texts = [text for part in sorted(work.path("t.parts").glob("*.json")) for text in json.loads(part.read_text())]
    assert len(texts) == n_scenes
    return texts
