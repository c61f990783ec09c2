"""Orthogonal projection: training in the directions that earlier concepts' K and V do not read.

    P (columns × r)   leading directions of X at the earlier concepts' own tokens
    u ← u − P (Pᵀ P)⁺ Pᵀ u     per row, all of it restricted to that row's columns of the mask M

K = W X does not change where X lies in P. So K and V of earlier concepts hardly change: only by rounding to fp16 and
along directions other than the leading ones. A row whose columns lie in P completely cannot be trained.

Owns this algebra; must not know optimizers, losses or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cnsctl.data.prompt_templates import training_texts
from cnsctl.engine.prompt_tokens import features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.neurons import Mask
    from cnsctl.engine.overlay import Overlay

RANK = 2
"""Protected directions per earlier concept (ours)."""

TOLERANCE = 1e-4
"""Share of the largest eigenvalue of PᵀP in a row; directions below it count as absent from the row's columns."""


@torch.no_grad()
def directions(base: Base, prior: Overlay) -> torch.Tensor:
    """Leading directions of X at each earlier concept's own tokens: (d, RANK · concepts), unit columns."""
    found = [torch.zeros((next(iter(base.shapes.values()))[1], 0), device=base.device)]
    for name, concept in prior.concepts.items():
        texts = [prior.splice(base, prompt) for prompt in training_texts(name)]
        X = features(base, texts, {name: concept.vectors}).x  # (b, t, d)
        own = torch.cat([x[list(text.spans[name])] for x, text in zip(X, texts, strict=True)])  # (tokens, d)
        found.append(torch.linalg.svd(own.float(), full_matrices=False).Vh[:RANK].T)
    return torch.cat(found, dim=1)


class Projection:
    """Removes from an update the part that changes K and V of earlier concepts.

    Args:
        P: directions (d, r).
        mask: the neurons that are trained, per site.
        shapes: rows and columns per site.
    """

    def __init__(self, P: torch.Tensor, mask: Mask, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.P, self.mask = P, mask
        self.rows = {site: flat // shapes[site][1] for site, flat in mask.items()}
        self.columns = {site: flat % shapes[site][1] for site, flat in mask.items()}
        self.n_rows = {site: shape[0] for site, shape in shapes.items()}
        self.inverse: dict[str, torch.Tensor] = {}
        self.full_rows = self.used_rows = 0
        """Rows without a free direction, and rows with trained neurons."""
        r = P.shape[1]
        squares = (P[:, :, None] * P[:, None, :]).reshape(len(P), r * r)  # (d, r²): once per column
        for site in mask:
            inside = torch.zeros(shapes[site], dtype=P.dtype, device=P.device)
            inside.view(-1)[mask[site]] = 1
            gram = (
                (inside @ squares).view(len(inside), r, r).cpu().double()
            )  # float64: its condition number is that of the directions, squared
            self.inverse[site] = torch.linalg.pinv(gram, rtol=TOLERANCE, hermitian=True).to(P)  # (rows, r, r)
            count = torch.bincount(self.rows[site], minlength=self.n_rows[site]).cpu()
            taken = torch.linalg.matrix_rank(gram, rtol=TOLERANCE, hermitian=True)
            self.full_rows += int(((count > 0) & (taken >= count)).sum())
            self.used_rows += int((count > 0).sum())

    def off(self, site: str, update: torch.Tensor) -> torch.Tensor:
        """The update of a site's neurons (n,), without the part along P in each row."""
        p = self.P[self.columns[site]]  # (n, r)
        along = self._by_row(site, p * update[:, None])  # (rows, r)
        weights = torch.einsum("irs,is->ir", self.inverse[site], along)
        return update - (p * weights[self.rows[site]]).sum(1)

    def _by_row(self, site: str, values: torch.Tensor) -> torch.Tensor:
        """Sums of the neurons' values (n, ...) by row: (rows, ...)."""
        out = torch.zeros((self.n_rows[site], *values.shape[1:]), dtype=values.dtype, device=values.device)
        return out.index_add_(0, self.rows[site], values)
