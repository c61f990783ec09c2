"""Concepts in a store, without any model: list, show, remove, rename.

Owns the results of the light commands; must not know torch or terminals.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.arguments import KEY, from_text
from cnsctl.app.stores import base_model, damage_of, is_default, nothing_yet, open_store, saved_but
from cnsctl.app.unfinished import unfinished_runs
from cnsctl.concept import Mode
from cnsctl.data.names import check_name
from cnsctl.errors import CnsctlError, ConceptNotFoundError, NameTakenError, StoreNotFoundError, UsageError
from cnsctl.events import Event, Warn
from cnsctl.export_formats import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, KeysView, Mapping, Sequence
    from pathlib import Path

    from cnsctl.store import ConceptRecord, Store

HOLDOUT = "holdout"
"""Key in a record's recipe, if images were held out: how many of the images, the last ones."""

ORIGIN_FORMAT = "origin_format"
ORIGIN_FILES = (("origin_file", "origin_sha256"), ("origin_file_2", "origin_sha256_2"))
IMPORT_ERROR, IMPORT_LOST = "import_error", "import_lost"
"""Keys in the recipe of an imported concept: fields of `results.Origin`."""

GRADE, REASONS, JOINED = "verdict", "verdict_reasons", "; "
"""Keys among a record's scores: a verdict and its reasons, and what is between two reasons."""

OWN_FORMATS = (ExportFormat.NATIVE, ExportFormat.BUNDLE)
"""Formats of deltas, whose neurons `add` selected."""


def listed(store: Store, names: Sequence[str] = ()) -> Generator[Event, None, results.ListResult]:
    """The concepts of a store, with a warning for each that is damaged.

    Args:
        store: of the concepts.
        names: of those wanted; by default all.

    Raises:
        ConceptNotFoundError: one is missing, and no training run has its name.
    """
    yield from damage_of(store)
    runs = tuple(run for run in unfinished_runs(store) if run.name in names or not names)
    known = store.snapshot()
    for name in set(names) - {run.name for run in runs}:
        known.concept(name)
    records = [record for record in known.concepts if record["name"] in names or not names]
    concepts = tuple(summary(store, record) for record in records)
    if (why := store.blobs_problem()) is not None:
        yield Warn(text=why)
    else:
        for concept in concepts:
            if concept.damaged:
                yield Warn(text=f"<{concept.name}> is damaged: its delta is missing or has the wrong size")
    return results.ListResult(
        store=str(store.path),
        base=base_model(store),
        mode=str(store.mode),
        free=store.free(),
        concepts=concepts,
        unfinished=tuple(name for name in store.work.unfinished() if name in names or not names),
        runs=runs,
    )


def listed_or_empty(path: Path | None, names: Sequence[str]) -> Generator[Event, None, results.ListResult]:
    """As `listed`; the default store is empty until the first concept is trained.

    Args:
        path: of the store, as given by the user.
        names: of the concepts wanted.
    """
    try:
        store = open_store(path)
    except StoreNotFoundError:
        if names or not is_default(path):
            raise
        yield from ()
        return nothing_yet()
    return (yield from listed(store, names))


def summary(store: Store, record: ConceptRecord) -> results.Concept:
    """The facts about a concept, as results contain them."""
    return results.Concept(
        name=record["name"],
        class_word=record["class_word"],
        tokens=record["tokens"],
        neurons=record["neurons"],
        share=record["share"],
        share_denoiser=record["share_denoiser"],
        bytes=record["bytes"],
        created=record["created"],
        images=len(record["references"]),
        held_out=holdout_of(record),
        scores=scores_of(record),
        verdict=verdict_of(record),
        damaged=store.is_damaged(record),
    )


def scores_of(record: ConceptRecord) -> results.Scores:
    """A concept's scores right after training. Records without a level were measured in full, on all images."""
    found = record["scores"]
    removed, level, count = _number(found.get("error_removed")), found.get("level"), _number(found.get("measured_on"))
    if "level" not in found and removed is not None:
        level, count = "full", measurable(record)
    return results.Scores(
        error_removed=removed,
        clip_i=_number(found.get("clip_i")),
        clip_t=_number(found.get("clip_t")),
        backbone=_text(found.get("backbone")),
        measured_on=None if count is None or count < 1 else int(count),
        level=_text(level),
        denoising_error=_number(found.get("denoising_error")),
        class_word_error=_number(found.get("class_word_error")),
        clip_i_real=_number(found.get("clip_i_real")),
    )


