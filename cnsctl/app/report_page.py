"""Pages about a store: the measurements of `eval`, and every concept at a glance.

Owns what is on a page; must not know HTML (`report/pages.py`) or terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cnsctl
from cnsctl import results
from cnsctl.app.concepts import holdout_of, require, summary
from cnsctl.app.output_paths import check_folder, keep
from cnsctl.app.processes import are_several
from cnsctl.app.stores import base_model
from cnsctl.data.prompt_grammar import parse, render_class
from cnsctl.errors import CnsctlError, UsageError
from cnsctl.events import Compared, Event, Note, Warn
from cnsctl.store import write_atomic, write_once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.report.pages import Bar, Cell, Figure, HeatMap, Picture, Section, Strip
    from cnsctl.store import ConceptRecord, Store

TRAINING_IMAGES = 6
"""Images of a concept on a page."""

MAPPED = 40
"""Concepts at most in the table of shared neurons, whose size grows with their pairs."""


def check_page(path: Path, *, force: bool) -> None:
    """Check, before anything is measured, that a page can be written.

    Raises:
        UsageError: the file exists, its folder cannot be one, or several processes measure together.
        DiskError: write permission is missing.
    """
    if are_several():  # the images of the other processes would be missing
        raise UsageError("several processes cannot write one page", hint="run the command without a launcher")
    if path.is_dir():
        raise UsageError(f"the page would replace a folder: {path}", hint="name a file, such as page.html")
    if path.exists() and not force:
        raise _exists(path)
    check_folder(path.parent)


def _exists(path: Path) -> UsageError:
    return UsageError(f"file already exists: {path}", reason="page-exists")


def _keep(path: Path, text: str, *, force: bool) -> None:
    """Write the page. Without `force`, a file that another process has written meanwhile stays."""
    try:
        keep(path, text.encode(), write=write_atomic if force else write_once)
    except FileExistsError as err:
        raise _exists(path) from err


def measured(
    store: Store,
    work: Generator[Event, None, results.EvaluateResult],
    path: Path,
    *,
    force: bool,
    failed: Callable[[CnsctlError], None] | None = None,
) -> Generator[Event, None, results.EvaluateResult]:
    """Pass on the events of `evaluate`, and write its result with the images as a page.

    Measuring takes minutes, so the result is returned even if the page cannot be written.

    Args:
        store: that is measured.
        work: from `evaluate`.
        path: of the page.
        force: overwrite the file.
        failed: called with the error if the page cannot be written; without it, that is a warning.

    Raises:
        UsageError, DiskError: as `check_page`, before anything is measured.
    """
    check_page(path, force=force)
    images: dict[str, Compared] = {}
    while True:
        try:
            event = next(work)
        except StopIteration as done:
            result: results.EvaluateResult = done.value
            break
        if isinstance(event, Compared):
            images[event.name] = event
        yield event
    try:
        _keep(path, _evaluation(store, result, images), force=force)
    except CnsctlError as err:
        if failed is None:
            yield Warn(text=f"the page was not written: {err}")
        else:
            failed(err)
    else:
        yield Note(text=f"page: {path}")
    return result


def gallery(store: Store, path: Path, *, force: bool) -> Generator[Event, None, results.GalleryResult]:
    """Write every concept of the store as a page; no model is loaded.

    Raises:
        ConceptNotFoundError: the store is empty.
        UsageError, DiskError: as `check_page`.
    """
    check_page(path, force=force)
    from cnsctl.report.pages import Page, html

    records, sections = require(store, []), []
    for record in records:
        section, missing = _listed(store, record)
        sections.append(section)
        yield from (Warn(text=text) for text in missing)
    page = Page(
        title="Concepts",
        subtitle=f"{len(records)} in {store.path.name}, mode {store.mode}, base model {store.base.name}",
        figures=_space(store, records),
        sections=sections,
        footer=_footer(),
    )
    _keep(path, html(page), force=force)
    return results.GalleryResult(store=str(store.path), page=str(path), concepts=tuple(r["name"] for r in records))


def _evaluation(store: Store, result: results.EvaluateResult, images: Mapping[str, Compared]) -> str:
    from cnsctl.report.pages import Page, html

    snapshot = store.snapshot()
    rows = [row for row in result.concepts if row.name in snapshot.names]
    records = [snapshot.concept(row.name) for row in rows]
    base = base_model(store)
    page = Page(
        title="Evaluation",
        subtitle=f"{store.path.name}: base model {base.name}, mode {result.mode}, {result.device}, {result.dtype}",
        figures=[*_space(store, snapshot.concepts), *_drift(result.drift)],
        sections=[_row(store, record, row, images.get(row.name)) for record, row in zip(records, rows, strict=True)],
        maps=[found for found in (_forgetting(rows), _shared(store, records)) if found is not None],
        bars=_owned(store),
        bars_title="Ownership by site",
        footer=_footer(),
    )
    return html(page)


def _row(store: Store, record: ConceptRecord, row: results.Evaluated, images: Compared | None) -> Section:
    """One concept of an evaluation."""
    from cnsctl.report.pages import Section

    return Section(
        name=record["name"],
        subtitle=_subtitle(store, record),
        verdict=_sentence(row.verdict),
        figures=_scores(row),
        strips=[*_own(store, record, []), *([] if images is None else _pairs(images, record["class_word"]))],
    )


def _scores(row: results.Evaluated) -> list[Figure]:
    from cnsctl.report.pages import Figure

    kind = "held-out" if row.held_out else "training"
    on = f"{row.measured_on} {kind} image{'' if row.measured_on == 1 else 's'}"
    found = [
        Figure(
            name="Error removed",
            value=f"{row.error_removed:.1f} ± {row.error_removed_spread:.1f} %",
            meaning=f"on {on}; ± over three noise seeds",
        )
    ]
    for name, now, plain, real in (
        ("CLIP-I", row.clip_i, row.clip_i_class, row.clip_i_real),
        ("CLIP-T", row.clip_t, row.clip_t_class, None),
    ):
        if now is not None:
            beside = [f"class word {plain:.3f}"] if plain is not None else []
            beside += [f"real images {real:.3f}"] if real is not None else []
            found.append(Figure(name=name, value=f"{now:.3f}", meaning=", ".join(beside)))
    lost = row.forgetting.error_removed
    if lost is not None:
        found.append(Figure(name="Forgotten since training", value=f"{lost:+.1f} points", meaning="of error removed"))
    return found


def _sentence(verdict: results.Verdict | None) -> str:
    return "" if verdict is None else f"{verdict.words[:1].upper()}{verdict.words[1:]}."


def _pairs(images: Compared, class_word: str) -> Iterator[Strip]:
    from cnsctl.report.pages import Strip, picture

    words = {images.name: class_word}
    plain = [render_class(parse(prompt, words), words) for prompt in images.prompts]  # as they were generated
    for title, shown, prompts in (
        (f"<{images.name}>", images.images, images.prompts),
        (f"{class_word or 'without the concept'}, same seeds", images.plain, plain),
    ):
        pictures = [
            picture(pixels, alt=f"Generated from: {prompt}, seed {seed}", caption=f"{prompt}, seed {seed}")
            for pixels, prompt, seed in zip(shown, prompts, images.seeds, strict=True)
        ]
        yield Strip(title=title, pictures=pictures)


def _listed(store: Store, record: ConceptRecord) -> tuple[Section, list[str]]:
    """One concept of the gallery, and what of it cannot be read."""
    from cnsctl.report.pages import Figure, Section, Strip

    missing: list[str] = []
    strips = list(_own(store, record, missing))
    if record["preview"] is not None:
        alt = f"Images generated right after training: <{record['name']}>"
        shown = list(_readable(store, [record["preview"]], [alt], missing, side=1024))
        strips = [*strips, Strip(title="Generated right after training", pictures=shown)] if shown else strips
    facts = summary(store, record)
    removed = facts.scores.error_removed
    figures = [
        Figure(name="Neurons", value=f"{facts.neurons:,}", meaning=f"{100 * facts.share:.2f} % of the K/V weights"),
        Figure(name="Delta", value=f"{facts.bytes / 1000:.0f} KB"),
    ]
    if removed is not None:
        figures.append(Figure(name="Error removed", value=f"{removed:.1f} %", meaning="right after training"))
    notes = missing if not facts.damaged else [*missing, "The delta of this concept is damaged."]
    section = Section(
        name=record["name"],
        subtitle=_subtitle(store, record),
        verdict=_sentence(facts.verdict),
        figures=figures,
        strips=strips,
        lines=[f'cnsctl gen "<{record["name"]}> on a beach"'],
        notes=notes,
    )
    return section, missing


def _own(store: Store, record: ConceptRecord, missing: list[str]) -> Iterator[Strip]:
    """The first of a concept's own images; `missing` gets those that cannot be read."""
    from cnsctl.report.pages import Strip

    files = record["references"][:TRAINING_IMAGES]
    trained = len(record["references"]) - holdout_of(record)
    kinds = ["Training image" if n <= trained else "Held-out image" for n in range(1, len(files) + 1)]
    alts = [f"{kind} {n} of <{record['name']}>" for n, kind in enumerate(kinds, start=1)]
    shown = list(_readable(store, files, alts, missing))
    if shown:
        yield Strip(title=f"Its images ({len(shown)} of {len(record['references'])})", pictures=shown)


