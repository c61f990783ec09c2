"""Work in progress, as the API hands it out.

Owns how events and a result are consumed; must not know what the work is.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from cnsctl.errors import UsageError
from cnsctl.events import Warn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from cnsctl.events import Event

R = TypeVar("R")


class CnsctlWarning(UserWarning):
    """What the command line prints as a warning. The work continues."""


class Run(Generic[R]):
    """Work in progress: iterate it for its events, or ask for its result, which does the rest of the work.

    After a loop that was left early, `result` continues. `close`, or the end of a `with` block, stops the work and keeps
    the training state: the same call continues where it stopped, and ends with the same bytes.
    """

    def __init__(self, work: Generator[Event, None, R]) -> None:
        self._work = work
        self._results: list[R] = []

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event."""
        try:
            return next(self._work)
        except StopIteration as done:
            if done.value is not None:  # None: the run was closed, or had ended before
                self._results.append(done.value)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> R:
        """Do the rest of the work and return the result. Events that warn become a `CnsctlWarning`.

        Raises:
            UsageError: the run was closed, or failed before.
            CnsctlError: the work failed.
        """
        for event in self:
            if isinstance(event, Warn):
                warn(event)
        if not self._results:
            raise UsageError(
                "this run was stopped before its end", hint="start it again: it continues where it stopped"
            )
        return self._results[0]

    def close(self) -> None:
        """Stop here; the training state is kept, and the name is free for another run."""
        self._work.close()


def warn(event: Warn) -> None:
    """Issue an event as a Python warning."""
    warnings.warn(event.text, CnsctlWarning, stacklevel=3)
