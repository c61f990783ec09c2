"""A training run that can be stopped at any moment: its state is written at every kind of end.

Owns when the state is written; must not know its content.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Self

from cnsctl.errors import CnsctlError
from cnsctl.events import Event, Warn
from cnsctl.store import defer_signals, read_bounded, write_atomic

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.checkpoint import Checkpoint
    from cnsctl.engine.job import Job
    from cnsctl.engine.processes import Processes
    from cnsctl.engine.train import Trained, Watch

MAX_BYTES = 16 << 30
"""Of a training state that is read."""

WRITE_EVERY_S = 30.0
"""Seconds of training that a power cut or SIGKILL can lose. Every other end loses only the step in progress."""


def trained(
    base: Base, job: Job, file: Path, processes: Processes | None = None, *, watch: Watch | None = None
) -> Generator[Event, None, Trained]:
    """Train, from the state in the file if there is one. At the end, the file contains the last complete step.

    Raises:
        DiskError: the run was interrupted and its state cannot be written.
    """
    from cnsctl.engine import train
    from cnsctl.engine.checkpoint import Checkpoint
    from cnsctl.engine.processes import ALONE

    processes = processes or ALONE
    resume = processes.from_main(read_bounded(file, MAX_BYTES) if file.exists() else None)
    checkpoint = Checkpoint()
    with (
        _Keeper(file, checkpoint) as keeper,
        closing(
            train.train(base, job, resume=resume, checkpoint=checkpoint, processes=processes, watch=watch)
        ) as events,
    ):
        while True:
            try:
                event = next(events)
            except StopIteration as done:
                found: Trained = done.value
                break
            yield event
            if (warning := keeper.write_when_due()) is not None:
                yield warning
    if keeper.failed is not None:
        yield _warning(keeper.failed)
    return found


class _Keeper:
    """Writes a checkpoint to a file: every 30 seconds, and at the end of the block."""

    def __init__(self, file: Path, checkpoint: Checkpoint) -> None:
        self.file, self.checkpoint = file, checkpoint
        self.failed: CnsctlError | None = None
        """Why the last attempt to write failed."""
        self._written: int | None = None
        """Step of the state that this run has written."""
        self._due_s = time.monotonic() + WRITE_EVERY_S

    def write_when_due(self) -> Warn | None:
        """Write if it is time. The first of several failures in a row is a warning; training continues."""
        if time.monotonic() < self._due_s:
            return None
        failed_before = self.failed is not None
        self._write()
        self._due_s = time.monotonic() + WRITE_EVERY_S
        return None if self.failed is None or failed_before else _warning(self.failed)

    def _write(self) -> None:
        with defer_signals():
            if self.checkpoint.step == self._written:
                return
            data = self.checkpoint.to_bytes()
            assert data is not None
            try:
                write_atomic(self.file, data)
            except CnsctlError as err:
                self.failed = err
            else:
                self._written, self.failed = self.checkpoint.step, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, _tb: TracebackType | None) -> None:
        self._write()
        if self.failed is None or kind is None:
            return
        if isinstance(err, Exception):  # the original failure must not be hidden
            err.add_note(_warning(self.failed).text)
        else:
            raise self.failed


def _warning(err: CnsctlError) -> Warn:
    return Warn(text=f"the training state is not saved: {err.what}")
