"""Deferred signals: those that end a program wait while a change is written that must be complete.

Owns when handlers run; must not know what they do.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals whose handlers raise an exception in the main thread. Windows has no SIGHUP."""


@contextmanager
def defer_signals(outcome: str | None = None) -> Iterator[None]:
    """Run the block to its end before the handler of a signal runs, which then raises as usual.

    In other threads this has no effect, because Python runs handlers in the main thread only.

    Args:
        outcome: what the block has done; added as a note to the exception of a signal if the block succeeded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    replaced = [number for number in ENDING if callable(before[number])]
    succeeded = False
    try:
        for number in replaced:
            signal.signal(number, note)
        yield
        succeeded = True
    finally:
        for number in replaced:
            signal.signal(number, before[number])
        if waiting:
            try:
                signal.raise_signal(waiting[0])
            except BaseException as err:
                if succeeded and outcome is not None:
                    err.add_note(outcome)
                raise
