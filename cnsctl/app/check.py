"""`check`: find every file of a store that is not as it was written, and repair what can be made again.

Owns the order of checking and repairing, and the check of training states; must not know terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app.stores import saved_but
from cnsctl.errors import CnsctlError, StoreDamagedError
from cnsctl.events import Event, Phase, Step
from cnsctl.store.check import MISSING, Kind, Problem, Tally, problems, said
from cnsctl.store.manifest import FILE as MANIFEST
from cnsctl.store.repair import repair as repaired_in

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from cnsctl.store import Store

_EVERY = 64
"""Files between two events."""

FOREIGN = "another base model"
"""Words in the message about a delta that does not belong to the store's base model."""


def check(
    store: Store, *, read_data: bool = False, repair: bool = False
) -> Generator[Event, None, results.CheckResult]:
    """Check a store, and with `repair` repair it and check it again.

    Args:
        store: only read, unless it is repaired.
        read_data: read every byte, and compare the ownership index with the deltas.
        repair: make again what is derivable, and move what cannot be read to `damaged/`.

    Raises:
        StoreLockedError, DiskError: it cannot be repaired now.
    """
    store.damage.clear()  # it is among the findings
    tally, found = yield from checked(store, read_data=read_data)
    done: dict[str, str] = {}
    if repair and found:
        yield Phase(name="repair")
        done = repaired_in(store, found)
        yield from saved_but(store)
        left = {problem.part for problem in (yield from checked(store, read_data=read_data))[1]}
        done = {part: words for part, words in done.items() if part not in left or words.startswith("moved")}
    return results.CheckResult(
        store=str(store.path),
        concepts=tally.concepts,
        files=tally.files,
        bytes=tally.bytes,
        read_data=read_data,
        findings=tuple(
            results.Finding(
                part=p.part, problem=p.what, concepts=p.concepts, kind=str(p.kind), repaired=done.get(p.part)
            )
            for p in found
        ),
        unreferenced=len(tally.unreferenced),
        unreferenced_bytes=sum(tally.unreferenced.values()),
    )


def problem(result: results.CheckResult) -> CnsctlError | None:
    """The error to report after the result: what is damaged still."""
    left = [f for f in result.findings if f.repaired is None or (f.kind == Kind.LOST and f.concepts)]
    if not left:
        return None
    lost = [f for f in left if f.kind == Kind.LOST]
    single = [f for f in lost if f.part.startswith("blobs/")]
    return StoreDamagedError(
        f"{len(left)} problem{'' if len(left) == 1 else 's'} in {result.store}",
        reason="check-found",
        repairable=any(f.repaired is None and (f.kind != Kind.LOST or _can_be_moved(f)) for f in left),
        lost=bool(lost),
        # the cause is certain only if it is the file of one concept, and everything else about it is right
        concepts=tuple(dict.fromkeys(name for f in single for name in f.concepts)) if lost == single else (),
    )


def _can_be_moved(finding: results.Finding) -> bool:
    is_file = finding.part.startswith(("blobs/", "work/"))
    return is_file and finding.problem != MISSING and FOREIGN not in finding.problem


def checked(store: Store, *, read_data: bool) -> Generator[Event, None, tuple[Tally, list[Problem]]]:
    """What was looked at, and what is wrong."""
    tally, found = Tally(), []
    if read_data:
        yield Phase(name="read every file")
    for n_done, one in enumerate(problems(store, tally, read_data=read_data), 1):
        if one is not None:
            found.append(one)
        if read_data and n_done % _EVERY == 0 and tally.files:
            yield Step(phase="read every file", step=min(n_done, tally.files), total=tally.files)
    if read_data:
        found += _of_states(store, tally)
    return tally, _causes(found, tally.concepts)


def _of_states(store: Store, tally: Tally) -> Iterator[Problem]:
    """Training states and latents of unfinished runs."""
    from cnsctl.app.resume import MAX_BYTES
    from cnsctl.store import read_bounded

    for name in store.work.unfinished():
        for path in sorted((store.path / "work" / name).glob("*.safetensors")):
            from cnsctl.engine.training_state import is_intact

            part = path.relative_to(store.path).as_posix()
            try:
                data = read_bounded(path, MAX_BYTES)
            except FileNotFoundError:
                continue  # the run has ended meanwhile
            except CnsctlError as err:
                yield Problem(part=part, what=said(err), kind=Kind.LOST)
                continue
            tally.files, tally.bytes = tally.files + 1, tally.bytes + len(data)
            if not is_intact(data):
                yield Problem(part=part, what="its content does not match its SHA-256", kind=Kind.LOST)


def _causes(found: Sequence[Problem], n_concepts: int) -> list[Problem]:
    """One cause in place of its effects: if no delta fits, `store.json` is that of another store."""
    foreign = [p for p in found if FOREIGN in p.what]
    names = tuple(dict.fromkeys(name for p in foreign for name in p.concepts))
    if not foreign or len(names) < n_concepts:
        return list(found)
    what = "no delta was trained on its base model: it seems to be the file of another store"
    return [Problem(part=MANIFEST, what=what, kind=Kind.LOST, concepts=names), *(p for p in found if p not in foreign)]
