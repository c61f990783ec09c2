"""`demo`: train two concepts on the bundled images, generate them alone and together, on one contact sheet.

Owns which images and prompts the demo shows; must not know terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cnsctl
from cnsctl import results
from cnsctl.app.concepts import known_names
from cnsctl.app.counting import Count
from cnsctl.app.forecast import GENERATE
from cnsctl.app.output_paths import keep
from cnsctl.app.probes import class_prompt, generating
from cnsctl.app.requests import TrainRequest
from cnsctl.app.session import Session, started
from cnsctl.app.stores import open_or_create
from cnsctl.app.train import train
from cnsctl.data.prompt_grammar import parse
from cnsctl.events import Denoised, Event, Note

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from cnsctl.engine.overlay import Overlay
    from cnsctl.report.contact_sheet import SheetRow

EXAMPLES = Path(cnsctl.__file__).parent / "examples"
"""Folders of images inside the package: dog, hat, cat, robot, castle."""

CONCEPTS: Mapping[str, str] = {"dog": "dog", "hat": "top hat"}
"""Name → class word."""

TRAINED_ON = 2
"""Training images in a row: the row of both concepts shows one of each, so all rows have the same width."""

PLACES = ("in a desert", "on the moon", "in a room")
"""Places in the prompts. No training image shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    label: str
    shown: Sequence[str]
    """Concepts whose training images are on the left."""
    prompts: Sequence[str]


def demo(
    output: Path, settings: Mapping[str, Any], compute: Mapping[str, Any]
) -> Generator[Event, None, results.DemoResult]:
    """Train, generate and lay out; concepts that the folder's store contains are not trained again."""
    store, created = open_or_create(output / "store")
    yield Note(text=f"{'created' if created else 'found'} the demo's store at {store.path}")
    for name, class_word in CONCEPTS.items():
        if name in known_names(store):
            yield Note(text=f"<{name}> is trained already")
            continue
        yield Note(text=f"training <{name}> on {EXAMPLES / name}")
        request = TrainRequest(
            name=name,
            sources=[EXAMPLES / name],
            class_word=class_word,
            settings=settings,
            compute=compute,
            allow_worse=True,  # the sheet shows it
        )
        yield from train(store, request)
    session = yield from started(store, compute, None)
    overlay = session.overlay(CONCEPTS)
    lines = _lines()
    count = Count(GENERATE, sum(2 * len(line.prompts) for line in lines))
    yield count.begin()
    rows: dict[str, SheetRow] = {}
    for line in lines:
        rows[line.label] = yield from count.each(_row(session, overlay, line))
    path = output / "sheet.png"
    keep(path, _sheet(list(rows.values())))
    return results.DemoResult(store=str(store.path), sheet=str(path), concepts=tuple(CONCEPTS))


def _lines() -> list[_Line]:
    return [
        *(_Line(label=f"<{name}>", shown=[name], prompts=[f"a <{name}> {p}" for p in PLACES]) for name in CONCEPTS),
        _Line(label="<dog> and <hat>", shown=["dog", "hat"], prompts=[f"a <dog> wearing a <hat> {p}" for p in PLACES]),
    ]


def _row(session: Session, overlay: Overlay, line: _Line) -> Generator[Denoised | None, None, SheetRow]:
    from cnsctl.report.contact_sheet import SheetGroup, SheetRow

    prompts = [parse(text, overlay.concepts) for text in line.prompts]
    plain = [class_prompt(overlay, p) for p in prompts]
    asked = [(p, seed) for half in (plain, prompts) for seed, p in enumerate(half)]
    images = yield from generating(session, overlay, asked, session.base.generate_defaults)
    references = [session.references(session.store.concept(name)) for name in line.shown]
    shown = references[0][:TRAINED_ON] if len(references) == 1 else [of_one[0] for of_one in references]
    words = " and ".join(CONCEPTS[name] for name in line.shown)
    return SheetRow(
        label=line.label,
        groups=[
            SheetGroup(caption="training images", images=shown),
            SheetGroup(caption=f"base model: {words}", images=images[: len(plain)]),
            SheetGroup(caption=f"cnsctl: {line.label}, same seeds", images=images[len(plain) :]),
        ],
    )


def _sheet(rows: Sequence[SheetRow]) -> bytes:
    from io import BytesIO

    from cnsctl.report.contact_sheet import contact_sheet

    file = BytesIO()
    contact_sheet(rows, title="cnsctl demo").save(file, "PNG", optimize=True)
    return file.getvalue()
