"""Sealed files: a format number, a payload of JSON, and the SHA-256 of the payload.

Owns the frame around a payload; must not know what the payload means.
"""

from __future__ import annotations

from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version

_TAIL = b',"sha256":"%s"}\n'
_TAIL_BYTES = len(_TAIL % (b"0" * 64))


def sealed(payload: bytes, version: int) -> bytes:
    """Put a JSON object into its frame."""
    return b"".join((_head(version), payload, _TAIL % canonical.sha256(payload).encode("ascii")))


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
    payload = content[len(_head(version)) : -_TAIL_BYTES]
    if content != sealed(payload, version):
        check_version(canonical.parse_object(content).get("format"), version, shown)
        raise ValueError("its content does not match its SHA-256")
    return payload


def _head(version: int) -> bytes:
    return b'{"format":%d,"payload":' % version
