"""`import`: concepts from files of cnsctl and of other programs, all of them or none.

Owns the order of these steps; must not know formats, formulas or terminals.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.concepts import IMPORT_LOST, ORIGIN_FORMAT, origin_of, summary
from cnsctl.app.counting import Count
from cnsctl.app.import_convert import budget_of, converting, too_many_embeddings
from cnsctl.app.import_files import Arrival, ImportRequest, arrivals
from cnsctl.app.session import Session, started
from cnsctl.app.stores import now, saved_but
from cnsctl.app.verify import probe_record
from cnsctl.concept import Mode
from cnsctl.data.names import check_name
from cnsctl.errors import DamagedFileError, NameTakenError, StoreDamagedError, UsageError
from cnsctl.events import Event, Note, Warn
from cnsctl.settings import TrainSettings, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from cnsctl.concept import Delta
    from cnsctl.store import ConceptRecord, Snapshot, Store

MOST_HELD = 100
"""Names that are held during an import."""

NO_SCORES = asdict(results.Scores(error_removed=None, clip_i=None, clip_t=None))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """A concept that can be saved."""

    arrival: Arrival
    delta: Callable[[], Delta]
    probe: bytes


def import_(
    store: Store, request: ImportRequest, *, session: Session | None = None
) -> Generator[Event, None, results.ImportResult]:
    """Import the concepts of a file, all of them or none.

    What can be refused without a model is refused before it is loaded. The model computes the records that later proofs
    compare with, and fits the weights of other programs to the concept's tokens.

    Args:
        store: gets the concepts.
        request: the files.
        session: a loaded session of this store; by default one is started.
    """
    began_s = time.monotonic()
    _refuse_merged(store)
    budget = budget_of(store, checked(TrainSettings, _given(request)).get("budget"))
    with ExitStack() as held:
        found = arrivals(store, request, held)
        before = store.snapshot()
        new = _new(before, found, replace=request.replace)
        for arrival in new:
            yield from _understood(store, arrival)
        _reserve(store, [arrival.name for arrival in new], held)
        ready = []
        if new:
            session = yield from started(store, request.compute, session, hash_weights=True)
            for arrival in new:
                ready.append((yield from _prepared(session, arrival, budget)))  # noqa: PERF401  a list cannot yield
        saved = (yield from _saved(store, ready, replace=request.replace, began_s=began_s)) if ready else {}
    yield from saved_but(store)
    rows = []
    for arrival in found:
        is_new, was_there = arrival.name in saved, arrival.name in before.names
        record = saved[arrival.name] if is_new else before.concept(arrival.name)
        state = "unchanged" if not is_new else "replaced" if was_there else "imported"
        rows.append(_row(store, arrival, record, state))
    return results.ImportResult(store=str(store.path), concepts=tuple(rows), free=store.free())


def refuse_missing(request: ImportRequest) -> None:
    """Refuse names that are not allowed and files that are not there, without reading one.

    Raises:
        InvalidNameError, UsageError: by the request.
    """
    for name in (*([] if request.name is None else [request.name]), *request.renames.values()):
        check_name(name)
    for path in request.files:
        if not path.is_file():
            raise UsageError(f"{'not a file' if path.exists() else 'file not found'}: {path}", reason="import-file")


def _reserve(store: Store, names: Sequence[str], held: ExitStack) -> None:
    """Refuse names under which another process trains, and hold them: each takes an open file, so only up to a number.

    Raises:
        StoreLockedError: another process trains under one of them.
    """
    for name in names:
        with ExitStack() as this:
            this.enter_context(store.work.reserve(name, "import"))
            if len(names) <= MOST_HELD:
                held.push(this.pop_all())


def _given(request: ImportRequest) -> dict[str, Any]:
    return {} if request.budget is None else {"budget": request.budget}


def _refuse_merged(store: Store) -> None:
    if store.mode is Mode.MERGED:
        raise UsageError(
            "cannot import into a store in merged mode",
            note="there each concept is trained on top of all others, and measured again on its images after each training",
            reason="import-merged",
        )


def _new(known: Snapshot, found: Sequence[Arrival], *, replace: bool) -> list[Arrival]:
    """The concepts that the store does not have already, byte by byte.

    Raises:
        NameTakenError: the store has another concept of a name.
    """
    from cnsctl.store import delta_key

    if len({a.name for a in found}) != len(found):
        raise UsageError("two concepts would have the same name", reason="import-rename")
    new = [
        a
        for a in found
        if a.name not in known.names or a.delta is None or delta_key(a.delta()) != known.concept(a.name)["delta"]
    ]
    if (taken := [a.name for a in new if a.name in known.names]) and not replace:
        listed = ", ".join(map(repr, taken[:20]))
        several = f"concepts already exist: {listed}" if len(taken) > 1 else f"concept already exists: {listed}"
        raise NameTakenError(several, reason="import-taken", name=taken[0], several=len(found) > 1)
    return new


def _understood(store: Store, arrival: Arrival) -> Iterator[Event]:
    """Say what is imported, and where it acts otherwise than where it comes from."""
    content, name = arrival.content, arrival.name
    if content is not None:
        n = len(next(iter(content.vectors.values()))) if content.vectors else 0
        parts = [f"weights of {len(content.weights)} sites"] if content.weights else []
        parts += [f"{n} token embedding{'' if n == 1 else 's'}"] if n else []
        reads = f", read as {arrival.initial!r}" if arrival.initial else ""
        word = f", followed by the class word {arrival.class_word!r}" if arrival.class_word else ""
        yield Note(text=f"{arrival.file}: {content.format}, {' and '.join(parts)}; <{name}>{reads}{word}")
        if content.weights and store.mode is Mode.TOKEN:
            yield Note(
                text=f"in token mode these weights act on <{name}> alone; other programs let them act on the whole prompt"
            )
        if arrival.left_out:
            lost = "" if arrival.lost is None else f": {100 * arrival.lost:.0f} % of the norm of its changes"
            yield Warn(text=f"{len(arrival.left_out)} other layers of {arrival.file} are left out{lost}")


def _made_elsewhere(store: Store, arrival: Arrival, delta: Delta) -> Iterator[Event]:
    if delta.mode != store.mode and delta.n_neurons and arrival.delta is not None:
        acts = "on its own tokens alone" if store.mode is Mode.TOKEN else "on all words of a prompt"
        yield Warn(
            text=f"<{arrival.name}> was made in {delta.mode} mode; in this store it acts {acts}, so its images differ"
        )


def _prepared(session: Session, arrival: Arrival, budget: float) -> Generator[Event, None, _Ready]:
    """Make the delta and the record that later proofs compare with."""
    from cnsctl.engine.concepts import to_concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import delta_key

    error = None
    if arrival.content is not None:
        count = Count(f"fit <{arrival.name}>", len(session.base.shapes))
        if arrival.content.weights:
            yield count.begin()
        made = yield from count.each(
            converting(
                session,
                arrival.content,
                class_word=arrival.class_word,
                initial=arrival.initial,
                budget=budget,
                recipe={**arrival.origin, **({} if arrival.lost is None else {IMPORT_LOST: round(arrival.lost, 4)})},
            )
        )
        delta, error = made.delta, made.error
        read: Callable[[], Delta] = lambda: made.delta  # noqa: E731  as `arrival.delta`
    else:
        assert arrival.delta is not None
        read = arrival.delta
        delta = read()
        yield from _made_elsewhere(session.store, arrival, delta)
    if error is not None:
        tokens = "its own tokens" if session.store.mode is Mode.TOKEN else "its prompts"
        yield Note(
            text=f"kept {delta.n_neurons:,} weights ({100 * budget:.2g} %): keys and values of {tokens} differ from the "
            f"file's by {100 * error:.1f} %",
            reason="import-budget",
        )
    try:
        concept = to_concept(session.base, delta, key=delta_key(delta))
        overlay = Overlay(mode=session.store.mode, concepts={arrival.name: concept})
        probe = probe_record(session, overlay, arrival.name)
    except StoreDamagedError as err:
        raise DamagedFileError(f"{arrival.file} is damaged: {err.what}", hint="export it again") from err
    except UsageError as err:  # the only prompts are ours
        raise too_many_embeddings(session.base, concept.n_vectors) from err
    return _Ready(arrival=arrival, delta=read, probe=probe)


def _saved(
    store: Store, ready: Sequence[_Ready], *, replace: bool, began_s: float
) -> Generator[Event, None, dict[str, ConceptRecord]]:
    """Commit all of them in one transaction; returns their records by name."""
    records = {}
    count = Count("save the concepts", len(ready))
    yield count.begin()
    created = now()
    with store.transaction(f"import {' '.join(r.arrival.name for r in ready)}", began_s=began_s) as tx:
        for r in ready:
            delta = r.delta()
            records[r.arrival.name] = tx.add(
                _fields(store, r.arrival, delta, created),
                delta,
                references=[],
                probe=r.probe,
                replace=replace,
                verb="import",
            )
            yield count.step()
    return records


def _fields(store: Store, arrival: Arrival, delta: Delta, created: str) -> dict[str, Any]:
    """A concept's record, without the fields that the store computes itself."""
    origin = {} if ORIGIN_FORMAT in delta.recipe else arrival.origin  # its first origin is that of its weights
    return {
        "name": arrival.name,
        "class_word": delta.class_word,
        "tokens": len(next(iter(delta.vectors.values()))),
        "share": delta.n_neurons / store.base.n_weights,
        "share_denoiser": delta.n_neurons / store.base.denoiser_weights,
        "created": created,
        "captions": [],
        "recipe": {**delta.recipe, **origin},
        "scores": NO_SCORES,
    }


def _row(store: Store, arrival: Arrival, record: ConceptRecord, state: str) -> results.ImportedConcept:
    return results.ImportedConcept(
        concept=summary(store, record), origin=origin_of(record), state=state, left_out=arrival.left_out
    )