def verdict_fields(found: results.Verdict | None) -> dict[str, str]:
    """A verdict as a record has it, among the scores."""
    return {} if found is None else {GRADE: found.grade, REASONS: JOINED.join(found.reasons)}


def verdict_of(record: ConceptRecord) -> results.Verdict | None:
    """The verdict right after training; None if the base model is not calibrated, or nothing was measured."""
    grade, reasons = _text(record["scores"].get(GRADE)), _text(record["scores"].get(REASONS))
    if grade is None:
        return None
    return results.Verdict(grade=grade, reasons=tuple(reasons.split(JOINED)) if reasons else ())


def measurable(record: ConceptRecord) -> int:
    """How many of a concept's images it may be measured on: the held-out ones, or else all."""
    return holdout_of(record) or len(record["references"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def holdout_of(record: ConceptRecord) -> int:
    """How many of a concept's images were not trained on."""
    value = record["recipe"].get(HOLDOUT, 0)
    return value if isinstance(value, int) and 0 < value < len(record["references"]) else 0


def show(store: Store, name: str, *, overlaps: bool = False) -> results.ShowResult:
    """Everything about a concept, without reading its weights.

    Args:
        store: of the concept.
        name: of the concept.
        overlaps: count the neurons shared with each other concept, which reads all deltas.

    Raises:
        ConceptNotFoundError: the concept is missing.
    """
    found = store.snapshot()
    record = found.concept(name)
    blobs = store.path / "blobs"
    shared = store.index.overlaps(record, [c for c in found.concepts if c["name"] != name]) if overlaps else None
    return results.ShowResult(
        store=str(store.path),
        concept=summary(store, record),
        recipe={key: value for key, value in record["recipe"].items() if key != KEY},
        arguments=from_text(record["recipe"].get(KEY)),
        delta=str(blobs / record["delta"]),
        preview=None if record["preview"] is None else str(blobs / record["preview"]),
        references=tuple(str(blobs / sha) for sha in record["references"]),
        captions=tuple(record["captions"]),
        origin=origin_of(record),
        overlaps=shared,
    )


def origin_of(record: ConceptRecord) -> results.Origin | None:
    """Where a concept was imported from; None if it was trained in this store."""
    recipe = record["recipe"]
    if (form := _text(recipe.get(ORIGIN_FORMAT))) is None:
        return None
    named = [(str(recipe[file]), str(recipe.get(sha))) for file, sha in ORIGIN_FILES if file in recipe]
    files = tuple(results.OriginFile(name=name, sha256=sha) for name, sha in named)
    return results.Origin(
        format=form,
        files=files,
        scored=form in OWN_FORMATS,
        error=_number(recipe.get(IMPORT_ERROR)),
        lost=_number(recipe.get(IMPORT_LOST)),
    )


def all_of(store: Store, *, only_unfinished: bool = False) -> list[str]:
    """The names of all concepts, or of all unfinished training runs.

    Raises:
        ConceptNotFoundError: there are none.
    """
    if only_unfinished:
        found = store.work.unfinished()
        if not found:
            raise ConceptNotFoundError(f"no unfinished training run in {store.path}")
        return found
    return [record["name"] for record in require(store, [])]


def removable(store: Store, names: Sequence[str], *, only_unfinished: bool = False) -> tuple[list[str], list[str]]:
    """Of these names, each once: the concepts, and the unfinished training runs.

    The name of a concept that is being replaced is in both lists. With `only_unfinished` the first list is empty.

    Raises:
        ConceptNotFoundError: a name is in neither list.
    """
    begun, known = set(store.work.unfinished()), store.snapshot()
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if only_unfinished and name not in begun:
            raise ConceptNotFoundError(
                f"no unfinished training run of {name[:80]!r}",
                note=f"unfinished: {', '.join(sorted(begun)) or 'none'}",
            )
        if name not in begun:
            known.concept(name)
    return [n for n in wanted if n in known.names and not only_unfinished], [n for n in wanted if n in begun]


def remove(
    store: Store, names: Sequence[str], *, only_unfinished: bool = False, purge: bool = False
) -> Generator[Event, None, results.RemoveResult]:
    """Remove concepts, all of them or none, and delete the training state of these names.

    Args:
        store: of the concepts.
        names: of concepts, or of interrupted training runs.
        only_unfinished: delete only the training state.
        purge: also delete their files, which includes copies of their images; `undo` is not possible afterwards.

    Raises:
        ConceptNotFoundError: one is missing.
        StoreLockedError: one is being trained.
    """
    wanted, unfinished = removable(store, names, only_unfinished=only_unfinished)
    with ExitStack() as held:
        for name in unfinished:
            held.enter_context(store.work.reserve(name))
        if wanted:
            changed = _removed(store, wanted, purge=purge)
        else:
            changed = {"touched": {}, "left": tuple(known_names(store)), "free": store.free()}
        discarded = tuple(_discarded(store, unfinished, saved=bool(wanted)))
    yield from saved_but(store)
    return results.RemoveResult(store=str(store.path), removed=tuple(wanted), discarded=discarded, **changed)


def _removed(store: Store, wanted: Sequence[str], *, purge: bool) -> dict[str, Any]:
    """Remove concepts. Returns what is left and, in merged mode, how many neurons each later concept shared with them."""
    touched: dict[str, Mapping[str, int]] = {}
    with store.transaction(f"rm {' '.join(wanted)}") as tx:
        tx.purges = purge
        found = store.snapshot()
        for name in wanted:
            if store.mode is Mode.MERGED:
                record = found.concept(name)
                later = [c for c in found.concepts if c["seq"] > record["seq"] and c["name"] not in wanted]
                touched[name] = {n: k for n, k in store.index.overlaps(record, later).items() if k}
            tx.remove(name)
    return {
        "touched": {name: others for name, others in touched.items() if others},
        "left": tuple(tx.names()),
        "free": tx.free(),
    }


def _discarded(store: Store, names: Sequence[str], *, saved: bool) -> Iterator[str]:
    """Delete training states; after a commit, a failure is a warning. Yields the names whose state is deleted."""
    for name in names:
        try:
            store.work.discard(name)
        except CnsctlError as err:
            if not saved:
                raise
            store.warnings.append(err.what)
        else:
            yield name


def rename(
    store: Store, old: str, new: str, *, only_unfinished: bool = False
) -> Generator[Event, None, results.RenameResult]:
    """Rename a concept; its bytes stay the same.

    With `only_unfinished`, rename an interrupted training run: the same training under the new name continues it.

    Raises:
        ConceptNotFoundError, InvalidNameError, NameTakenError, StoreLockedError: by the names.
    """
    if only_unfinished:
        if check_name(new) in store.snapshot().names:
            raise NameTakenError(f"concept already exists: {new!r}", reason="name-taken", name=new)
        store.warnings += store.work.rename(old, new)
        yield from saved_but(store)
        return results.RenameResult(store=str(store.path), old=old, new=new)
    if old == new:
        store.concept(old)
        raise UsageError(f"the old and the new name are the same: {old!r}", hint="give another name")
    with store.transaction(f"mv {old} {new}") as tx:
        tx.rename(old, new)
    yield from saved_but(store)
    return results.RenameResult(store=str(store.path), old=old, new=new)


def known_names(store: Store) -> KeysView[str]:
    """Names of the concepts in training order."""
    return store.snapshot().names


def require(store: Store, names: Sequence[str]) -> Sequence[ConceptRecord]:
    """The records of these names in training order, or all of them.

    Raises:
        ConceptNotFoundError: one is missing, or the store is empty.
    """
    found = store.snapshot()
    if not names:
        if not found.concepts:
            raise ConceptNotFoundError(f"the store is empty: {store.path}", reason="empty-store")
        return found.concepts
    return sorted((found.concept(name) for name in dict.fromkeys(names)), key=lambda record: record["seq"])


def without_images(records: Sequence[ConceptRecord]) -> Iterator[Event]:
    """Name the concepts that cannot be measured, because they were imported without images."""
    missing = [r["name"] for r in records if not r["references"]]
    if missing and len(missing) == len(records):
        raise UsageError(
            f"no images to measure with: {', '.join(missing[:20])}",
            note="a concept is measured on its images, and imported concepts have none",
            reason="no-images",
            name=missing[0],
        )
    yield from (Warn(text=f"<{name}> is not measured: it has no images") for name in missing)
