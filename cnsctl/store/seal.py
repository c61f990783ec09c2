"""Sealed files: a format number, a payload of JSON, and the SHA-256 of both.

Owns the frame around a payload; must not know what the payload means. The frame is the same in every format, so that a
file of a newer version can be distinguished from a damaged one.
"""

from __future__ import annotations

import re

from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version

_HEAD = re.compile(rb'\{"format":([1-9][0-9]{0,8}),"payload":\{')
_TAIL = b',"sha256":"%s"}\n'
_TAIL_BYTES = len(_TAIL % (b"0" * 64))


def sealed(payload: bytes, version: int) -> bytes:
    """Put a JSON object into its frame."""
    body = b'{"format":%d,"payload":%s' % (version, payload)
    return body + _TAIL % canonical.sha256(body).encode("ascii")


def payload_of(content: bytes, version: int, shown: str) -> bytes:
    """Take the payload out of a file, which must be as it was written, to the bit.

    Args:
        content: of the file.
        version: the newest format that is read.
        shown: the file in messages.

    Raises:
        ValueError: a byte differs from what was written.
        FormatTooNewError: written by a newer cnsctl.
    """
    head = _HEAD.match(content)
    body, tail = content[:-_TAIL_BYTES], content[-_TAIL_BYTES:]
    if head is None:  # not of this frame
        check_version(canonical.parse_object(content).get("format"), version, shown)
        raise ValueError("it does not begin as it was written")
    if tail != _TAIL % canonical.sha256(body).encode("ascii"):
        raise ValueError("its content does not match its SHA-256")
    check_version(int(head[1]), version, shown)
    if int(head[1]) != version:
        raise ValueError(f"format {int(head[1])} was never released; this version reads format {version}")
    return body[head.end() - 1 :]
