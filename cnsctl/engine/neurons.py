"""Scoring the K/V weights and selecting the neurons of a concept (CNS, arXiv 2510.02296).

    S[i, j] = |W[i, j]| · ‖X[:, j]‖₂       importance (Wanda's), X the text features at the real tokens
    concept neurons = base neurons (highest S per row) minus general neurons (high for most prompts)

Owns these formulas, on tensors; must not know training, the store or the libraries that compute X.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cnsctl.concept import Prompt
from cnsctl.engine.prompt_tokens import SplicedText, features, splice
from cnsctl.engine.row_tops import times_on_top
from cnsctl.engine.seeds import stream
from cnsctl.errors import CapacityError
from cnsctl.events import result_of
from cnsctl.settings import Policy, Select

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base

GENERAL_TOP = 0.10
"""ρ_g: share of a row that counts as highly responsive (ours; the paper does not specify it)."""

GENERAL_SHARE = 0.50
"""τ: share of the calibration prompts for which a general neuron is highly responsive (ours)."""

Mask = Mapping[str, torch.Tensor]
"""Per site: (n,) int64, sorted flat row-major indices."""

Owned = Mapping[str, NDArray[np.uint8]]
"""Per site: one bit per weight, flat row-major, in the order of `numpy.packbits`."""


def token_norms(X: torch.Tensor, texts: Sequence[SplicedText]) -> torch.Tensor:
    """‖X[:, j]‖₂ over the real tokens of all texts, without start, end and padding: (d,)."""
    real = torch.cat([x[list(t.tokens.real)] for x, t in zip(X, texts, strict=True)])  # (tokens, d)
    return real.float().square().sum(0).sqrt()


def importance(W: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """S of one site: (rows, columns)."""
    return W.abs() * norms[None, :]


def general_neurons(base: Base, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """The result of `finding_general_neurons`."""
    return result_of(finding_general_neurons(base, texts))


def finding_general_neurons(base: Base, texts: Sequence[str]) -> Generator[int, None, dict[str, torch.Tensor]]:
    """Neurons that most prompts use: per site (rows, columns) bool, over W₀ (ours, after the paper's definition).

    A neuron is general if it is in the top ρ_g of its row for at least τ of the calibration prompts.

    Yields:
        The prompts and sites that are done, of len(texts) + len(base.sites).
    """
    norms, found = [], {}
    for done, text in enumerate(texts, start=1):
        with torch.no_grad():
            spliced = splice(base, Prompt(text=text, pieces=(text,)), {})
            norms.append(token_norms(features(base, [spliced], {}).x, [spliced]))
        yield done
    for done, (site, W) in enumerate(base.sites.items(), start=len(texts) + 1):
        top = max(1, round(GENERAL_TOP * W.shape[1]))
        found[site] = times_on_top(W, norms, top) >= GENERAL_SHARE * len(norms)
        yield done
    return found


def general_settings() -> tuple[str, ...]:
    """What general neurons depend on beside the base model and the prompts: part of a cache's key."""
    return (f"top {GENERAL_TOP}", f"share {GENERAL_SHARE}")


def select_neurons(
    scores: torch.Tensor,
    *,
    budget: float,
    general: torch.Tensor,
    owned: torch.Tensor | None = None,
    policy: Policy = Policy.OVERLAP,
) -> torch.Tensor:
    """Concept neurons of one site: exactly round(budget · rows · columns) of them, as sorted flat indices.

    Each row contributes its floor(budget · columns) highest S that are not general. The rest of the budget goes to the
    rows whose next S is highest relative to the sum of the row. Among equal S the lower index is taken. A row without
    further candidates contributes its general neurons. The policy `prefer-free` takes owned neurons last, `exclusive`
    never.

    Args:
        scores: S, (rows, columns).
        budget: share of the site, 0 < budget ≤ 1.
        general: (rows, columns) bool.
        owned: neurons that other concepts own, (rows, columns) bool, or None.
        policy: what to do with owned neurons.

    Raises:
        CapacityError: too few free neurons for `exclusive`.
    """
    rows, columns = scores.shape
    total = site_budget(budget, rows, columns)
    tier = general.to(torch.int8)  # lower tiers are taken first
    if owned is not None and policy is not Policy.OVERLAP:
        tier = tier + 2 * owned.to(torch.int8)
    usable = torch.full((rows,), columns, device=scores.device)
    most = min(columns, int(_exactly(budget) * columns) + 1)  # of a row, where every row has enough candidates
    if owned is not None and policy is Policy.EXCLUSIVE:
        usable, most = (~owned).sum(1), columns
        refuse_full(owned, budget)
    order = _row_order(scores, tier, most)
    counts = _row_counts(scores, tier, order, usable, total=total, budget=budget)
    taken = torch.arange(most, device=scores.device)[None, :] < counts[:, None]
    flat = torch.arange(rows, device=scores.device)[:, None] * columns + order
    return flat[taken].sort().values


def refuse_full(owned: torch.Tensor, budget: float) -> None:
    """Check that a site has enough neurons that no other concept owns, (rows, columns) bool.

    Raises:
        CapacityError: it has not; only `exclusive` needs them.
    """
    total, free = site_budget(budget, *owned.shape), int((~owned).sum())
    if free < total:
        raise CapacityError(f"not enough free neurons: a site has {free}, the budget needs {total}", reason="capacity")


def strict_neurons(scores: torch.Tensor, *, budget: float, general: torch.Tensor) -> torch.Tensor:
    """Base neurons that are not general, as sorted flat indices: the paper's mask, of any size up to the budget.

    Base neurons are the highest S of a site: those of `select_neurons` without general neurons.
    """
    flat = select_neurons(scores, budget=budget, general=torch.zeros_like(general))
    return flat[~general.view(-1)[flat]]


def site_budget(budget: float, rows: int, columns: int) -> int:
    """Neurons of a site at a budget: round(budget · rows · columns), at least one."""
    return max(1, round(_exactly(budget) * rows * columns))


def _exactly(budget: float) -> Fraction:
    """The decimal number as written: in floats 0.29 · 100 is 28.999…, and 0.1 · 3 · 15 is more than 4.5."""
    return Fraction(str(budget))


def _row_order(scores: torch.Tensor, tier: torch.Tensor, first: int) -> torch.Tensor:
    """The columns of each row by tier, then by falling S, then from left to right: (rows, first).

    The three are one integer, so that no two are equal and a row can be partitioned before its first part is sorted.
    A selection takes about a sixth of the CPU time of two stable sorts of whole rows (1280 × 2048, one core).
    """
    columns = scores.shape[1]
    falling = torch.iinfo(torch.int32).max - scores.float().view(torch.int32).long()  # S ≥ 0: its bits have its order
    rank = falling.add_(tier.long() << 31).mul_(columns).add_(torch.arange(columns, device=scores.device))
    if rank.device.type != "cpu":
        return rank.sort(dim=1).values[:, :first] % columns
    array = rank.numpy()
    array.partition(first - 1, axis=1)
    best = array[:, :first].copy()
    best.sort(axis=1)
    return torch.from_numpy(best) % columns


def _row_counts(
    scores: torch.Tensor, tier: torch.Tensor, order: torch.Tensor, usable: torch.Tensor, *, total: int, budget: float
) -> torch.Tensor:
    """Neurons per row: an equal share, then the rest by the relative S of the row's next neuron."""
    rows, columns = scores.shape
    share = int(_exactly(budget) * columns)
    counts = usable.clamp(max=min(share, total // rows))
    relative = scores / scores.sum(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    while (short := total - int(counts.sum())) > 0:
        open_rows = (counts < usable).nonzero().flatten()
        column = order[open_rows, counts[open_rows]]
        ranked = _lexicographic(tier[open_rows, column], -relative[open_rows, column])
        counts[open_rows[ranked[:short]]] += 1
    return counts


def _lexicographic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    by_second = second.argsort(stable=True)
    return by_second[first[by_second].argsort(stable=True)]


def random_neurons(base: Base, *, budget: float, seed: int) -> dict[str, torch.Tensor]:
    """The result of `finding_random_neurons`."""
    return result_of(finding_random_neurons(base, budget=budget, seed=seed))


def finding_random_neurons(base: Base, *, budget: float, seed: int) -> Generator[int, None, dict[str, torch.Tensor]]:
    """A random mask of the same size at each site: the control for claims about the score.

    Yields:
        The sites that are done.
    """
    mask = {}
    for done, (site, (rows, columns)) in enumerate(base.shapes.items(), start=1):
        n = site_budget(budget, rows, columns)
        mask[site] = (
            torch.randperm(rows * columns, generator=stream("random mask", seed, site))[:n]
            .sort()
            .values.to(base.device)
        )
        yield done
    return mask


def finding_concept_neurons(
    base: Base,
    weights: Mapping[str, torch.Tensor],
    norms: torch.Tensor,
    *,
    budget: float,
    general: Mapping[str, torch.Tensor],
    owned: Mapping[str, torch.Tensor] | None = None,
    policy: Policy = Policy.OVERLAP,
    select: Select = Select.EXACT,
) -> Generator[int, None, dict[str, torch.Tensor]]:
    """Select at every site. `weights` are those that training starts from: W₀, or in merged mode the overlay so far.

    Yields:
        The sites that are done.

    Raises:
        CapacityError: too few free neurons for `exclusive`, or every base neuron is general (`intersect`).
    """
    found = {}
    for done, site in enumerate(base.sites, start=1):
        scores, common = importance(weights[site], norms), general[site].to(base.device)
        if select is Select.INTERSECT:
            found[site] = strict_neurons(scores, budget=budget, general=common)
        else:
            own = None if owned is None else owned[site]
            found[site] = select_neurons(scores, budget=budget, general=common, owned=own, policy=policy)
        yield done
    if not any(len(flat) for flat in found.values()):
        raise CapacityError("every base neuron is a general neuron", reason="no-general-free")
    return found


def packed(base: Base, masks: Iterable[Mask]) -> dict[str, NDArray[np.uint8]]:
    """The union of masks, per site one bit per weight, flat row-major, in the order of `numpy.packbits`."""
    marked = {site: np.zeros(rows * columns, np.bool_) for site, (rows, columns) in base.shapes.items()}
    for mask in masks:
        for site, flat in mask.items():
            marked[site][flat.cpu().numpy()] = True
    return {site: np.packbits(bits) for site, bits in marked.items()}


def owned_entries(base: Base, owned: Owned) -> dict[str, torch.Tensor]:
    """Per site (rows, columns) bool, on the base model's device."""
    found = {}
    for site, (rows, columns) in base.shapes.items():
        bits = np.unpackbits(owned[site], count=rows * columns).view(np.bool_)
        found[site] = torch.from_numpy(bits).view(rows, columns).to(base.device)
    return found


def shared_with(mask: Mask, owned: Owned) -> int:
    """The number of neurons of a mask that are owned."""
    flat = {site: at.cpu().numpy() for site, at in mask.items()}
    return sum(int((owned[site][at >> 3] >> (7 - (at & 7)) & 1).sum(dtype=np.int64)) for site, at in flat.items())
