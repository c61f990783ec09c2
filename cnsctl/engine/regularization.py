"""Self-regularization in merged mode (CNS, L_reg).

Owns its gradient; must not know the loss or the optimizer's steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cnsctl.concept import Mode
from cnsctl.engine import neurons

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base
    from cnsctl.engine import optim
    from cnsctl.engine.job import Job
    from cnsctl.engine.site_values import SiteValues


class Pull:
    """Self-regularization in merged mode: λ_prev‖(W − W_prev)⊙(M∩owned)‖² + λ_base‖(W − W₀)⊙M‖² (CNS, L_reg)."""

    def __init__(self, base: Base, job: Job, values: optim.IndexedValues | SiteValues) -> None:
        self.values, settings = values, job.settings
        self.on = job.mode is Mode.MERGED and (settings.lambda_prev > 0 or settings.lambda_base > 0)
        if not self.on:
            return
        owned = neurons.owned_entries(base, job.owned)
        self.before = values.values.detach().clone()
        self.base = torch.cat([base.sites[s].reshape(-1)[flat] for s, flat in values.mask.items()])
        marked = torch.cat([owned[s].view(-1)[flat] for s, flat in values.mask.items()])
        self.prev = settings.lambda_prev * marked.float()
        self.weight = settings.lambda_base

    @torch.no_grad()
    def add_to_gradient(self) -> None:
        """Add its gradient to that of the values, after the backward pass of the loss."""
        if self.on:
            v = self.values.values
            assert v.grad is not None
            v.grad += 2 * self.prev * (v - self.before) + 2 * self.weight * (v - self.base)
