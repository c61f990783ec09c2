"""A LoRA that does at a concept's own tokens what its delta does there, and little anywhere else (ours).

In `token` mode a delta acts on the concept's own tokens alone. No other tool can do that: a LoRA acts on every token. But
the features x of own tokens span few directions, so a LoRA can be made that acts along these:

    minimise  Σ_c E_own(c) ‖(D − ΔW_c)·x‖² + λ · E_other ‖D·x‖² + ε ‖D‖²        over D of rank r

With C_c and C_other the second moments of x, and M = Σ_c C_c + λ·C_other + ε·1, this is, up to a constant, ‖(D − D*)·M^½‖²
with D* = (Σ_c ΔW_c·C_c)·M⁻¹. So the best D is D* truncated in that metric: D = U·Uᵀ·D*, with U the first r left singular
vectors of D*·M^½ (Eckart and Young). M^½ itself is not needed: these are the left singular vectors of Σ_c ΔW_c·E_c·L_c, where
C_c = E_c·diag(c)·E_cᵀ and L·Lᵀ = [diag(c)·E_cᵀ·M⁻¹·E_d·diag(d)], over all c and d.

All sites read the same x, so everything but ΔW is prepared once per base model and concept.

Owns this algebra; must not know prompts, files or the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnsctl.engine.feature_moments import significant
from cnsctl.export_formats import DEFAULT_RANK
from cnsctl.formats.contents import Factors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.engine.feature_moments import Moments

RANK = DEFAULT_RANK
"""Default rank. On pocket, ranks 2 to 32 remove equal error (docs/results/exports.md); wider features may need more."""

LEAK = 10.0
"""λ: what an effect on another token weighs, if an error on an own token weighs 1.

Measured on pocket: at less, one concept removes as much error, but two LoRAs at once disturb each other more; at more, one
concept removes less.
"""

FRAME_SHARE = 0.5
"""Of the other tokens' weight, what start, end and padding get; the rest is that of words.

Measured on pocket: without it a LoRA leaks half as much again there and removes less error; at 80 % it leaks more at words.
"""

RIDGE = 1e-6
"""ε, relative to the mean eigenvalue of the moments: what keeps M invertible."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What all sites share: the moments of one or several concepts, prepared for fitting. All float64."""

    span: Mapping[str, torch.Tensor]
    """E_c per concept: directions of its own tokens, (columns, k_c)."""
    measure: Mapping[str, torch.Tensor]
    """E_c·L_c per concept: (columns, k). Σ_c ΔW_c of it has the left singular vectors of D*·M^½."""
    filter: Mapping[str, torch.Tensor]
    """diag(c)·E_cᵀ·M⁻¹ per concept: (k_c, columns), so that D* = Σ_c ΔW_c · span · filter."""


def target(moments: Moments, *, leak: float = LEAK, ridge: float = RIDGE, frame: float = FRAME_SHARE) -> Target:
    """Prepare the moments: a decomposition of (columns, columns) per concept, and one of M.

    Args:
        moments: of the calibration prompts.
        leak: λ.
        ridge: ε relative to the mean eigenvalue of M.
        frame: share of start, end and padding in the other tokens.
    """
    M = torch.stack(list(moments.own.values())).sum(0) + leak * ((1 - frame) * moments.words + frame * moments.frame)
    columns = len(M)
    M = M + ridge * M.trace() / columns * torch.eye(columns, dtype=M.dtype)
    found = {name: significant(C) for name, C in moments.own.items()}
    scaled = torch.cat([E * c for c, E in found.values()], dim=1)  # (columns, Σ k_c)
    solved = torch.cholesky_solve(scaled, torch.linalg.cholesky(M))  # M⁻¹·E·diag(c)
    strength, Q = significant(scaled.T @ solved)
    L = Q * strength.sqrt()  # (Σ k_c, k)
    parts, first = {}, 0
    for name, (c, _) in found.items():
        parts[name] = (L[first : first + len(c)], solved.T[first : first + len(c)])
        first += len(c)
    return Target(
        span={name: E for name, (_, E) in found.items()},
        measure={name: E @ parts[name][0] for name, (_, E) in found.items()},
        filter={name: part for name, (_, part) in parts.items()},
    )


def fit(differences: Mapping[str, torch.Tensor], target: Target, rank: int = RANK) -> Factors:
    """The LoRA of one site, for one concept or several in one file.

    Args:
        differences: per concept of the target: ΔW_c, (rows, columns), on any device.
        target: from `target`.
        rank: r. Where fewer directions exist, the rest of the factors is 0.

    Returns:
        Factors with equal norms of each column of `up` and row of `down`, so that rounding to fp16 loses little.
    """
    # fp32, on the device: it decides the directions alone. What is kept of them is computed in float64
    seen = [W @ target.measure[name].to(W) for name, W in differences.items()]
    measured = torch.stack(seen).sum(0).cpu().double()  # (rows, k)
    squares, V = significant(measured.T @ measured)
    U = measured @ V[:, :rank] / squares[:rank].sqrt()  # left singular vectors, (rows, r or fewer)
    kept = [(U.T @ W.cpu().double()) @ target.span[name] @ target.filter[name] for name, W in differences.items()]
    down = torch.stack(kept).sum(0)  # (r or fewer, columns)
    size = down.norm(dim=1).sqrt()
    up = U * size
    down = down / size.clamp(min=torch.finfo(size.dtype).tiny)[:, None]
    missing = rank - len(down)
    up, down = torch.nn.functional.pad(up, (0, missing)), torch.nn.functional.pad(down, (0, 0, 0, missing))
    return Factors(down=down.float().numpy(), up=up.float().numpy())
