"""The documents of the catalogue: their fields and the allowed values.

Owns types and checks of concepts, runs and the state; must not know files or TinyDB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypedDict

from cnsctl.concept import NAME
from cnsctl.results import Free

ID = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


class ConceptRecord(TypedDict):
    """A concept in the store, without its weights."""

    id: str
    """Of this training run; a rename keeps it."""
    name: str
    seq: int
    """Place in the training order; gaps are normal."""
    class_word: str
    """Empty if the token embeddings stand alone."""
    tokens: int
    """Token embeddings."""
    neurons: int
    share: float
    """Of the K/V weights."""
    share_denoiser: float
    """Of all weights of the denoiser."""
    bytes: int
    """Of the delta's file."""
    created: str
    """ISO 8601, UTC."""
    delta: str
    """Blob."""
    references: Sequence[str]
    """Blobs: copies of the images."""
    captions: Sequence[str | None]
    """One for each reference."""
    probe: str
    """Blob: the record that later proofs compare with."""
    preview: str | None
    """Blob: images generated right after training."""
    recipe: Mapping[str, str | int | float | bool]
    scores: Mapping[str, float | str | None]
    """As measured right after training: the fields of `results.Scores`."""


class RunRecord(TypedDict):
    """One change of one concept."""

    verb: str
    """The command."""
    name: str
    """Of the concept, after the change."""
    when: str
    """ISO 8601, UTC."""
    outcome: str
    """What was done, in a few words."""
    seconds: float
    """How long it took."""


class StateRecord(TypedDict):
    """What concerns all concepts together."""

    generation: int
    """Counts the changes of what can act on a prompt: concepts added and removed."""
    free: int
    """Neurons that no concept owns."""
    next_seq: int
    owners: str | None
    """Ownership index: file of the numbers of owners; None if no neuron is counted."""
    recent: Sequence[str]
    """Files of the masks of concepts that `owners` does not count yet."""
    owned: str | None
    """File of the neurons that any concept owns; None if no neuron is owned."""
    uncounted: Sequence[str]
    """Ids of concepts that the index does not count, because their delta could not be read."""


def blobs_of(record: ConceptRecord) -> list[str]:
    """The blobs that a concept refers to: its delta, the record of its proof, its images and its preview."""
    preview = [] if record["preview"] is None else [record["preview"]]
    return [record["delta"], record["probe"], *record["references"], *preview]


def free_of(state: StateRecord, n_weights: int) -> Free:
    """Neurons that no concept owns, out of `n_weights` K/V weights."""
    return Free(neurons=state["free"], share=state["free"] / n_weights)


Check = Callable[[object], bool]


def frozen(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An immutable copy of a document; one that is immutable already is returned."""
    if type(document) is MappingProxyType:
        return document
    return MappingProxyType({key: _frozen(value) for key, value in document.items()})


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return MappingProxyType(dict(value))
    return tuple(value) if isinstance(value, list) else value


def concept_fault(document: object) -> str | None:
    """Name what is wrong with a concept's document, or None."""
    fault = _fault(document, _CONCEPT)
    if fault is None and isinstance(document, Mapping) and len(document["captions"]) != len(document["references"]):
        return "captions"
    return fault


def run_fault(document: object) -> str | None:
    """Name what is wrong with a run's document, or None."""
    return _fault(document, _RUN)


def state_fault(document: object) -> str | None:
    """Name what is wrong with the state's document, or None."""
    return _fault(document, _STATE)


def _fault(document: object, checks: Mapping[str, Check]) -> str | None:
    if not isinstance(document, Mapping):
        return "not an object"
    if missing := sorted(set(checks) - set(document)):  # other keys are those of a newer version, and are kept
        return f"{missing[0]} (missing)"
    return next((key for key, check in checks.items() if not check(document[key])), None)


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53  # exact in every JSON reader


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_line(value: object) -> bool:
    """Printable text, without control sequences of a terminal."""
    return isinstance(value, str) and len(value) <= 4096 and value.isprintable()


@lru_cache(maxsize=256)
def _is_key(key: str) -> bool:
    """Cached, because every concept has the same keys."""
    return _is_line(key)


def _is_caption(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 1 << 16 and _encodes(value))


def _encodes(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, (list, tuple)) and all(check(item) for item in value)


def _table_of(key: Callable[[str], bool], item: Check) -> Check:
    return lambda value: isinstance(value, Mapping) and all(key(k) and item(v) for k, v in value.items())


def _is_setting(value: object) -> bool:
    return isinstance(value, bool) or _is_number(value) or _is_line(value)


def _is_score(value: object) -> bool:
    return value is None or _is_number(value) or _is_line(value)


_CONCEPT: Mapping[str, Check] = {
    "id": _matches(ID),
    "name": _matches(NAME),
    "seq": _is_count,
    "class_word": lambda value: _is_line(value) and value == value.strip(),  # type: ignore[attr-defined]
    "tokens": lambda value: _is_count(value) and value != 0,
    "neurons": _is_count,
    "share": _is_share,
    "share_denoiser": _is_share,
    "bytes": _is_count,
    "created": _matches(_UTC),
    "delta": _matches(_SHA256),
    "references": _list_of(_matches(_SHA256)),
    "captions": _list_of(_is_caption),
    "probe": _matches(_SHA256),
    "preview": lambda value: value is None or _matches(_SHA256)(value),
    "recipe": _table_of(_is_key, _is_setting),
    "scores": _table_of(_is_key, _is_score),
}

_RUN: Mapping[str, Check] = {
    "verb": _is_line,
    "name": _matches(NAME),
    "when": _matches(_UTC),
    "outcome": _is_line,
    "seconds": lambda value: _is_number(value) and value >= 0,  # type: ignore[operator]
}

_STATE: Mapping[str, Check] = {
    "generation": _is_count,
    "free": _is_count,
    "next_seq": _is_count,
    "owners": lambda value: value is None or _matches(_SHA256)(value),
    "recent": _list_of(_matches(_SHA256)),
    "owned": lambda value: value is None or _matches(_SHA256)(value),
    "uncounted": _list_of(_matches(ID)),
}
