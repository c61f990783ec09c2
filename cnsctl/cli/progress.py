"""Progress on stderr: on a terminal one line that is rewritten, in a log a line per phase and one every 30 seconds.

Owns these lines; must not know how the time that is left is found, or where results go.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cnsctl.cli.pace import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from cnsctl.cli.pace import Clock, Counted

_BAR, _SHORT_BAR = 24, 8
"""Columns of the bar, if there is room, and the least of it: below that there is none."""

_NAME = 8
"""Columns of the phase's name that stay in the narrowest terminal."""

LOG_EVERY_S = 30.0
"""Seconds between two lines of one phase in a log."""


class View(Protocol):
    """Shows how far the work is."""

    def update(self, event: Counted) -> None:
        """Show an event."""
        ...

    def paused(self) -> Any:
        """A context in which other lines are printed."""
        ...

    def stop(self) -> None:
        """Show nothing until the next phase."""
        ...


def clock_time(seconds: float) -> str:
    """`0:07`, `12:00` or `1:05:00`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Log:
    """Lines for a file: one when a phase begins, and one every 30 seconds while it lasts.

    Args:
        write: prints a line.
        clock: in seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self.write, self.clock, self.course = write, clock, Course(clock)
        self._due_s = 0.0

    def update(self, event: Counted) -> None:
        is_new = self.course.take(event)
        if (pace := self.course.pace) is None:
            return
        if is_new:
            self._line(pace.name, pace.count)
        elif self.clock() >= self._due_s:
            left_s = self.course.left_s
            share = f"{100 * self.course.share:.0f} % of all" if self.course.is_planned else ""
            left = "" if left_s is None else f"{clock_time(left_s)} left"
            self._line(pace.name, pace.count, f"step {pace.part}" if pace.part else "", share, left, pace.loss)

    def _line(self, name: str, *parts: str) -> None:
        self._due_s = self.clock() + LOG_EVERY_S
        shown = ", ".join(part for part in parts if part)
        self.write(f"{name}: {shown}" if shown else name)

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        pass


class Progress:
    """A line that is shown during the work, below everything else that is printed."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.course = Course(clock)
        self.live: Any = None

    def update(self, event: Counted) -> None:
        self.course.take(event)
        if self.live is None and self.course.pace is not None:
            self._begin()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.live = Live(
            Line(self.course),
            console=Console(stderr=True),
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,  # rich would print the result on the terminal, even if stdout is a file
            redirect_stderr=False,
        )
        self.live.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the line while others are printed, and show it again below them."""
        if self.live is not None:
            self.live.stop()
        try:
            yield
        finally:
            if self.live is not None:
                self.live.start()

    def stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


class Line:
    """One line about the work, in the width that the terminal has now: the numbers stay, the bar is dropped."""

    def __init__(self, course: Course) -> None:
        from rich.spinner import Spinner

        self.course, self.spinner = course, Spinner("dots")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        pace, share = self.course.pace, self.course.share
        if pace is None:
            return
        width = options.max_width - 1  # a line of full width would wrap in some terminals
        for numbers in self._numbers():
            shown = " ".join(text for text in numbers if text)
            spare = width - len("⠋  ") - len(shown)
            if spare >= min(_NAME, len(pace.name)):
                break
        name = pace.name if len(pace.name) <= spare else f"{pace.name[: max(_NAME, spare) - 1]}…"
        percent = f"{100 * share:3.0f} %"
        room = spare - len(name) - len(percent) - 2
        yield Text(f"{self.spinner.render(console.get_time())} {name} ", end="")
        if room >= _SHORT_BAR and pace.total:
            yield ProgressBar(completed=100 * share, width=min(_BAR, room))
            yield Text(f" {percent} ", end="", style="progress.percentage")
        yield Text(shown, end="", style="progress.remaining")

    def _numbers(self) -> Iterator[Sequence[str]]:
        """What to show beside the name, from most to least: the time left is that of the whole command."""
        pace, left_s = self.course.pace, self.course.left_s
        assert pace is not None
        if not pace.total:
            yield [clock_time(pace.passed_s)]
            return
        short = "-:--" if left_s is None else clock_time(left_s)
        left = short if left_s is None else f"{short} left"
        part = f"step {pace.part}" if pace.part else ""
        detail = f"preview {pace.part}" if pace.is_preview else pace.loss or part
        if not pace.count:
            yield from ([part, left], [pace.part, short])
            return
        yield from ([pace.count, left, detail], [pace.count, left], [pace.count, short])
