"""`demo`: train two concepts on the bundled images, show them alone and together, and prove that the second changed nothing.

Owns which images and prompts the demo shows, and what it compares; must not know terminals.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import cnsctl
from cnsctl import results
from cnsctl.app import forecast
from cnsctl.app.concepts import known_names, scores_of
from cnsctl.app.counting import Count
from cnsctl.app.demo_sheet import Compared, Row, laid_out, sheet, strips
from cnsctl.app.kept_images import Shot, kept, making
from cnsctl.app.output_paths import keep
from cnsctl.app.probes import class_prompt
from cnsctl.app.requests import TrainRequest
from cnsctl.app.session import Session, started
from cnsctl.app.stores import open_base, open_or_create
from cnsctl.app.train import foreseen, train
from cnsctl.app.verify import PROVE, verify
from cnsctl.data.prompt_grammar import parse
from cnsctl.errors import ForgettingError
from cnsctl.events import Denoised, Event, Note, Sheet

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.app.demo_sheet import Pixels
    from cnsctl.app.forecast import Costs
    from cnsctl.concept import Prompt
    from cnsctl.errors import CnsctlError
    from cnsctl.report.contact_sheet import SheetRow
    from cnsctl.store import Store

EXAMPLES = Path(cnsctl.__file__).parent / "examples"
"""Folders of images inside the package: dog, hat, cat, robot, castle."""

CONCEPTS: Mapping[str, str] = {"dog": "dog", "hat": "top hat"}
"""Name → class word, in training order."""

FIRST, SECOND = CONCEPTS

PLACES = ("in a desert", "on the moon")
"""Places in the prompts. No training image shows them."""

TIMED_STEPS = 4
"""Denoising steps that are timed for the estimate. The first one, which also prepares the others, does not count."""

WORTH_TIMING = 100
"""Cost of work that is worth this: less is done when the estimate is."""

WORTH_SAYING_S = 20.0
"""Shorter work needs no estimate."""


IMAGES = "images"
"""Folder of the generated images."""

BASE, BEFORE, AFTER, ALONE = "base", "before", "after", "cnsctl"
"""Kinds of images: of the class words; of the first concept before and after the second was trained; of other concepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The images of one row of the sheet: some concepts in each place, and their class words with the same seeds."""

    shown: Sequence[str]
    """Concepts."""
    prompts: Sequence[str]
    kind: str
    """Of the images with concepts."""

    def names(self, kind: str) -> list[str]:
        """Of the files of this kind, without suffix."""
        return [f"{'-'.join(self.shown)}-{kind}-{place + 1}" for place in range(len(self.prompts))]


LINES = (
    Line(shown=[FIRST], prompts=[f"a <{FIRST}> {place}" for place in PLACES], kind=AFTER),
    Line(shown=[SECOND], prompts=[f"a <{SECOND}> {place}" for place in PLACES], kind=ALONE),
    Line(shown=[FIRST, SECOND], prompts=[f"a <{FIRST}> wearing a <{SECOND}> {place}" for place in PLACES], kind=ALONE),
)


def demo(
    output: Path, settings: Mapping[str, Any], compute: Mapping[str, Any]
) -> Generator[Event, None, results.DemoResult]:
    """Train, generate, compare and lay out; what the folder contains already is not done again."""
    store, created = open_or_create(output / "store")
    yield Note(text=f"{'created' if created else 'found'} the demo's store at {store.path}")
    asked = {name: _request(name, settings, compute) for name in CONCEPTS if name not in known_names(store)}
    first, before, second, after, proof = _parts(store, asked, output / IMAGES)
    yield forecast.after_loading((*first, *before, *second, *after, *proof))
    session = yield from started(store, compute, None, hash_weights=True, work="add")
    yield from _estimate(session, (*first, *before, *second, *after), list(asked))
    if FIRST in asked:
        yield from forecast.followed(train(store, asked[FIRST], session=session), (*before, *second, *after, *proof))
    early = yield from _early(session, output / IMAGES, is_time=SECOND in asked)
    if SECOND in asked:
        yield from forecast.followed(train(store, asked[SECOND], session=session), (*after, *proof))
    rows, late = yield from _rows(session, output / IMAGES)
    compared = None if early is None else Compared(before=early, after=late)
    if compared is None:
        yield Note(text=f"not compared: the images of <{FIRST}> from before <{SECOND}> was trained are missing")
    proved = yield from verify(store, [], session=session)
    shown = yield from _shown(output / "sheet.png", laid_out(rows, compared, proved.concepts))
    return results.DemoResult(
        store=str(store.path),
        sheet=shown,
        images=str(output / IMAGES),
        concepts=tuple(CONCEPTS),
        bytes_compared=None if compared is None else compared.n_bytes,
        bytes_differ=None if compared is None else sum(compared.differ),
        verified=proved.concepts,
    )


def _shown(path: Path, rows: Sequence[SheetRow]) -> Generator[Event, None, str]:
    """Write the sheet, and say so."""
    pixels, png = sheet(rows)
    keep(path, png)
    yield Sheet(path=str(path), pixels=pixels, strips=strips(rows))
    return str(path)


def problem(result: results.DemoResult) -> CnsctlError | None:
    """What a command must report after the result: a concept that has changed."""
    changed = [row.name for row in result.verified if row.forgotten]
    if not changed and not result.bytes_differ:
        return None
    what = f"{', '.join(changed)} changed" if changed else f"{result.bytes_differ:,} bytes of images differ"
    return ForgettingError(f"the demo's proof failed: {what}", reason="forgotten")


def _request(name: str, settings: Mapping[str, Any], compute: Mapping[str, Any]) -> TrainRequest:
    return TrainRequest(
        name=name,
        sources=[EXAMPLES / name],
        class_word=CONCEPTS[name],
        settings=settings,
        compute=compute,
        allow_worse=True,  # the sheet shows it
    )


def _parts(store: Store, asked: Mapping[str, TrainRequest], images: Path) -> tuple[Costs, Costs, Costs, Costs, Costs]:
    """What is ahead: the first concept, its images, the second concept, all other images, the proof."""
    own = open_base(store).generate_settings()

    def training(name: str) -> Costs:
        if name not in asked:
            return ()
        return foreseen(store, asked[name], len(list((EXAMPLES / name).glob("*.png"))))

    def generating(names: Sequence[str]) -> Costs:
        missing = [name for name in names if asked or not (images / f"{name}.png").exists()]
        return ((forecast.GENERATE, len(missing) * forecast.image_rows(own) + 1),)

    late = [name for line in LINES for name in (*line.names(BASE), *line.names(line.kind))]
    early = generating(LINES[0].names(BEFORE)) if SECOND in asked else ()
    return training(FIRST), early, training(SECOND), generating(late), ((PROVE, len(CONCEPTS)),)


def _estimate(session: Session, ahead: Costs, training: Sequence[str]) -> Iterator[Note]:
    """How long it will take, from a few steps of an image on this machine; of short work nothing."""
    from cnsctl.engine.generate import Request, Texts, generation
    from cnsctl.engine.overlay import EMPTY

    if sum(cost for _, cost in ahead) < WORTH_TIMING:
        return
    settings = replace(session.base.generate_defaults, steps=TIMED_STEPS)
    request = Request(prompt=parse(CONCEPTS[FIRST], ()), seed=0)
    ends = []
    for event in generation(Texts(session.base, settings), EMPTY, [request], settings):
        if not isinstance(event, Denoised):
            break
        ends.append(time.monotonic())
    rows = 2 if settings.guidance_scale > 1 else 1
    row_s = median(b - a for a, b in pairwise(ends)) / rows if len(ends) > 1 else 0.0
    whole_s = row_s * sum(cost for _, cost in ahead)
    if whole_s < WORTH_SAYING_S:
        return
    names = " and ".join(f"<{name}>" for name in training)
    yield Note(
        text=f"{roughly(whole_s)} on this machine: {f'training {names}, then ' if names else ''}images and a proof"
    )


def roughly(seconds: float) -> str:
    """`about 40 seconds` or `about 3 minutes`."""
    if seconds < 55:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'' if minutes == 1 else 's'}"


def _shots(line: Line, kind: str, prompts: Sequence[Prompt], store: Mapping[str, str] | None = None) -> list[Shot]:
    named = zip(line.names(kind), prompts, strict=True)
    return [Shot(name=name, prompt=prompt, seed=seed, store=store) for seed, (name, prompt) in enumerate(named)]


def _early(session: Session, images: Path, *, is_time: bool) -> Generator[Event, None, list[Pixels] | None]:
    """Images of the first concept from before the second one was trained: now is the time, or an earlier call made them."""
    overlay, line = session.overlay([FIRST]), LINES[0]
    store = {name: concept.key for name, concept in overlay.concepts.items()}
    shots = _shots(line, BEFORE, [parse(text, overlay.concepts) for text in line.prompts], store)
    if is_time:
        count = Count(forecast.GENERATE, len(shots))
        yield count.begin()
        return (yield from count.each(making(session, overlay, images, shots)))
    found = [kept(session, overlay, images, shot) for shot in shots]
    return [pixels for pixels in found if pixels is not None] if all(p is not None for p in found) else None


def _rows(session: Session, images: Path) -> Generator[Event, None, tuple[list[Row], list[Pixels]]]:
    """The rows of the sheet, and the first concept's images now that the second one is trained."""
    overlay = session.overlay(CONCEPTS)
    store = {record["name"]: record["delta"] for record in session.store.concepts()}
    shots = []
    for line in LINES:
        prompts = [parse(text, overlay.concepts) for text in line.prompts]
        shots += _shots(line, BASE, [class_prompt(overlay, prompt) for prompt in prompts])
        shots += _shots(line, line.kind, prompts, store if line.kind == AFTER else None)
    count = Count(forecast.GENERATE, len(shots))
    yield count.begin()
    found = yield from count.each(making(session, overlay, images, shots))
    pixels = {shot.name: image for shot, image in zip(shots, found, strict=True)}
    texts = {shot.name: shot.prompt.text for shot in shots}
    return [_row(session, line, pixels, texts) for line in LINES], [pixels[name] for name in LINES[0].names(AFTER)]


def _row(session: Session, line: Line, pixels: Mapping[str, Pixels], texts: Mapping[str, str]) -> Row:
    records = [session.store.concept(name) for name in line.shown]
    references = [session.references(record) for record in records]
    base, own = line.names(BASE), line.names(line.kind)
    removed = [scores_of(record).error_removed for record in records]
    return Row(
        shown=line.shown,
        class_words=[CONCEPTS[name] for name in line.shown],
        error_removed=removed[0] if len(removed) == 1 else None,
        training=references[0][: len(PLACES)] if len(references) == 1 else [of_one[0] for of_one in references],
        base=[pixels[name] for name in base],
        base_prompts=[texts[name] for name in base],
        own=[pixels[name] for name in own],
        own_prompts=[texts[name] for name in own],
    )
