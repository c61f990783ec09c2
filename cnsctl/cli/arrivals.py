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


class Arrivals:
    """Reads the file descriptor of a text stream that was not read before. Needs no thread, which Ctrl-C could not end."""

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno()
        decoder = codecs.getincrementaldecoder(stream.encoding)(stream.errors or "strict")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)  # line ends as in the stream itself
        self._lines: list[str] = []
        self._begun = ""
        self._ended = False

    def next(self, at_most: int) -> list[str]:
        """Wait for a line; return it and those that have arrived too, without line ends and without blank lines.

        Returns:
            At most `at_most` lines; an empty list at the end of the stream.
        """
        while len(self._lines) < at_most and not self._ended and (not self._lines or self._is_ready()):
            self._read()
        found, self._lines = self._lines[:at_most], self._lines[at_most:]
        return found

    def _is_ready(self) -> bool:
        return bool(select.select([self._fd], [], [], 0)[0])

    def _read(self) -> None:
        select.select([self._fd], [], [])  # also if the file is in non-blocking mode
        piece = os.read(self._fd, _PIECE_BYTES)
        self._ended = not piece
        *lines, self._begun = (self._begun + self._decoder.decode(piece, final=self._ended)).split("\n")
        if self._ended:
            lines.append(self._begun)
        self._lines += [line for line in lines if line.strip()]
