"""A dense change of the K/V weights as the neurons of a concept: its largest part, fitted to the concept's tokens (ours).

    mask   per row the highest |ΔW[i, j]| · ‖X[:, j]‖₂, within the budget
    s[i]   minimizes ‖(s − ΔW[i]) Rᵀ‖² + λ ‖s − ΔW[i]‖² on the mask; s is 0 beside it

R (r × columns) are the leading directions of X, scaled. K and V read ΔW through X alone, which spans few directions at the
tokens of one concept. So a few weights per row can do there nearly what all of them do. A row whose s is too large for fp16
keeps ΔW[i] on the mask, and so does a site whose fit is worse on the tokens of other prompts.

Owns this algebra; must not know files, formats or the store.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnsctl.engine.neurons import select_neurons, site_budget
from cnsctl.engine.prompt_tokens import features, splice
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base, Slot
    from cnsctl.concept import Prompt

DIRECTIONS = 48
"""Of X at most; those beyond have less than a hundredth of the first one's size."""

RIDGE = 1e-3
"""λ as a share of the largest squared singular value of X. 1e-2 and 1e-4 have larger errors on other prompts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sparse:
    """The neurons of an imported concept."""

    indices: Mapping[str, NDArray[np.int64]]
    """Per site: sorted flat row-major indices."""
    values: Mapping[str, NDArray[np.float16]]
    """Per site: the new values."""
    error: float | None
    """Relative error of K and V at the tokens of other prompts than those fitted to; None if every change is kept."""


@torch.no_grad()
def tokens(
    base: Base, prompts: Sequence[Prompt], slot: Slot, vectors: Mapping[str, torch.Tensor], *, own: bool
) -> torch.Tensor:
    """X at a concept's own tokens, or at all real tokens, of prompts that name it: (tokens, columns).

    Raises:
        UsageError: the concept fits into none of them. Those that are too long for it are left out.
    """
    texts = []
    for prompt in prompts:
        with suppress(UsageError):
            texts.append(splice(base, prompt, {slot.name: slot}))
    if not texts:
        raise UsageError(f"{slot.n_vectors} token embeddings fit into none of the prompts")
    X = features(base, texts, {slot.name: vectors}).x
    places = [text.spans[slot.name] if own else text.tokens.real for text in texts]
    return torch.cat([x[list(at)] for x, at in zip(X, places, strict=True)])


@torch.no_grad()
def sparsifying(
    base: Base,
    weights: Mapping[str, Callable[[], NDArray[np.float32]]],
    *,
    differences: bool,
    budget: float,
    fitted: torch.Tensor,
    unseen: torch.Tensor,
) -> Generator[str, None, Sparse]:
    """Turn a dense change into neurons, one site at a time; yields each site that is done.

    A change that fp16 cannot represent is none. If a site has no more changes than its budget, all are kept as they are.

    Args:
        base: that the change belongs to.
        weights: per site: reads W or W − W₀, (rows, columns). Sites without a change may be missing.
        differences: `weights` gives W − W₀.
        budget: share of each site that may change.
        fitted: X at the tokens that the values are fitted to, (tokens, columns).
        unseen: X at the tokens that the error is measured on, (tokens, columns).

    Raises:
        UsageError: a weight is too large for fp16.
    """
    R = _directions(fitted)
    squares = (R.T[:, :, None] * R.T[:, None, :]).reshape(R.shape[1], -1)  # (columns, r²): once for all sites
    norms = fitted.square().sum(0).sqrt()
    indices, values, wrong, whole = {}, {}, 0.0, 0.0
    dropped = False
    for site, W in base.sites.items():
        change = _change(W, weights[site]() if site in weights else None, site, differences=differences)
        mask, choices = change != 0, [change]
        if int(mask.sum()) > site_budget(budget, *W.shape):
            dropped = True
            mask = _largest(change.abs() * norms, budget)
            choices = [_refitted(W, change, mask, R, squares), change * mask]
        halves = [(W + kept).half() for kept in choices]
        errors = [_effect(torch.where(mask, new.float() - W, 0) - change, unseen) for new in halves]
        best = errors.index(min(errors))
        flat = mask.view(-1).nonzero().flatten()
        indices[site] = flat.cpu().numpy()
        values[site] = halves[best].view(-1)[flat].cpu().numpy()
        wrong, whole = wrong + errors[best], whole + _effect(change, unseen)
        yield site
    error = (wrong / whole) ** 0.5 if dropped and whole else None
    return Sparse(indices=indices, values=values, error=error)


def _change(W: torch.Tensor, given: NDArray[np.float32] | None, site: str, *, differences: bool) -> torch.Tensor:
    """ΔW of one site, 0 where fp16 gives the weight that was there before."""
    if given is None:
        return torch.zeros_like(W)
    new = torch.from_numpy(given).to(W)
    new = W + new if differences else new
    if not bool(torch.isfinite(new.half()).all()):
        raise UsageError(f"a weight of {site} is too large for fp16", hint="export the file again, with finite weights")
    return torch.where(new.half() == W.half(), 0, new - W)


def _largest(scores: torch.Tensor, budget: float) -> torch.Tensor:
    flat = select_neurons(scores, budget=budget, general=torch.zeros_like(scores, dtype=torch.bool))
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[flat] = True
    return mask.view_as(scores)


def _directions(X: torch.Tensor) -> torch.Tensor:
    """R with RᵀR ≈ XᵀX, and a largest singular value of 1: (at most DIRECTIONS, columns)."""
    _, sizes, rows = torch.linalg.svd(X.float(), full_matrices=False)
    found: torch.Tensor = (sizes[:, None] * rows / sizes[0].clamp(min=1e-30))[:DIRECTIONS]
    return found


def _effect(change: torch.Tensor, X: torch.Tensor) -> float:
    """‖ΔW Xᵀ‖²: its size in K or V at these tokens."""
    return float((change @ X.T).double().square().sum())


def _refitted(
    W: torch.Tensor, change: torch.Tensor, mask: torch.Tensor, R: torch.Tensor, squares: torch.Tensor
) -> torch.Tensor:
    """The change on the mask, corrected for what is missing beside it, in rows where fp16 can represent the sum."""
    r, inside = len(R), mask.to(R.dtype)
    gram = (inside @ squares).view(-1, r, r) + RIDGE * torch.eye(r, device=R.device)  # (rows, r, r)
    missing = (change * ~mask) @ R.T  # (rows, r)
    correction: torch.Tensor = torch.linalg.solve(gram, missing) @ R  # (rows, columns)
    corrected, plain = torch.where(mask, change + correction, 0), change * mask
    finite = torch.isfinite((W + corrected).half()) | ~mask
    return torch.where(finite.all(1, keepdim=True), corrected, plain)
