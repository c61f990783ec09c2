"""Canonical JSON: a deterministic writer and a strict reader.

Owns bytes ↔ JSON values; must not know what the values mean or which file contains them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def dump(value: object) -> bytes:
    """Write canonical JSON: sorted keys, no spaces, ASCII, finite numbers. Equal values give equal bytes.

    Raises:
        ValueError: a number is not finite, or values are nested too deeply.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_table).encode("ascii")
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def parse(data: bytes) -> object:
    """Read JSON, canonical or not.

    Raises:
        ValueError: not UTF-8, not JSON, a duplicate key in an object, NaN or Infinity, or nested too deeply.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def parse_object(data: bytes) -> dict[str, object]:
    """Read JSON that must be an object.

    Raises:
        ValueError: as `parse`, or it is another kind of value.
    """
    value = parse(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  one exception for every fault of a file
    return value


def sha256(data: bytes) -> str:
    """Hex digest: the name of a blob, the seal of a catalogue."""
    return hashlib.sha256(data).hexdigest()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key in an object")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


def _table(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):  # an immutable one
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
