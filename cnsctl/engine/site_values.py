"""Training the values of neurons without a copy of all K/V weights: `--memory low` and `lowest`.

K, V and their gradients are computed site by site from the denoiser's own weights. The weight of one site is cast to fp32
and gets the trained values; its gradient is gathered at the trained entries at once. So at any time only one site has an
fp32 weight and a dense gradient: 10 MB each at SDXL's size, instead of three matrices of 1.36 GB.

Results differ from those of one product for all sites (`engine.optim`) by the order of additions only.

Owns these products; must not know losses, optimizers or concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base


class Weights(Mapping[str, torch.Tensor]):
    """A weight per site, computed when it is read."""

    def __init__(self, base: Base, change: Callable[[torch.Tensor, str], torch.Tensor]) -> None:
        self._base, self._change = base, change

    def __getitem__(self, site: str) -> torch.Tensor:
        return self._change(self._base.sites[site], site)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base.sites)

    def __len__(self) -> int:
        return len(self._base.sites)


class SiteValues:
    """The trainable entries of all sites as one flat fp32 parameter; `optim.IndexedValues` without the matrix.

    Args:
        start: per site, the weight that training starts from.
        mask: per site, flat indices within the site.
    """

    def __init__(self, start: Mapping[str, torch.Tensor], mask: Mapping[str, torch.Tensor]) -> None:
        self.mask = dict(mask)
        self.parts: dict[str, slice] = {}
        end = 0
        for site, flat in mask.items():
            self.parts[site] = slice(end, end + len(flat))
            end += len(flat)
        found = [start[site].reshape(-1)[flat] for site, flat in mask.items()]
        self.values = torch.nn.Parameter(torch.cat(found))

    def collect_gradient(self) -> None:
        """Autograd writes the gradient to `values` itself."""

    def write_back(self) -> None:
        """The next products read `values` themselves."""

    def by_site(self) -> dict[str, torch.Tensor]:
        """Current values per site."""
        return {site: self.values.detach()[part] for site, part in self.parts.items()}


def products(
    base: Base,
    X: torch.Tensor,
    values: SiteValues | None,
    *,
    start: Mapping[str, torch.Tensor],
    rows: torch.Tensor,
    own: torch.Tensor | None,
    length: int,
) -> dict[str, torch.Tensor]:
    """K and V of every site, (b, t, rows) in the base model's dtype.

    Args:
        base: of the sites.
        X: (n, columns), the features of all distinct texts.
        values: what is trained; None if only token embeddings are.
        start: per site, the weight that training starts from.
        rows: (b · t,) int64, rows of the result: row i of X, or n + j for the concept's own token j.
        own: (m,) int64, the concept's own tokens in X, which alone use the trained values; None if all tokens do.
        length: t.
    """
    trained = torch.empty(0, device=X.device) if values is None else values.values
    plan = _Plan(base=base, start=start, values=values, rows=rows, own=own, length=length)
    found = _Products.apply(X, trained, plan)  # type: ignore[no-untyped-call]
    return dict(zip(base.sites, found, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """What stays the same between the forward and the backward pass; see `products`."""

    base: Base
    start: Mapping[str, torch.Tensor]
    values: SiteValues | None
    rows: torch.Tensor
    own: torch.Tensor | None
    length: int

    def weight(self, site: str, values: torch.Tensor) -> torch.Tensor:
        """The weight of a site with these values."""
        W = self.start[site]
        if self.values is not None:
            W = W.clone()
            W.view(-1)[self.values.mask[site]] = values[self.values.parts[site]]
        return W


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, X: torch.Tensor, values: torch.Tensor, plan: _Plan) -> tuple[torch.Tensor, ...]:
        ctx.plan = plan
        ctx.save_for_backward(X, values)
        here = None if plan.own is None else X.index_select(0, plan.own)
        found = []
        for site in plan.base.sites:
            trained = plan.weight(site, values)
            out = X @ trained.T if here is None else torch.cat([X @ plan.start[site].T, here @ trained.T])
            out = out.index_select(0, plan.rows)
            if (bias := plan.base.biases.get(site)) is not None:
                out = out + bias
            found.append(out.to(plan.base.dtype).view(-1, plan.length, out.shape[1]))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        X, values = ctx.saved_tensors
        plan: _Plan = ctx.plan
        here = X if plan.own is None else X.index_select(0, plan.own)
        n = len(X) + (0 if plan.own is None else len(plan.own))
        dX, found = torch.zeros_like(X), torch.zeros_like(values)
        d_here = torch.zeros_like(here)
        for site, gradient in zip(plan.base.sites, gradients, strict=True):
            G = gradient.new_zeros((n, gradient.shape[2]), dtype=torch.float32)
            G.index_add_(0, plan.rows, gradient.flatten(0, 1).float())
            trained = plan.weight(site, values)
            if plan.own is None:
                dX += G @ trained
            else:
                others, G = G.split_with_sizes([len(X), len(here)])
                dX += others @ plan.start[site]
                d_here += G @ trained
            if plan.values is not None:
                dense = G.T @ here  # of this site alone
                found[plan.values.parts[site]] = dense.view(-1)[plan.values.mask[site]]
        if plan.own is not None:
            dX.index_add_(0, plan.own, d_here)
        return dX, found if plan.values is not None else None, None
