"""Indexed AdamW: one dense leaf for the gradient, optimizer state for the selected entries only.

All sites read the same X, so their weights are stacked to one matrix: a single product gives K and V of every site. Its
dense gradient is dropped as soon as the selected entries are gathered. torch's AdamW runs on one flat vector, whose
values are written back into the matrix.

Owns the only in-place writes of training; must not know losses or concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


class IndexedValues:
    """The trainable entries of all sites as one flat fp32 parameter.

    Args:
        weight: all sites, one below the other, (Σ rows, columns) fp32. Training changes it in place.
        sites: rows of each site in `weight`, in order.
        mask: per site, flat indices within the site.
    """

    def __init__(self, weight: torch.Tensor, sites: Mapping[str, slice], mask: Mapping[str, torch.Tensor]) -> None:
        self.weight = weight.requires_grad_()
        self.parts: dict[str, slice] = {}
        """Per site: where its entries are in `values`."""
        self._first = {site: sites[site].start * weight.shape[1] for site in mask}
        end = 0
        for site, flat in mask.items():
            self.parts[site] = slice(end, end + len(flat))
            end += len(flat)
        self.flat = torch.cat([self._first[site] + flat for site, flat in mask.items()])
        """(n,) int64, flat indices into `weight`."""
        self.values = torch.nn.Parameter(weight.detach().view(-1)[self.flat])  # (n,) fp32

    @property
    def mask(self) -> dict[str, torch.Tensor]:
        """Per site: the flat indices within it."""
        return {site: self.flat[part] - self._first[site] for site, part in self.parts.items()}

    def collect_gradient(self) -> None:
        """Copy the selected entries' gradient to the flat parameter, and drop the dense gradient."""
        if self.weight.grad is None:  # this process has no part in the step
            return
        self.values.grad = self.weight.grad.view(-1)[self.flat]
        self.weight.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the current values into the matrix, which the next K and V are computed with."""
        self.weight.view(-1)[self.flat] = self.values

    def by_site(self) -> dict[str, torch.Tensor]:
        """Current values per site."""
        return {site: self.values.detach()[part] for site, part in self.parts.items()}


def adamw(parameter: torch.Tensor, rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay, which would pull values towards zero instead of their starting values."""
    return torch.optim.AdamW([parameter], lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)


def moments(optimizer: torch.optim.AdamW, name: str) -> dict[str, torch.Tensor]:
    """The optimizer's state as named tensors; empty before its first step."""
    state = next(iter(optimizer.state.values()), None)
    return {} if state is None else {f"{name}.{key}": state[key] for key in ("step", "exp_avg", "exp_avg_sq")}


def restore_moments(optimizer: torch.optim.AdamW, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the state that `moments` returned."""
    if f"{name}.step" not in tensors:
        return
    parameter = optimizer.param_groups[0]["params"][0]
    optimizer.state[parameter] = {
        "step": tensors[f"{name}.step"].to(parameter.device).clone(),
        "exp_avg": tensors[f"{name}.exp_avg"].to(parameter).clone(),
        "exp_avg_sq": tensors[f"{name}.exp_avg_sq"].to(parameter).clone(),
    }
