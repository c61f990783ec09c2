"""Sealed files: a format number, a payload of JSON, and the SHA-256 of both.

Owns the frame around a payload; must not know what the payload means. The frame is the same in every format, so that a
file of a newer version can be distinguished from a damaged one.
"""

from __future__ import annotations

import re

from cnsctl import __version__
from cnsctl.errors import FormatTooNewError
from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version

NEEDS = "needs"
"""Key in the payload of every format that is newer than those of version 0.1.0: the oldest version that reads it."""

_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}")

_HEAD = re.compile(rb'\{"format":([1-9][0-9]{0,8}),"payload":\{')
_TAIL = b',"sha256":"%s"}\n'
_TAIL_BYTES = len(_TAIL % (b"0" * 64))


def sealed(payload: bytes, version: int) -> bytes:
    """Put a JSON object into its frame."""
    body = b'{"format":%d,"payload":%s' % (version, payload)
    return body + _TAIL % canonical.sha256(body).encode("ascii")


def frame_of(content: bytes, newest: int, shown: str) -> tuple[int, bytes]:
    """Take the format number and the payload out of a file, which must be as it was written, to the bit.

    Args:
        content: of the file.
        newest: the newest format that is read.
        shown: the file in messages.

    Raises:
        ValueError: a byte differs from what was written.
        FormatTooNewError: written by a newer cnsctl.
    """
    head = _HEAD.match(content)
    body, tail = content[:-_TAIL_BYTES], content[-_TAIL_BYTES:]
    if head is None:  # not of this frame
        check_version(canonical.parse_object(content).get("format"), newest, shown)
        raise ValueError("it does not begin as it was written")
    if tail != _TAIL % canonical.sha256(body).encode("ascii"):
        raise ValueError("its content does not match its SHA-256")
    number, payload = int(head[1]), body[head.end() - 1 :]
    try:
        check_version(number, newest, shown)
    except FormatTooNewError as err:
        raise FormatTooNewError(err.what, note=_needed(payload) or err.note, reason=err.reason) from err
    return number, payload


def _needed(payload: bytes) -> str | None:
    """The version of cnsctl that reads a newer format, which names it."""
    needs = canonical.parse_object(payload).get(NEEDS)
    if not isinstance(needs, str) or not _VERSION.fullmatch(needs):
        return None
    return f"it needs cnsctl {needs} or newer; this is cnsctl {__version__}"
