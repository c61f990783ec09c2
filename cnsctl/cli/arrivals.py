"""Lines of a stream as they arrive: all that have arrived, without waiting for more.

Owns the wait for input; must not know what the lines mean.
"""

from __future__ import annotations

import codecs
import io
import os
import select
from typing import TextIO

_PIECE_BYTES = 1 << 16

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Encodings by the byte order mark at the beginning of a file; some editors write one."""


class Arrivals:
    """Reads the file descriptor of a text stream that was not read before. Needs no thread, which Ctrl-C could not end."""

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno()
        self._encoding, self._errors = stream.encoding, stream.errors or "strict"
        self._decoder: io.IncrementalNewlineDecoder | None = None
        self._head = b""
        self._lines: list[str] = []
        self._begun = ""
        self._ended = False

    def next(self, at_most: int) -> list[str]:
        """Wait for a line; return it and those that have arrived too, without line ends, blank lines and comments.

        Returns:
            At most `at_most` lines; an empty list at the end of the stream.
        """
        while len(self._lines) < at_most and not self._ended and (not self._lines or self._is_ready()):
            self._read()
        found, self._lines = self._lines[:at_most], self._lines[at_most:]
        return found

    def are_over(self) -> bool:
        """Whether the stream has ended without a line; does not wait for one."""
        while not self._lines and not self._ended and self._is_ready():
            self._read()
        return self._ended and not self._lines

    def _is_ready(self) -> bool:
        return bool(select.select([self._fd], [], [], 0)[0])

    def _read(self) -> None:
        select.select([self._fd], [], [])  # also if the file is in non-blocking mode
        piece = os.read(self._fd, _PIECE_BYTES)
        self._ended = not piece
        *lines, self._begun = (self._begun + self._decoded(piece)).split("\n")
        if self._ended:
            lines.append(self._begun)
        self._lines += [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    def _decoded(self, piece: bytes) -> str:
        """Text of the next bytes. The first bytes decide the encoding: those of the stream, or of a byte order mark."""
        if self._decoder is None:
            self._head += piece
            if not self._ended and any(mark != self._head and mark.startswith(self._head) for mark in _MARKS):
                return ""
            piece, found = self._head, [e for mark, e in _MARKS.items() if self._head.startswith(mark)]
            kind = codecs.getincrementaldecoder(found[0] if found else self._encoding)
            # bytes that are not UTF-16 cannot be kept for the message about them, as surrogates are in other encodings
            decoder = kind("replace" if found == ["utf-16"] else self._errors)
            self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)  # line ends as in the stream itself
        return str(self._decoder.decode(piece, final=self._ended))
