"""The memory setting of a training run, kept with its state: a resumed run computes as it began.

Owns this file of a training state; must not know how memory is saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.events import Note
from cnsctl.settings import Memory
from cnsctl.store import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "memory"


def began_with(work: Path, state: str) -> Memory | None:
    """The setting with which the run in a folder began; None if it contains no state.

    Args:
        work: folder of the training state.
        state: name of the file with the state itself.
    """
    if not (work / state).is_file():
        return None
    try:
        return Memory((work / FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def keep(work: Path, memory: Memory, began: Memory | None) -> Iterator[Note]:
    """Record the setting of a run that begins; a note if a resumed run has another one.

    Raises:
        DiskError: it cannot be written.
    """
    if began is None:
        write_atomic(work / FILE, memory.value.encode("ascii"))
    elif began is not memory:
        yield Note(
            text=f"memory: {memory}, but the training began with {began}; the result can differ by rounding from that of "
            "an uninterrupted run"
        )
