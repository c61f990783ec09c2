"""Older formats of the files that hold a store together, and the steps from each to the next.

A reader takes these steps in memory, so that a store of an older format can be read; only `migrate` writes their result.
Whoever raises the number of one of these formats adds the step from the number before, a golden file, and the key `needs`.

Owns the list of steps; must not know which files are read or written when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnsctl.formats import canonical

Step = Callable[[dict[str, Any]], dict[str, Any]]
"""From the payload of a format to that of the next one."""

STORE, CATALOGUE = "store.json", "catalogue.json"

STEPS: dict[str, dict[int, Step]] = {STORE: {}, CATALOGUE: {}}
"""By file and format. Version 0.1.0 was released with `store.json` 3 and `catalogue.json` 1, and nothing before it."""


def upgraded(file: str, number: int, payload: bytes, newest: int) -> dict[str, Any]:
    """The payload of a file in the newest format.

    Raises:
        ValueError: it is not JSON, or no released version wrote this format.
    """
    document: dict[str, Any] = canonical.parse_object(payload)
    for at in range(number, newest):
        step = STEPS[file].get(at)
        if step is None:
            raise ValueError(f"format {at} was never released; this version reads format {newest}")
        document = step(document)
    return document
