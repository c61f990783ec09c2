"""How a training run was started, so that it can be shown and repeated.

The arguments are kept in the training state while the run lasts, and in the concept's record afterwards.

Owns this text and what is left out of it; must not know how a command line is written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.results import Arguments
from cnsctl.settings import BY_BASE, ComputeSettings, TrainSettings, checked, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.app.requests import TrainRequest
    from cnsctl.bases.base_folder import BaseFolder

KEY = "arguments"
"""In the recipe of a concept's record."""

FILE = "arguments.json"
"""In the folder of a training state."""

MOST = 4000
"""Characters. A longer text is kept without the images: thousands of files can be named one by one."""


def text_of(request: TrainRequest, folder: BaseFolder) -> str:
    """The arguments of a request, without settings that are equal to their defaults, as one line of JSON.

    Args:
        request: the training run.
        folder: of the base model, which sets some of the defaults.
    """
    settings = _different(TrainSettings, request.settings, folder.train)
    found = Arguments(
        images=tuple(str(Path(source).expanduser().absolute()) for source in request.sources),
        class_word=request.class_word,
        holdout=request.holdout,
        recursive=request.recursive,
        masks=None if request.masks is None else str(request.masks.absolute()),
        replace=request.replace,
        allow_worse=request.allow_worse,
        allow_forgetting=request.allow_forgetting,
        preview=request.preview,
        measure=request.measure,
        settings={**settings, **_different(ComputeSettings, request.compute, {})},
    )
    text = _line(found)
    return text if len(text) <= MOST and text.isprintable() else _line(found, images=(), masks=None)


def _different(kind: type, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults, in the order of their declaration; choices as words."""
    known = {name: defaults.get(name) if s.default is BY_BASE else s.default for name, s in settings_of(kind).items()}
    values = checked(kind, given)
    found = {name: values[name] for name in known if name in values and values[name] != known[name]}
    return {name: str(value) if isinstance(value, StrEnum) else value for name, value in found.items()}


def _line(arguments: Arguments, **changes: Any) -> str:
    return json.dumps({**asdict(arguments), **changes}, ensure_ascii=False)


def from_text(text: object) -> Arguments | None:
    """The arguments in a text; None if it is missing, or not of this form."""
    if not isinstance(text, str):
        return None
    try:
        found = json.loads(text)
        known = {f.name: found[f.name] for f in fields(Arguments)}
        images, settings = known["images"], known["settings"]
        if not isinstance(settings, dict) or not all(
            isinstance(value, (str, int, float)) for value in settings.values()
        ):
            return None
        return Arguments(**{**known, "images": tuple(str(image) for image in images)})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
