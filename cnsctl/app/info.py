"""`info`: what image files record about how they were generated.

Owns the facts about a file of which nothing is trusted; must not know stores or terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app import made
from cnsctl.data.decoding import facts_of
from cnsctl.errors import CnsctlError, PartialFailureError, UsageError
from cnsctl.home_folder import from_home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_TEXTS = 20
"""Names of texts in a file that are listed."""


def info(paths: Sequence[str | Path]) -> results.InfoResult:
    """What each file records. One of several that cannot be read has a `problem`.

    Raises:
        UsageError: the only file does not exist.
        ImageError: the only file cannot be read.
    """
    return results.InfoResult(images=tuple(_facts(path, alone=len(paths) == 1) for path in paths))


def problem(result: results.InfoResult) -> PartialFailureError | None:
    """What a command must report after the result."""
    failed = sum(image.problem is not None for image in result.images)
    return None if not failed else PartialFailureError(f"{failed} of {len(result.images)} files cannot be read")


def _facts(path: str | Path, *, alone: bool) -> results.ImageFacts:
    kind = width = height = record = None
    names: tuple[str, ...] = ()
    sheet, why = False, None
    try:
        file = from_home(path)
        if not file.exists():
            raise UsageError(f"image not found: {path}", reason="info-missing")
        found = facts_of(file)
        kind, (width, height) = found.kind, found.size
        sheet = made.SHEET in found.texts
        names = tuple(sorted(n[:80] for n in found.texts if n not in (made.KEY, made.SHEET, made.SOFTWARE)))[:MAX_TEXTS]
        record = made.parsed(found.texts, str(path))
    except CnsctlError as err:
        if alone:
            raise
        why = err.what
    return results.ImageFacts(
        path=str(path), kind=kind, width=width, height=height, made=record, sheet=sheet, texts=names, problem=why
    )
