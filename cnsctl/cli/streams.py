"""Lines that fit their stream: the width of a terminal, the encoding, a closed stream.

Owns the form of lines; must not know their content.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cnsctl.cli.program import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GLUE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit while a line is wrapped. A printable line does not contain it."""
_UNIT = re.compile(r"(?<=\d) (?=[%×A-Za-z])")

_LEAST = 20
"""Least columns at which lines are wrapped, also in a narrower terminal."""


def ready() -> None:
    """Prepare the standard streams, once, before anything is read or printed.

    A closed stream becomes the null device: otherwise the next opened file would get its number, and be printed into. A
    path that is not text in the stream's encoding is written as its bytes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path("/dev/null").open(mode, encoding="utf-8"))  # noqa: SIM115  as long as the process
    for stream in (sys.stdin, sys.stdout):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # bytes of stdin that are not text are refused later, line by line
            reconfigure(errors="surrogateescape" if stream is sys.stdin or _is_utf8(stream) else "backslashreplace")


def json_line(data: Mapping[str, Any], stream: TextIO) -> str:
    """One line of JSON; letters that the stream's encoding does not contain are escaped."""
    line = json.dumps(data, ensure_ascii=False)
    try:
        line.encode("utf-8" if _is_utf8(stream) else stream.encoding)
    except UnicodeEncodeError:
        return json.dumps(data)
    return line


def printable(text: str) -> str:
    """A line without control characters, such as those that a file name or a prompt brings: each is escaped.

    They would move the cursor, hide text or forge lines. A tab separates the fields of a table.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


def fitted(text: str, stream: TextIO) -> str:
    """A line for a person, without control characters; at a terminal, wrapped between words at its width.

    A number and its unit, or what it counts, stay on one line.
    """
    if isinstance(text, Command) or not stream.isatty():
        return printable(text)
    text = printable(text)
    import textwrap

    width = max(_LEAST, terminal_size(stream).columns)
    if len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    glued = _UNIT.sub(_GLUE, text)
    lines = textwrap.wrap(glued, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_GLUE, " ")


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Columns and lines: `COLUMNS` and `LINES`, else those of the terminal behind the stream, else 80 × 24.

    Not those of stdout, as `shutil.get_terminal_size` has them: it may be a pipe while stderr is a terminal.
    """
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((80, 24))
    given = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    columns, lines = (int(text) if text.isdecimal() and int(text) else n for text, n in zip(given, size, strict=True))
    return os.terminal_size((columns, lines))


def agreed(question: str) -> bool:
    """Ask on the terminal, with "no" as the answer if it gives none (Ctrl-D)."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if not (answer := sys.stdin.readline()):
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def error_lines(code: str, what: str, *, note: str | None, hint: str | None) -> list[str]:
    """An error for a person: what failed, then context and advice, where there are any."""
    parts = (("note", note), ("hint", hint))
    return [f"error[{code}]: {what}", *(f"  {title}: {text}" for title, text in parts if text is not None)]


@contextmanager
def given_up(stream: TextIO) -> Iterator[None]:
    """After a write error, send the stream to /dev/null, so that the flush at exit cannot fail."""
    try:
        yield
    except OSError:
        drop(stream)


def drop(stream: TextIO) -> None:
    """Send a stream to /dev/null: a failing flush at exit would change the exit status to 120."""
    with suppress(OSError, ValueError):  # the replacement of a closed stream has no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")
