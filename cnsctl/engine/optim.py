"""Indexed AdamW: dense leaves for the gradient, optimizer state for the chosen entries only.

Each site keeps a temporary copy of its weight as a leaf; when its gradient arrives, the chosen entries are gathered and
the dense gradient is dropped at once. torch's AdamW then runs on one flat vector, and the new values are set back.

Owns the only in-place writes of training; must not know losses or concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class IndexedValues:
    """The trainable entries of all sites as one flat fp32 parameter."""

    def __init__(self, weights: Mapping[str, torch.Tensor], mask: Mapping[str, torch.Tensor]) -> None:
        self.mask = mask
        self.leaves = {site: W.clone().requires_grad_() for site, W in weights.items()}
        self.parts: dict[str, slice] = {}
        end = 0
        for site, flat in mask.items():
            self.parts[site] = slice(end, end + len(flat))
            end += len(flat)
        start = torch.cat([weights[site].reshape(-1)[flat] for site, flat in mask.items()])
        self.values = torch.nn.Parameter(start)  # (n,) fp32
        self._gradient = torch.zeros_like(start)
        for site, leaf in self.leaves.items():
            leaf.register_post_accumulate_grad_hook(self._gather(site))  # type: ignore[no-untyped-call]

    def _gather(self, site: str) -> Callable[[torch.Tensor], None]:
        part, flat = self._gradient[self.parts[site]], self.mask[site]

        def hook(
            leaf: torch.Tensor,
        ) -> None:  # must not name self: torch keeps hooks where no collector sees the circle
            assert leaf.grad is not None
            part.copy_(leaf.grad.view(-1)[flat])
            leaf.grad = None

        return hook

    def collect_gradient(self) -> None:
        """Hand the gathered gradient to the flat parameter."""
        self.values.grad = self._gradient

    @torch.no_grad()
    def write_back(self) -> None:
        """Set the current values into the leaves, so that the next K and V read them."""
        for site, leaf in self.leaves.items():
            leaf.view(-1)[self.mask[site]] = self.values[self.parts[site]]

    def by_site(self) -> dict[str, torch.Tensor]:
        """Current values per site."""
        return {site: self.values.detach()[part] for site, part in self.parts.items()}


def adamw(parameter: torch.Tensor, rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay: decay would pull values towards zero, and zero is not where they started."""
    return torch.optim.AdamW([parameter], lr=rate, betas=(0.9, 0.99), weight_decay=0.0, foreach=False)


def moments(optimizer: torch.optim.AdamW, name: str) -> dict[str, torch.Tensor]:
    """The optimizer's state as named tensors; empty before its first step."""
    state = next(iter(optimizer.state.values()), None)
    return {} if state is None else {f"{name}.{key}": state[key] for key in ("step", "exp_avg", "exp_avg_sq")}


def restore_moments(optimizer: torch.optim.AdamW, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `moments` gave."""
    if f"{name}.step" not in tensors:
        return
    parameter = optimizer.param_groups[0]["params"][0]
    optimizer.state[parameter] = {
        "step": tensors[f"{name}.step"].clone(),
        "exp_avg": tensors[f"{name}.exp_avg"].to(parameter).clone(),
        "exp_avg_sq": tensors[f"{name}.exp_avg_sq"].to(parameter).clone(),
    }
