"""The noise schedule of a base model: noisy latents, and what the denoiser is trained to predict.

Owns these formulas; must not know sampling or text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.settings import Prediction

if TYPE_CHECKING:
    import torch


class NoiseSchedule:
    """The schedule that a scheduler's configuration describes."""

    def __init__(self, scheduler: Any) -> None:
        self.alphas = _alphas_cumprod(scheduler)
        self.prediction = Prediction(str(scheduler.config.get("prediction_type")))

    def __len__(self) -> int:
        return len(self.alphas)

    def noised(
        self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents at times (b,) int64, and the target of the denoiser."""
        noisy, targets = self.targets(latents, noise, times)
        return noisy, targets[self.prediction]

    def targets(
        self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, dict[Prediction, torch.Tensor]]:
        """Noisy latents x_t = a·x₀ + s·ε, and the target of each kind of denoiser: ε, or v = a·ε − s·x₀."""
        alpha = self.alphas[times.cpu()].to(latents.device)[:, None, None, None]  # fp32: MPS does not support float64
        a, s = alpha.sqrt(), (1 - alpha).sqrt()
        return a * latents + s * noise, {Prediction.EPSILON: noise, Prediction.V: a * noise - s * latents}


def _alphas_cumprod(scheduler: Any) -> torch.Tensor:
    from diffusers import DDPMScheduler

    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    settings = {k: scheduler.config[k] for k in keys if scheduler.config.get(k) is not None}
    alphas: torch.Tensor = DDPMScheduler(**settings).alphas_cumprod
    return alphas.float()
