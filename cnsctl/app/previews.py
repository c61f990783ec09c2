"""Images of a concept while it is trained: the same prompts and seeds every few steps, side by side in one file.

The images are those of a measurement in full, so that they can be compared with the images after the training.

Owns which images these are, and their files; must not know terminals. What it generates does not change the training:
every random number of a training step comes from a seed and the number of the step.
"""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING

from cnsctl.app.forecast import image_rows, step_rows
from cnsctl.app.measuring import FULL, QUICK
from cnsctl.app.output_paths import keep
from cnsctl.app.probes import generating, probes
from cnsctl.errors import CnsctlError
from cnsctl.events import Denoised, Event, Preview, Warn
from cnsctl.store import write_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnsctl.app.session import Session
    from cnsctl.concept import Delta
    from cnsctl.engine.job import Job
    from cnsctl.engine.train import Watch
    from cnsctl.settings import GenerateSettings


def settings(own: GenerateSettings) -> GenerateSettings:
    """From the base model's own settings: fewer inference steps."""
    return QUICK.settings(own)


def watching(session: Session, job: Job, every: int, folder: Path | None) -> Watch | None:
    """What looks at the concept during its training; None if `every` is 0.

    Args:
        session: with the base model.
        job: of the training.
        every: steps between two previews.
        folder: gets a file per preview; None for no files.
    """
    from cnsctl.engine.train import Watch

    if not every:
        return None
    return Watch(
        every=every,
        worth=_worth(session, job),
        look=lambda step, delta: _previewed(session, job, step, delta, folder),
    )


def _worth(session: Session, job: Job) -> float:
    """Training steps that take as long as a preview."""
    return rows(session.base.generate_defaults) / step_rows(job.settings)


def rows(own: GenerateSettings) -> int:
    """The cost of a preview."""
    return FULL.images * image_rows(settings(own))


def _previewed(session: Session, job: Job, step: int, delta: Delta, folder: Path | None) -> Iterator[Event]:
    """A preview; what fails is a warning, because the training does not need it."""
    import numpy as np

    from cnsctl.data.png import png_bytes
    from cnsctl.engine.concepts import to_concept
    from cnsctl.engine.overlay import Overlay

    asked, own = probes(job.name, FULL), settings(session.base.generate_defaults)
    concept = to_concept(session.base, delta, key=f"step {step}")
    overlay = Overlay(mode=session.store.mode, concepts={**job.prior.concepts, job.name: concept})
    try:
        work, done = generating(session, overlay, asked, own), 0
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                images = end.value
                break
            if isinstance(event, Denoised):
                done += 1
                yield Denoised(
                    step=done, total=max(done, len(asked) * event.total), images=0, beside=_worth(session, job)
                )
        pixels = np.concatenate(images, axis=1)
        path = "" if folder is None else str(_kept(folder / f"step-{step:05}.png", png_bytes(pixels)))
    except CnsctlError as err:
        yield Warn(text=f"no preview at step {step}: {err.what}")
        return
    yield Preview(step=step, path=path, prompts=tuple(prompt.text for prompt, _ in asked), pixels=pixels)


def _kept(path: Path, png: bytes) -> Path:
    """Write a file. One of the same bytes is from the same run before an interruption; others stay as they are."""
    for name in chain([path], (path.with_stem(f"{path.stem}-{n}") for n in count(2))):
        try:
            keep(name, png, write=write_once)
        except FileExistsError:
            if name.is_file() and name.read_bytes() == png:
                return name
        else:
            return name
    raise AssertionError("unreachable")