def _readable(
    store: Store, files: Sequence[str], alts: Sequence[str], missing: list[str], *, side: int = 256
) -> Iterator[Picture]:
    from cnsctl.report.pages import picture_of

    for sha, alt in zip(files, alts, strict=True):
        try:
            yield picture_of(store.blob(sha), alt=alt, side=side)
        except (CnsctlError, OSError, ValueError):
            missing.append(f"cannot read an image: {alt}")


def _subtitle(store: Store, record: ConceptRecord) -> str:
    facts = summary(store, record)
    made = f"trained {facts.created[:10]} on {facts.images - facts.held_out} images"
    return f"{facts.class_word or 'no class word'}; {made if facts.images else f'imported {facts.created[:10]}'}"


def _space(store: Store, records: Sequence[ConceptRecord]) -> list[Figure]:
    from cnsctl.report.pages import Figure

    free = store.free()
    size = sum(record["bytes"] for record in records)
    return [
        Figure(name="Concepts", value=str(len(records)), meaning=f"{size / 2**20:.1f} MB of deltas"),
        Figure(
            name="Free K/V weights", value=f"{100 * free.share:.1f} %", meaning=f"{free.neurons:,} without an owner"
        ),
    ]


def _drift(drift: results.Drift | None) -> list[Figure]:
    from cnsctl.report.pages import Figure

    if drift is None:
        return []
    value = f"{drift.changed} of {drift.images} images"
    return [Figure(name="Drift without a concept", value=value, meaning=f"mean {drift.mean_abs:.3f} of 255 levels")]


