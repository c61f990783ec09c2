"""The JSON object of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnsctl.results.result import Result

FORMAT = 1
"""Version of the JSON of all results."""

ONLY_IF_SET = "only if set"
"""In the metadata of a field: JSON has the key only if there is a value."""


def as_json(result: Result) -> dict[str, Any]:
    """The JSON object of a result: its fields, and `format`."""
    return {"format": FORMAT, **_plain(result)}


def _plain(value: Any) -> Any:
    """A value with its objects as dictionaries."""
    if is_dataclass(value):
        found = {f: getattr(value, f.name) for f in fields(value)}
        return {f.name: _plain(v) for f, v in found.items() if v is not None or not f.metadata.get(ONLY_IF_SET)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return tuple(_plain(one) for one in value) if isinstance(value, (tuple, list)) else value
