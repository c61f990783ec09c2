"""Training runs that are not in the store: those that run now, and those that were interrupted.

Owns what can be said about a run without a model; must not know terminals.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.arguments import FILE, from_text
from cnsctl.errors import CnsctlError
from cnsctl.store import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from cnsctl.store import Store

STATE_FILE = "state.safetensors"
"""In the folder of a training state: the state itself."""

_MOST_HEADER = 1 << 20
_MOST_ARGUMENTS = 1 << 16


def unfinished_runs(store: Store) -> tuple[results.TrainingRun, ...]:
    """The training runs of a store, by name."""
    return tuple(_run(store, name) for name in store.work.begun())


def _run(store: Store, name: str) -> results.TrainingRun:
    folder = store.work.folder(name)
    holder = store.work.holder(name)
    started: dict[str, Any] = {}
    with suppress(CnsctlError, OSError, ValueError, RecursionError):
        started = json.loads(read_bounded(folder / FILE, _MOST_ARGUMENTS))
    started = started if isinstance(started, dict) else {}
    steps = started.get("steps")
    return results.TrainingRun(
        name=name,
        state="interrupted" if holder is None else "running",
        pid=None if holder is None else holder.pid,
        host=None if holder is None else holder.host,
        step=_step(folder / STATE_FILE),
        steps=steps if isinstance(steps, int) else None,
        arguments=from_text(started.get("arguments")),
    )


def _step(file: Path) -> int:
    """The step of a training state, from the first bytes of its file; 0 if nothing is saved yet."""
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError), file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(size, _MOST_HEADER)))
        return int(json.loads(header["__metadata__"]["cnsctl"])["step"])
    return 0


def started_text(arguments: str, steps: int) -> bytes:
    """The content of `FILE`: how the run was started, and how many steps it has."""
    return json.dumps({"arguments": arguments, "steps": steps}, ensure_ascii=False).encode()
