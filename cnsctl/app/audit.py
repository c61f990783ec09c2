"""`verify` and `eval`: is everything what it was, and how good is it.

Owns the tables of both; must not know terminals or formulas.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from cnsctl.app import measure
from cnsctl.app.session import Compute, Session, judged, start
from cnsctl.app.shelf import describe_base, holdout_of, require
from cnsctl.app.train import LOST_POINTS
from cnsctl.data.prompt_templates import probe_prompts
from cnsctl.errors import ForgettingFound, StoreDamaged
from cnsctl.metrics.forgetting import drift, forgetting
from cnsctl.results import Answer, Event, Phase, Step
from cnsctl.specs import FORMAT, Mode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import ConceptRecord, Store


def verify(store: Store, names: Sequence[str], compute: Compute) -> Iterator[Event]:
    """Prove concepts unchanged, without an image; in merged, measure those that others moved.

    Raises:
        StoreDamaged: after the answer, when one cannot be read.
        ForgettingFound: after the answer, when one is not what it was.
    """
    require(store, names)
    yield Phase(name="load the base")
    session = start(store, compute, hash_weights=True)
    records = require(store, names)  # loading takes seconds: another process may have changed the store
    everyone, damaged = _whole(session) if store.mode is Mode.MERGED else (None, {})
    bad = dict(damaged)
    yield Phase(name="prove", total=len(records))
    rows = []
    for i, record in enumerate(records):
        name = record["name"]
        try:
            if damaged:  # in merged: without one of them, no concept's keys and values can be computed
                rows.append(_unreadable(name, damaged[name]) if name in damaged else _unchecked(name, damaged))
            else:
                overlay = session.overlay([name]) if everyone is None else everyone
                rows.append(_proved(measure.checked(session, overlay, record)))
        except StoreDamaged as err:
            bad[name] = err
            rows.append(_unreadable(name, err))
        yield Step(phase="prove", step=i + 1, total=len(records))
    yield Answer(data={**_head(session), "concepts": rows})
    if bad:
        raise _cannot_be_read(store, bad)
    if changed := [str(r["name"]) for r in rows if r["forgotten"]]:
        raise ForgettingFound(
            f"{len(changed)} of {len(rows)} concepts are not what they were: {', '.join(changed)}",
            hint="cnsctl eval shows how much it matters; learning them again restores them",
        )


def _cannot_be_read(store: Store, names: Collection[str]) -> StoreDamaged:
    return StoreDamaged(
        f"{len(names)} of {len(store.concepts())} concepts cannot be read: {', '.join(names)}",
        hint=f"restore the store from a backup, or take them out: cnsctl rm {' '.join(names)}",
    )


def _whole(session: Session) -> tuple[Overlay | None, dict[str, StoreDamaged]]:
    """In merged: the overlay of all concepts, or those of them that cannot be read."""
    try:
        return session.overlay(()), {}
    except StoreDamaged:
        damaged = {}
        for record in session.store.concepts():
            try:
                session.store.delta(record)
            except StoreDamaged as err:
                damaged[record["name"]] = err
        return None, damaged


def _proved(outcome: measure.Outcome) -> dict[str, Any]:
    proof = outcome.proof
    return {
        "name": outcome.name,
        "damaged": False,
        "unchanged": proof.unchanged,
        "moved": proof.moved if isfinite(proof.moved) else None,
        "lost": outcome.lost,
        "forgotten": outcome.lost > LOST_POINTS if outcome.lost is not None else not proof.unchanged,
        "reasons": list(proof.reasons),
    }


def _unreadable(name: str, err: StoreDamaged) -> dict[str, Any]:
    nothing = {"name": name, "damaged": True, "unchanged": False, "moved": None, "lost": None}
    return {**nothing, "forgotten": True, "reasons": [err.what]}


def _unchecked(name: str, damaged: Collection[str]) -> dict[str, Any]:
    nothing = {"name": name, "damaged": False, "unchanged": None, "moved": None, "lost": None, "forgotten": None}
    return {**nothing, "reasons": [f"not checked: in merged mode that needs the damaged delta of {', '.join(damaged)}"]}


def evaluate(store: Store, names: Sequence[str], compute: Compute, *, pictures: bool = True) -> Iterator[Event]:
    """Measure concepts and the base's drift, each score beside its value at learning and the bare class word's.

    Error removed always; CLIP-I, CLIP-T and drift need pictures.

    Raises:
        StoreDamaged: after the answer, when one cannot be read; in merged before it, since all of them act.
    """
    require(store, names)
    yield Phase(name="load the base")
    session = start(store, compute)
    records = require(store, names)  # loading takes seconds: another process may have changed the store
    whole = session.overlay(())  # in merged all concepts act, elsewhere none that is not named
    yield Phase(name="measure", total=len(records) + pictures)
    rows, damaged = [], []
    for i, record in enumerate(records):
        try:
            overlay = whole if store.mode is Mode.MERGED else session.overlay([record["name"]])
            rows.append(_evaluated(session, overlay, record, pictures=pictures))
        except StoreDamaged:
            damaged.append(record["name"])
        yield Step(phase="measure", step=i + 1, total=len(records) + pictures)
    changed = _drift(session, whole) if pictures else None
    yield Answer(data={**_head(session), "concepts": rows, "drift": changed})
    if damaged:
        raise _cannot_be_read(store, damaged)


def _evaluated(session: Session, overlay: Any, record: ConceptRecord, *, pictures: bool) -> dict[str, Any]:
    from cnsctl.engine.overlay import EMPTY

    name, learned = record["name"], record["learned"]
    references, n_held_out = session.references(record), holdout_of(record)
    pixels = judged(references, n_held_out)
    removed, spread = measure.fit_with_spread(session, overlay, name, session.base.encode_pictures(pixels))
    row: dict[str, Any] = {"name": name, "held_out": n_held_out}
    row |= {"error_removed": removed, "error_removed_spread": spread}
    row["backbone"] = row["clip_i"] = row["clip_t"] = None
    row["clip_i_class"] = row["clip_t_class"] = row["clip_i_real"] = None
    if pictures:
        prompts = probe_prompts(name)
        features = measure.clip_features(session, references)
        own = None if features is None else judged(features, n_held_out)
        drawn = measure.probe_pictures(session, overlay, prompts)
        row |= measure.clip_scores(session, overlay, name, drawn, own)
        plain = measure.probe_pictures(session, EMPTY, [measure.class_prompt(overlay, p) for p in prompts])
        of_class = measure.clip_scores(session, overlay, name, plain, own)
        row |= {"clip_i_class": of_class["clip_i"], "clip_t_class": of_class["clip_t"]}
        row["clip_i_real"] = measure.clip_i_real(features, n_held_out)
    row["learned"] = {k: learned.get(k) for k in ("error_removed", "clip_i", "clip_t")}
    row["forgetting"] = {k: forgetting(_number(learned.get(k)), row[k]) for k in ("error_removed", "clip_i", "clip_t")}
    return row


def _drift(session: Session, overlay: Any) -> dict[str, Any]:
    """How the store changed the base's own pictures: ten prompts without a concept, against the empty overlay."""
    from cnsctl.engine.overlay import EMPTY

    found = drift(measure.base_pictures(session, overlay), measure.base_pictures(session, EMPTY))
    return {"pictures": 10, "changed": found.changed, "mean_abs": found.mean_abs, "max_abs": found.max_abs}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _head(session: Session) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "store": str(session.store.path),
        "base": describe_base(session.store),
        "mode": str(session.store.mode),
        "device": session.device.type,
        "dtype": session.dtype,
    }
