"""Lines of a stream as they arrive: all that are there, without waiting for more.

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
    """Reads the file descriptor of a text stream that has not been read yet. Ctrl-C could not end a thread that waits."""

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno()
        decoder = codecs.getincrementaldecoder(stream.encoding)(stream.errors or "strict")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)  # as the stream itself reads line ends
        self._lines: list[str] = []
        self._begun = ""
        self._ended = False

    def next(self, at_most: int) -> list[str]:
        """Wait for a line; return it with those that have arrived too: without line ends, and no blank ones.

        Returns:
            At most so many; none at the end of the stream.
        """
        while len(self._lines) < at_most and not self._ended and (not self._lines or self._is_ready()):
            self._read()
        found, self._lines = self._lines[:at_most], self._lines[at_most:]
        return found

    def _is_ready(self) -> bool:
        return bool(select.select([self._fd], [], [], 0)[0])

    def _read(self) -> None:
        select.select([self._fd], [], [])  # also where the file is in non-blocking mode
        piece = os.read(self._fd, _PIECE_BYTES)
        self._ended = not piece
        *lines, self._begun = (self._begun + self._decoder.decode(piece, final=self._ended)).split("\n")
        if self._ended:
            lines.append(self._begun)
        self._lines += [line for line in lines if line.strip()]
