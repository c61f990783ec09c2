"""What another program trained, as a delta of the store's base model.

Owns the choice of token embeddings, neurons and values; must not know files or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.app.concepts import IMPORT_ERROR
from cnsctl.app.stores import open_base
from cnsctl.bases.base_folder import default_budget
from cnsctl.concept import Delta, Mode
from cnsctl.data.prompt_templates import fitted_prompts, unseen_prompts
from cnsctl.errors import BaseModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.app.session import Session
    from cnsctl.bases.protocol import Base
    from cnsctl.formats.contents import Incoming
    from cnsctl.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Converted:
    """A delta that was made from another program's file."""

    delta: Delta
    error: float | None
    """Relative error of keys and values by the changes that are left out; None if none is."""


def budget_of(store: Store, given: float | None) -> float:
    """The share of each site that a concept may change: as given, else the base model's own."""
    if given is not None:
        return given
    base = store.base
    own = default_budget(kv_weights=base.n_weights, denoiser_weights=base.denoiser_weights)
    return float(open_base(store).train.get("budget", own))


def converting(
    session: Session,
    incoming: Incoming,
    *,
    class_word: str,
    initial: str | None,
    budget: float,
    recipe: Mapping[str, str | float],
) -> Generator[None, None, Converted]:
    """Make a delta; yields after each site.

    Args:
        session: with the base model.
        incoming: a file's content, whose sites are those of the base model.
        class_word: follows the token embeddings; empty for none.
        initial: words whose embeddings the concept gets if the file has none.
        budget: share of each site that may change.
        recipe: where the file comes from.

    Raises:
        BaseModelError: its token embeddings are of another base model.
        UsageError: a number is too large for fp16, or the words have no tokens.
    """
    base = session.base
    vectors = _halves(dict(incoming.vectors) or _of_words(session, initial))
    if (widths := {encoder: table.shape[1] for encoder, table in vectors.items()}) != dict(base.vector_widths):
        raise BaseModelError(
            f"the file's token embeddings are for another base model: {_listed(widths)}",
            note=f"{base.name} has {_listed(base.vector_widths)}",
            hint="import it into a store on the base model that it was trained on",
        )
    made: dict[str, str | int | float | bool] = dict(recipe)
    if not incoming.vectors and initial is not None:
        made["initial_words"] = initial
    found = yield from _sparse(session, incoming, vectors, class_word, budget)
    made |= {"budget": budget} if incoming.weights else {}
    made |= {} if found[2] is None else {IMPORT_ERROR: round(found[2], 4)}
    delta = Delta(
        shapes=dict(base.shapes),
        indices=found[0],
        values=found[1],
        vectors=vectors,
        class_word=class_word,
        fingerprint=base.fingerprint,
        mode=session.store.mode,  # its values are fitted to the tokens that it acts on there
        recipe=made,
    )
    return Converted(delta=delta, error=found[2])


def too_many_embeddings(base: Base, n: int) -> UsageError:
    """The error of a file whose token embeddings do not fit into our prompts; the user wrote none."""
    return UsageError(
        f"the file has too many token embeddings: {n}",
        note=f"{base.name} reads prompts that are too short for them",
        hint="import it into a store on a base model that reads longer prompts",
    )


def _of_words(session: Session, words: str | None) -> dict[str, NDArray[np.float32]]:
    """The base model's own embeddings of some words, one for each of their tokens."""
    found = {} if words is None else session.base.embeddings(words)
    if not found or not all(len(rows) for rows in found.values()):
        raise UsageError(f"these words have no tokens: {words!r}", reason="class-word")
    return {encoder: rows.cpu().numpy() for encoder, rows in found.items()}


def _halves(vectors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    import numpy as np

    with np.errstate(over="ignore"):
        halves = {encoder: table.astype(np.float16) for encoder, table in vectors.items()}
    if not all(np.isfinite(table).all() for table in halves.values()):
        raise UsageError(
            "a token embedding is too large for fp16", hint="export the file again, with finite embeddings"
        )
    return halves


def _sparse(
    session: Session,
    incoming: Incoming,
    vectors: Mapping[str, NDArray[np.float16]],
    class_word: str,
    budget: float,
) -> Generator[None, None, tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.float16]], float | None]]:
    """Indices, values and error of the neurons; without weights in the file, every site is empty."""
    import numpy as np
    import torch

    from cnsctl.bases.protocol import Slot
    from cnsctl.engine.sparsify import sparsifying, tokens

    base, name = session.base, "concept"
    if not incoming.weights:
        empty = np.empty(0, np.int64)
        return dict.fromkeys(base.shapes, empty), dict.fromkeys(base.shapes, empty.astype(np.float16)), None
    rows = {encoder: torch.from_numpy(table.astype(np.float32)) for encoder, table in vectors.items()}
    placed: dict[str, torch.Tensor] = {encoder: table.to(base.device) for encoder, table in rows.items()}
    slot = Slot(name=name, class_word=class_word, n_vectors=len(next(iter(rows.values()))))
    own = session.store.mode is Mode.TOKEN
    try:
        fitted, unseen = (
            tokens(base, prompts(name), slot, placed, own=own) for prompts in (fitted_prompts, unseen_prompts)
        )
    except UsageError as err:
        raise too_many_embeddings(base, slot.n_vectors) from err
    work = sparsifying(
        base, incoming.weights, differences=incoming.differences, budget=budget, fitted=fitted, unseen=unseen
    )
    while True:
        try:
            next(work)
        except StopIteration as done:
            return dict(done.value.indices), dict(done.value.values), done.value.error
        yield


def _listed(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{encoder} {width}" for encoder, width in widths.items())
