"""Lines for the reader at the other end: a terminal's width, a stream's encoding, a stream that is not there.

Owns how a line fits where it goes; must not know what it says.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LEAST = 20
"""Columns that a line is broken at when a terminal says that it has fewer."""


def ready() -> None:
    """Make the standard streams fit for use, once, before anything is read or printed.

    A closed one becomes the null device: the next file opened would take its number, and be printed into. And a path
    that is no text in the stream's encoding is written as the bytes that it is, instead of failing.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path("/dev/null").open(mode, encoding="utf-8"))  # noqa: SIM115  as long as the process
    for stream in (sys.stdin, sys.stdout):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # what is no text on stdin is refused line by line, where it is read
            reconfigure(errors="surrogateescape" if stream is sys.stdin or _is_utf8(stream) else "backslashreplace")


def json_line(data: Mapping[str, Any], stream: TextIO) -> str:
    """One line of JSON, with letters as they are where the stream can carry them, else escaped."""
    line = json.dumps(data, ensure_ascii=False)
    try:
        line.encode("utf-8" if _is_utf8(stream) else stream.encoding)
    except UnicodeEncodeError:
        return json.dumps(data)
    return line


def fitted(text: str, stream: TextIO) -> str:
    """A line for a person, broken between words where a terminal ends; anywhere else it stays one line."""
    if not stream.isatty():
        return text
    import shutil
    import textwrap

    width = max(_LEAST, shutil.get_terminal_size().columns)
    if len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return "\n".join(
        textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    )


@contextmanager
def given_up(stream: TextIO) -> Iterator[None]:
    """Where a stream takes nothing more, let go of what it holds."""
    try:
        yield
    except OSError:
        drop(stream)


def drop(stream: TextIO) -> None:
    """Python flushes once more as it ends, and would leave with 120 instead of our status."""
    with suppress(OSError, ValueError):  # a stream that stands for a closed one has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")
