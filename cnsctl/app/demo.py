"""`demo`: train two concepts on the bundled images, generate them alone and together, on one contact sheet.

Owns which images and prompts the demo shows; must not know terminals.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cnsctl
from cnsctl.app.measure import class_prompt
from cnsctl.app.output_paths import keep
from cnsctl.app.requests import AddRequest
from cnsctl.app.session import Compute, Session, start
from cnsctl.app.shelf import known_names, open_or_create
from cnsctl.app.train import add
from cnsctl.data.prompt_grammar import parse
from cnsctl.results import Answer, Event, Note, Phase, Step
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnsctl.engine.overlay import Overlay
    from cnsctl.report.contact_sheet import SheetRow

EXAMPLES = Path(cnsctl.__file__).parent / "examples"
"""Folders of images inside the package: dog, hat, cat, robot, castle."""

CONCEPTS: Mapping[str, str] = {"dog": "dog", "hat": "top hat"}
"""Name → class word."""

TRAINED_ON = 2
"""Training images that a row shows: all rows are of the same width, with one image of each of two concepts."""

PLACES = ("in a desert", "on the moon", "in a room")
"""Of the generated images; no training image shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    label: str
    shown: Sequence[str]
    """Concepts whose training images are at the left."""
    prompts: Sequence[str]


def demo(output: Path, settings: Mapping[str, Any], compute: Compute) -> Iterator[Event]:
    """Learn, draw and lay out; what the folder's store holds already is not learned again."""
    store, made = open_or_create(output / "store")
    yield Note(text=f"{'made' if made else 'found'} the demo's store at {store.path}")
    for name, class_word in CONCEPTS.items():
        if name in known_names(store):
            yield Note(text=f"<{name}> is learned already")
            continue
        yield Note(text=f"learning <{name}> from {EXAMPLES / name}")
        request = AddRequest(
            name=name, sources=[EXAMPLES / name], class_word=class_word, settings=settings, compute=compute
        )
        with closing(add(store, request)) as events:
            yield from (event for event in events if not isinstance(event, Answer))
    yield Phase(name="load the base")
    session = start(store, compute)
    overlay = session.overlay(CONCEPTS)
    rows: list[SheetRow] = []
    lines = _lines()
    yield Phase(name="draw", total=len(lines))
    for i, line in enumerate(lines):
        rows.append(_row(session, overlay, line))
        yield Step(phase="draw", step=i + 1, total=len(lines))
    path = output / "sheet.png"
    keep(path, _sheet(rows))
    yield Answer(data={"format": FORMAT, "store": str(store.path), "sheet": str(path), "concepts": list(CONCEPTS)})


def _lines() -> list[_Line]:
    return [
        *(_Line(label=f"<{name}>", shown=[name], prompts=[f"a <{name}> {p}" for p in PLACES]) for name in CONCEPTS),
        _Line(label="<dog> and <hat>", shown=["dog", "hat"], prompts=[f"a <dog> wearing a <hat> {p}" for p in PLACES]),
    ]


def _row(session: Session, overlay: Overlay, line: _Line) -> SheetRow:
    from cnsctl.engine.generate import Request, draw
    from cnsctl.report.contact_sheet import SheetGroup, SheetRow

    prompts = [parse(text, overlay.concepts) for text in line.prompts]
    plain = [class_prompt(overlay, p) for p in prompts]
    requests = [Request(prompt=p, seed=seed) for half in (plain, prompts) for seed, p in enumerate(half)]
    drawn = [picture for _, picture in draw(session.base, overlay, requests, session.base.draw_defaults)]
    references = [list(session.references(session.store.concept(name))) for name in line.shown]
    shown = references[0][:TRAINED_ON] if len(references) == 1 else [images[0] for images in references]
    words = " and ".join(CONCEPTS[name] for name in line.shown)
    return SheetRow(
        label=line.label,
        groups=[
            SheetGroup(caption="training images", pictures=shown),
            SheetGroup(caption=f"base model: {words}", pictures=drawn[: len(plain)]),
            SheetGroup(caption=f"cnsctl: {line.label}, same seeds", pictures=drawn[len(plain) :]),
        ],
    )


def _sheet(rows: Sequence[SheetRow]) -> bytes:
    from io import BytesIO

    from cnsctl.report.contact_sheet import contact_sheet

    file = BytesIO()
    contact_sheet(rows, title="cnsctl demo").save(file, "PNG", optimize=True)
    return file.getvalue()