def _forgetting(rows: Sequence[results.Evaluated]) -> HeatMap | None:
    """What each concept has lost since its training, by metric."""
    from cnsctl.report.pages import Cell, HeatMap

    def cell(lost: float | None, strong: float, text: str) -> Cell:
        return Cell(text="–", heat=0) if lost is None else Cell(text=text.format(lost), heat=_unit(lost / strong))

    if not rows:
        return None
    return HeatMap(
        title="Forgetting",
        note="Score right after training minus score now. Red means that a concept became worse.",
        columns=("error removed, points", "CLIP-I", "CLIP-T"),
        rows=[
            (
                row.name,
                (
                    cell(row.forgetting.error_removed, 5.0, "{:+.1f}"),
                    cell(row.forgetting.clip_i, 0.1, "{:+.3f}"),
                    cell(row.forgetting.clip_t, 0.1, "{:+.3f}"),
                ),
            )
            for row in rows
        ],
    )


def _shared(store: Store, records: Sequence[ConceptRecord]) -> HeatMap | None:
    """Neurons that pairs of concepts share."""
    from cnsctl.report.pages import Cell, HeatMap

    if not 2 <= len(records) <= MAPPED:
        return None
    rows: list[tuple[str, Sequence[Cell]]] = []
    for record in records:
        others = store.index.overlaps(record, [other for other in records if other["id"] != record["id"]])
        cells = []
        for other in records:
            shared = record["neurons"] if other["id"] == record["id"] else others[other["name"]]
            share = 0.0 if shared is None or not record["neurons"] else shared / record["neurons"]
            cells.append(Cell(text="?" if shared is None else f"{100 * share:.0f} %", heat=_unit(share)))
        rows.append((record["name"], cells))
    note = "Share of the row's neurons that the column's concept owns too."
    return HeatMap(title="Shared neurons", note=note, columns=[r["name"] for r in records], rows=rows)


def _owned(store: Store) -> list[Bar]:
    """Per site: the share of its weights that concepts own."""
    import numpy as np

    from cnsctl.report.pages import Bar

    bars = []
    for site, bits in store.index.owned(store.snapshot()).items():
        rows, columns = store.base.sites[site]
        owned = int(np.bitwise_count(bits).sum(dtype=np.int64))
        share = owned / (rows * columns)
        bars.append(Bar(name=site, share=share, text=f"{100 * share:.1f} %"))
    return bars


def _unit(value: float) -> float:
    """Cut to 0 … 1."""
    return min(1.0, max(0.0, value))


def _footer() -> str:
    return f"Written by cnsctl {cnsctl.__version__}. The page needs no network."
