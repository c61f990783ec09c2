"""What a campaign has done and found: the counts of the table.

Owns the counts; must not know what is tested.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from cnsctl.cli.streams import error_lines, fitted
from cnsctl.errors import CnsctlError

SHOWN = 5
"""Losses and tracebacks that are described; the others are counted."""


@dataclass
class Tally:
    """The counts of one part of the campaign. A failure is noted and the campaign goes on."""

    faults: int = 0
    """Calls that failed, and states after a power cut."""
    kills: int = 0
    """Commands that were killed."""
    operations: int = 0
    """Commands that ran to their end."""
    inputs: int = 0
    """Files and texts that were read."""
    losses: int = 0
    """States that are neither the one before nor the one after, damage that nobody finds, and commands that no longer work."""
    tracebacks: int = 0
    """Exceptions that are not messages."""
    described: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def loss(self, where: str, what: object) -> None:
        self.losses += 1
        self._describe(f"loss: {where}: {what}")

    def unexpected(self, where: str, err: BaseException) -> None:
        self.tracebacks += 1
        self._describe(f"traceback: {where}: {''.join(traceback.format_exception(err)[-4:])}")

    def _describe(self, text: str) -> None:
        if len(self.described) < SHOWN:
            self.described.append(text)

    @contextlib.contextmanager
    def reading(self, where: str) -> Iterator[None]:
        """Count one input; it may be refused with a message, which has no control characters, and in no other way."""
        self.inputs += 1
        try:
            yield
        except CnsctlError as err:
            lines = error_lines(err.code, err.what, note=err.note, hint=err.hint)
            if not all(fitted(line, sys.stderr).isprintable() for line in lines):
                self.loss(where, f"a control character in a message: {lines!r}")
        except Exception as err:  # noqa: BLE001  it is counted
            self.unexpected(where, err)

    def assert_clean(self) -> None:
        assert not self.losses and not self.tracebacks, "\n".join(
            [f"{self.losses} losses, {self.tracebacks} tracebacks", *self.described]
        )


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory, if the machine has one: a sync of a disk takes longer than the command."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of our own in it
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="torture-", dir=place) as folder:
        yield Path(folder)
