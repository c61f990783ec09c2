"""Stores and what stands in them, without any model: make, list, show, remove, rename.

Owns the answers of the light commands; must not know torch or terminals.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.errors import BaseProblem, CnsctlError, ConceptNotFound, NoStore, UsageProblem
from cnsctl.results import Answer, Event, Note, Phase, Warn
from cnsctl.specs import DEFAULT_MODE, FORMAT, Mode
from cnsctl.store import BaseReference, ConceptRecord, Store, default_path

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView, Mapping, Sequence


def now() -> str:
    """The time of a record: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def locate(path: Path | None) -> Path:
    """Where the store is: the path given, else `CNSCTL_STORE`, else the platform's user-data folder."""
    return path if path is not None else default_path()


def open_store(path: Path | None) -> Store:
    return Store.open(locate(path))


def create(path: Path | None, *, base: Path | None = None, mode: Mode = DEFAULT_MODE, copy: bool = False) -> Store:
    """Make a store on pocket, which needs no model loaded, or on another base, which is loaded once for its facts."""
    from cnsctl.bases.base_folder import POCKET
    from cnsctl.bases.facts import facts, pocket_facts

    if base is None:
        known, kind, copied = pocket_facts(), "pocket", POCKET
    else:
        known, kind, copied = facts(base, with_files=copy), "folder", base
    held = base is None or copy
    reference = BaseReference(
        kind=kind,
        path=None if held else str(copied.resolve()),
        family=known.family,
        fingerprint=known.fingerprint,
        name=known.name,
        files=known.files,
        sites=known.sites,
        denoiser_weights=known.denoiser_weights,
    )
    return Store.create(locate(path), base=reference, mode=mode, created=now(), base_files=copied if held else None)


def making(path: Path | None, *, base: Path | None, mode: Mode, copy: bool) -> Iterator[Event]:
    """Make a store and say what it is; reading another base takes seconds."""
    if base is not None:
        yield Phase(name="read the base")
    store = create(path, base=base, mode=mode, copy=copy)
    yield Answer(data=_described(store, {"neurons": store.base.n_weights, "share": 1.0}))
    yield from saved_but(store)


def saved_but(store: Store) -> Iterator[Warn]:
    """What failed after a change had been saved."""
    while store.warnings:
        yield Warn(text=f"saved, but {store.warnings.pop(0)}")


def open_or_create(path: Path | None) -> tuple[Store, bool]:
    """The store, made on pocket in the default mode when there is none; and whether it was made."""
    try:
        return open_store(path), False
    except NoStore:
        try:
            return create(path), True
        except UsageProblem as err:
            try:
                return open_store(path), False  # another process was faster
            except NoStore:
                raise err from None


def base_of(store: Store) -> Path:
    """The folder of a store's base.

    Raises:
        BaseProblem: it is not there.
    """
    path = store.base_folder if store.base.path is None else Path(store.base.path)
    if not path.is_dir():
        raise BaseProblem(
            f"the base of this store is not at {path} any more",
            hint="put it back there, or mount its disk; a store made with init --copy holds its base itself",
        )
    return path


def describe_base(store: Store) -> dict[str, Any]:
    base = store.base
    return {
        "name": base.name,
        "family": base.family,
        "fingerprint": base.fingerprint,
        "weights_kv": base.n_weights,
        "weights_denoiser": base.denoiser_weights,
    }


def _described(store: Store, free: Mapping[str, float]) -> dict[str, Any]:
    """The store itself, whatever it holds."""
    return {
        "format": FORMAT,
        "store": str(store.path),
        "base": describe_base(store),
        "mode": str(store.mode),
        "free": free,
    }


def listing(store: Store) -> Answer:
    concepts = [summary(store, c) for c in store.concepts()]
    return Answer(data={**_described(store, store.free()), "concepts": concepts, "unfinished": store.unfinished()})


def listed(store: Store) -> Iterator[Event]:
    """The listing, and a word about every learning that was begun and not finished."""
    answer = listing(store)
    yield answer
    for concept in answer.data["concepts"]:
        if concept["damaged"]:
            yield Warn(
                text=f"<{concept['name']}> is damaged: its delta is missing or has the wrong size; restore it from a "
                f"backup, or train it again: cnsctl add {concept['name']} IMAGES --replace"
            )
    for name in answer.data["unfinished"]:
        yield Note(
            text=f"<{name}> is being learned or was interrupted: the same cnsctl add goes on, "
            f"cnsctl rm --unfinished {name} gives it up"
        )


_SUMMARY = ("name", "class_word", "tokens", "neurons", "share", "share_denoiser", "bytes", "created", "learned")


def summary(store: Store, record: ConceptRecord) -> dict[str, Any]:
    """What `ls` says of a concept."""
    found = {key: record[key] for key in _SUMMARY}  # type: ignore[literal-required]
    counts = {"pictures": len(record["references"]), "held_out": holdout_of(record)}
    return found | counts | {"learned": dict(record["learned"]), "damaged": store.is_damaged(record)}


HOLDOUT = "holdout"
"""In a record's recipe, where there are any: how many of its pictures, the last ones, were not learned from."""


