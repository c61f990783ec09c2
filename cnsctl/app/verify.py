"""`verify`: check whether any concept has changed since it was trained.

Owns the proof of records; must not know terminals or formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.concepts import measurable, require, scores_of
from cnsctl.app.counting import parts
from cnsctl.app.evaluate import UNREADABLE, cannot_be_read
from cnsctl.app.forecast import after_loading
from cnsctl.app.measuring import plan_again
from cnsctl.app.probes import encoded, removed_error
from cnsctl.app.session import Session, started
from cnsctl.app.stores import base_model
from cnsctl.concept import Mode
from cnsctl.data.prompt_templates import probe_prompts
from cnsctl.errors import CnsctlError, ForgettingError
from cnsctl.events import Event, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from cnsctl.app.measuring import Plan
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.proof import Proof
    from cnsctl.store import ConceptRecord, Store

LOST_POINTS = 5.0
"""In merged mode: an earlier concept that loses more points of error removed than this counts as forgotten."""

PROVE = "prove"

LOADING = 20.0
"""How many times longer than the proofs loading takes: seconds against milliseconds."""

PROOF_PROBES = 2
"""Probe prompts that the proof computes: alone, and in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One concept's check."""

    name: str
    proof: Proof
    lost: float | None
    """In merged mode, if other deltas moved its K or V: points of error removed lost since training."""


def verify(
    store: Store,
    names: Sequence[str],
    compute: Mapping[str, Any] | None = None,
    *,
    session: Session | None = None,
) -> Generator[Event, None, results.VerifyResult]:
    """Prove concepts unchanged, without an image; in merged mode, measure those that others moved."""
    require(store, names)
    yield after_loading(((PROVE, len(names) or len(store.concepts())),), share=LOADING)
    session = yield from started(store, compute or {}, session, hash_weights=True)
    records = require(store, names)  # loading takes seconds, in which another process may have changed the store
    everyone, damaged = _whole(session) if store.mode is Mode.MERGED else (None, {})
    yield Phase(name=PROVE, total=len(records))
    rows: list[results.Verified] = []
    other_parts: set[str] = set()
    for i, record in enumerate(records):
        name = record["name"]
        try:
            if damaged:  # in merged mode, the keys and values of every concept need all deltas
                rows.append(_unreadable(name, damaged[name]) if name in damaged else _unchecked(name, damaged))
            else:
                overlay = session.overlay([name]) if everyone is None else everyone
                outcome = yield from checked(session, overlay, record)
                _read_images(store, record)
                other_parts.update(outcome.proof.other_parts)
                rows.append(_proved(outcome))
        except UNREADABLE as err:
            rows.append(_unreadable(name, err))
        yield Step(phase=PROVE, step=i + 1, total=len(records))
    missing = [
        _unreadable(name, err) for name, err in damaged.items() if name not in {record["name"] for record in records}
    ]
    return results.VerifyResult(
        store=str(store.path),
        base=base_model(store),
        mode=str(store.mode),
        device=session.device.type,
        dtype=session.dtype,
        concepts=(*rows, *missing),
        base_changed=tuple(sorted(other_parts)) or _unexplained(session, rows),
    )


def _unexplained(session: Session, rows: Sequence[results.Verified]) -> tuple[str, ...]:
    """Files of the base model that have changed although every proof is as before: they can change images too."""
    return () if any(row.forgotten for row in rows) else session.changed_files


def _read_images(store: Store, record: ConceptRecord) -> None:
    """Read a concept's images and preview, which no proof needs.

    Raises:
        StoreDamagedError, DiskError: one is missing, damaged or cannot be read.
    """
    for sha in (*record["references"], *([record["preview"]] if record["preview"] is not None else [])):
        store.blob(sha)


def problem(result: results.VerifyResult) -> CnsctlError | None:
    """The error to report after the result: damage first, then forgetting, then another decoder or scheduler."""
    if damaged := [row.name for row in result.concepts if row.damaged]:
        return cannot_be_read(result.store, damaged)
    if changed := [row.name for row in result.concepts if row.forgotten]:
        return ForgettingError(
            f"{len(changed)} of {len(result.concepts)} concepts have changed: {', '.join(changed)}", reason="forgotten"
        )
    if result.base_changed:
        return ForgettingError(
            f"the base model has changed since concepts were trained: {' and '.join(result.base_changed)}",
            note="every image looks different, with and without concepts; no concept was forgotten",
            hint="put the earlier file back to get the same images again",
            reason="base-changed-alike",
        )
    return None


def checked(session: Session, overlay: Overlay, record: ConceptRecord) -> Generator[Event, None, Outcome]:
    """Prove a concept by its record, without an image; in merged mode, measure it if other deltas moved it.

    It is measured as it was after its training; without a score from then, what it lost is unknown.
    """
    from cnsctl.engine.proof import only_other_deltas_changed, prove

    name = record["name"]
    proof = prove(session.base, overlay, name, session.store.blob(record["probe"]))
    lost = None
    if session.store.mode is Mode.MERGED and not proof.unchanged and only_other_deltas_changed(proof):
        trained = scores_of(record)
        if proof.moved <= 0:
            lost = 0.0
        elif trained.error_removed is not None:
            plan = plan_again(trained, measurable(record))
            now = yield from parts(_measured_again(session, overlay, record, plan), 3 * len(plan.rows))
            lost = trained.error_removed - now
    return Outcome(name=name, proof=proof, lost=lost)


def _measured_again(
    session: Session, overlay: Overlay, record: ConceptRecord, plan: Plan
) -> Generator[None, None, float]:
    latents = yield from encoded(session, record, plan)
    return (yield from removed_error(session, overlay, record["name"], latents))


def probe_record(session: Session, overlay: Overlay, name: str) -> bytes:
    """The record with which later proofs of this concept compare."""
    from cnsctl.engine.proof import record

    return record(session.base, overlay, name, probe_prompts(name)[:PROOF_PROBES])


def _whole(session: Session) -> tuple[Overlay | None, dict[str, CnsctlError]]:
    """In merged mode: the overlay of all concepts, or else the concepts that cannot be read."""
    try:
        return session.overlay(()), {}
    except UNREADABLE:
        damaged: dict[str, CnsctlError] = {}
        for record in session.store.concepts():
            try:
                session.store.delta(record)
            except UNREADABLE as err:
                damaged[record["name"]] = err
        return None, damaged


def _proved(outcome: Outcome) -> results.Verified:
    proof = outcome.proof
    return results.Verified(
        name=outcome.name,
        unchanged=proof.unchanged,
        moved=proof.moved if isfinite(proof.moved) else None,
        lost=outcome.lost,
        forgotten=outcome.lost > LOST_POINTS if outcome.lost is not None else not proof.unchanged,
        damaged=False,
        reasons=tuple(proof.reasons),
    )


def _unreadable(name: str, err: CnsctlError) -> results.Verified:
    return results.Verified(
        name=name, unchanged=False, moved=None, lost=None, forgotten=True, damaged=True, reasons=(err.what,)
    )


def _unchecked(name: str, damaged: Collection[str]) -> results.Verified:
    reason = f"not checked: in merged mode that needs the damaged delta of {', '.join(damaged)}"
    return results.Verified(
        name=name, unchanged=None, moved=None, lost=None, forgotten=None, damaged=False, reasons=(reason,)
    )
