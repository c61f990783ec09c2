"""`add --from`: train every concept of a list, one after another; those that the store has are skipped.

Owns the order and what a failure of one concept means for the others; must not know terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnsctl import errors, results
from cnsctl.app.forecast import followed
from cnsctl.app.requests import TrainRequest, image_sizes, refuse_half_for_training
from cnsctl.app.session import Session, started
from cnsctl.app.stores import open_base
from cnsctl.app.train import foreseen, train
from cnsctl.data.concept_lists import ListedConcept, read_concepts_list
from cnsctl.errors import (
    BaseModelError,
    CnsctlError,
    DiskError,
    FormatTooOldError,
    StoreDamagedError,
    StoreNotFoundError,
)
from cnsctl.events import Event, Failed, Note
from cnsctl.settings import TrainSettings, checked

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.store import Store

FATAL = (BaseModelError, DiskError, FormatTooOldError, StoreDamagedError, StoreNotFoundError)
"""Failures that every later concept would meet too."""

SUPPOSED = 5
"""Images of a concept that was not read yet: for the time that is left, of which they decide little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """Which list to train, and how: the fields of `TrainRequest` that its concepts share."""

    file: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    holdout: int = 0
    recursive: bool = False
    replace: bool = False
    restart: bool = False
    allow_forgetting: bool = False
    allow_worse: bool = False
    preview_every: int = 0
    preview_folder: Path | None = None
    """Gets a folder NAME-previews per concept."""
    compute: Mapping[str, Any] = field(default_factory=dict)


def train_list(
    store: Store, request: ListRequest, *, session: Session | None = None
) -> Generator[Event, None, results.TrainListResult]:
    """Train the concepts of a list. After an interruption, the same call continues.

    Args:
        store: gets the concepts.
        request: the list, and how to train.
        session: a loaded session of this store; by default one is started if there is something to train.

    Raises:
        ImageError: the list cannot be read.
        InvalidSettingError, UsageError: a setting is wrong for every concept.
        BaseModelError, DiskError, StoreDamagedError: no further concept can be trained.
    """
    listed = readable_list(open_base(store), request)
    rows = []
    for at, concept in enumerate(listed, start=1):
        if concept.name in store.snapshot().names and not request.replace:
            yield Note(text=f"<{concept.name}> is trained already")
            rows.append(_row(concept, "skipped"))
            continue
        yield Note(text=f"training <{concept.name}>, {at} of {len(listed)}, on {concept.folder}")
        session = yield from started(store, request.compute, session, hash_weights=True)
        try:
            waiting = [
                _request(later, request)
                for later in listed[at:]
                if request.replace or later.name not in store.snapshot().names
            ]
            later = [cost for one in waiting for cost in foreseen(store, one, request.holdout + SUPPOSED)]
            work = train(store, _request(concept, request), session=session)
            found = yield from followed(work, tuple(later))
        except FATAL:
            raise
        except CnsctlError as err:
            yield Failed(prompt=concept.name, error=err)
            rows.append(_row(concept, "failed", err=err))
        else:
            rows.append(_row(concept, "trained", found=found.concept))
    return results.TrainListResult(store=str(store.path), concepts=tuple(rows))


def readable_list(folder: BaseFolder, request: ListRequest) -> Sequence[ListedConcept]:
    """The concepts of the list, after the checks that do not depend on a store.

    Args:
        folder: of the base model.
        request: the list, and how to train.
    """
    listed = read_concepts_list(request.file)
    refuse_half_for_training(request.compute)
    image_sizes(folder, checked(TrainSettings, request.settings))
    return listed


def _request(concept: ListedConcept, request: ListRequest) -> TrainRequest:
    return TrainRequest(
        name=concept.name,
        sources=[concept.folder],
        class_word=concept.class_word,
        settings=request.settings,
        holdout=request.holdout,
        recursive=request.recursive,
        masks=concept.masks,
        replace=request.replace,
        restart=request.restart,
        allow_forgetting=request.allow_forgetting,
        allow_worse=request.allow_worse,
        preview_every=request.preview_every,
        preview_folder=None if request.preview_folder is None else request.preview_folder / f"{concept.name}-previews",
        compute=request.compute,
    )


def _row(
    concept: ListedConcept, state: str, *, found: results.Concept | None = None, err: CnsctlError | None = None
) -> results.ListedConcept:
    return results.ListedConcept(
        name=concept.name,
        folder=str(concept.folder),
        class_word=concept.class_word if found is None else found.class_word,
        state=state,
        images=None if found is None else found.images,
        error_removed=None if found is None else found.scores.error_removed,
        verdict=None if found is None else found.verdict,
        code=None if err is None else err.code,
        exit=0 if err is None else err.exit_status,
        message=None if err is None else err.what,
    )


def problem(result: results.TrainListResult) -> CnsctlError | None:
    """The error of a list of which concepts failed, with the exit status of the worst; None if all are trained."""
    failed = [row for row in result.concepts if row.state == "failed"]
    if not failed:
        return None
    worst = max(failed, key=lambda row: row.exit)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CnsctlError)]
    kind = next((k for k in kinds if k.code == worst.code and k.__init__ is CnsctlError.__init__), errors.UsageError)
    return kind(
        f"{len(failed)} of {len(result.concepts)} concepts failed: {', '.join(row.name for row in failed)}",
        note=f"{worst.name}: {worst.message}",
        hint="correct the cause and do the same again: concepts that are trained are skipped",
    )