def holdout_of(record: ConceptRecord) -> int:
    """How many of a concept's pictures were not learned from."""
    value = record["recipe"].get(HOLDOUT, 0)
    return value if isinstance(value, int) and 0 < value < len(record["references"]) else 0


def show(store: Store, name: str, *, overlaps: bool = False) -> Answer:
    """All that is known of a concept, without reading its weights.

    With `overlaps`, which reads all deltas: how many neurons it shares with each other concept.
    """
    found = store.snapshot()
    record = found.concept(name)
    more: dict[str, Any] = {
        "recipe": dict(record["recipe"]),
        "delta": str(store.path / "blobs" / record["delta"]),
        "references": [str(store.path / "blobs" / sha) for sha in record["references"]],
        "captions": list(record["captions"]),
        "preview": None if record["preview"] is None else str(store.path / "blobs" / record["preview"]),
    }
    if overlaps:
        more["overlaps"] = store.index.overlaps(record, [c for c in found.concepts if c["name"] != name])
    return Answer(data={"format": FORMAT, "store": str(store.path), "concept": summary(store, record) | more})


def removable(store: Store, names: Sequence[str], *, only_unfinished: bool = False) -> tuple[list[str], list[str]]:
    """Of these names, each once: those of concepts, and those of learnings that were begun and not finished.

    A concept that is being learned anew is both; with `only_unfinished` it is not the first.

    Raises:
        ConceptNotFound: one is neither.
    """
    begun, known = set(store.unfinished()), store.snapshot()
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if only_unfinished and name not in begun:
            told = f"unfinished are: {', '.join(sorted(begun))}" if begun else "nothing is unfinished"
            raise ConceptNotFound(f"no learning of {name[:80]!r} is unfinished", hint=told)
        if name not in begun:
            known.concept(name)
    return [n for n in wanted if n in known.names and not only_unfinished], [n for n in wanted if n in begun]


def removing(store: Store, names: Sequence[str], *, only_unfinished: bool = False) -> Iterator[Event]:
    """Take concepts out, all of them or none, and throw unfinished learnings of these names away.

    In merged, a concept learned later than a removed one may have stood on it: those that share neurons are named.

    Raises:
        ConceptNotFound: one is not there.
        StoreLocked: one is being learned.
    """
    wanted, unfinished = removable(store, names, only_unfinished=only_unfinished)
    with ExitStack() as held:
        for name in unfinished:
            held.enter_context(store.reserve(name))
        if wanted:
            changed = _taken_out(store, wanted)
        else:
            changed = {"touched": {}, "left": list(known_names(store)), "free": store.free()}
        discarded = list(_discarded(store, unfinished, saved=bool(wanted)))
    yield Answer(
        data={"format": FORMAT, "store": str(store.path), "removed": wanted, "discarded": discarded, **changed}
    )
    yield from saved_but(store)


def _taken_out(store: Store, wanted: Sequence[str]) -> dict[str, Any]:
    """Remove concepts; gives what is left, and in merged how many neurons each later one shared with each of them."""
    touched: dict[str, dict[str, int]] = {}
    with store.transaction(f"rm {' '.join(wanted)}") as tx:
        found = store.snapshot()
        for name in wanted:
            if store.mode is Mode.MERGED:
                record = found.concept(name)
                later = [c for c in found.concepts if c["seq"] > record["seq"] and c["name"] not in wanted]
                touched[name] = {n: k for n, k in store.index.overlaps(record, later).items() if k}
            tx.remove(name)
    return {
        "touched": {name: others for name, others in touched.items() if others},
        "left": tx.names(),
        "free": tx.free(),
    }


def _discarded(store: Store, names: Sequence[str], *, saved: bool) -> Iterator[str]:
    """Throw unfinished learnings away; after a commit a failure of that is a warning. Gives the names that are gone."""
    for name in names:
        try:
            store.discard_work(name)
        except CnsctlError as err:
            if not saved:
                raise
            store.warnings.append(err.what)
        else:
            yield name


def renaming(store: Store, old: str, new: str) -> Iterator[Event]:
    """Give a concept another name; not one byte of it changes."""
    if old == new:
        store.concept(old)
        raise UsageProblem(f"{old!r} is its name already", hint="give another one")
    with store.transaction(f"mv {old} {new}") as tx:
        tx.rename(old, new)
    yield Answer(data={"format": FORMAT, "store": str(store.path), "renamed": {"from": old, "to": new}})
    yield from saved_but(store)


def known_names(store: Store) -> KeysView[str]:
    """In training order."""
    return store.snapshot().names


def require(store: Store, names: Sequence[str]) -> Sequence[ConceptRecord]:
    """The records of these names in training order, or all of them.

    Raises:
        ConceptNotFound: one is not there, or the store is empty.
    """
    found = store.snapshot()
    if not names:
        if not found.concepts:
            raise ConceptNotFound(f"no concept in {store.path} yet", hint="learn one: cnsctl add NAME PICTURES")
        return found.concepts
    return sorted((found.concept(name) for name in dict.fromkeys(names)), key=lambda record: record["seq"])
