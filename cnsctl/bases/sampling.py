"""The denoising loop of the stock pipelines, to the bit: tests compare the two for every sampler.

Owns the order of operations in a step; must not know text or how the denoiser is called.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases import samplers
from cnsctl.bases.protocol import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cnsctl.settings import GenerateSettings


@torch.no_grad()
def denoised(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    own_scheduler: Any,
    settings: GenerateSettings,
    generators: Sequence[torch.Generator],
    *,
    shape: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Sample]:
    """Denoise one image per generator, step by step.

    Args:
        predict: the denoiser: latents and one time → its prediction. With guidance it is called with the latents twice,
            for the negative prompts and for the prompts.
        own_scheduler: of the base model.
        settings: of the generation.
        generators: on the CPU; one per image, for its noise.
        shape: channels, height and width of the latents.
        device: where to compute.
        dtype: of the latents.
    """
    scheduler = samplers.make(settings.sampler, own_scheduler)
    given = signature(scheduler.step).parameters
    options = {k: v for k, v in {"eta": 0.0, "generator": list(generators)}.items() if k in given}
    scheduler.set_timesteps(settings.steps, device=device)
    # diffusers would sample the noise in the base model's dtype, which gives other values than fp32 on some machines
    noise = torch.cat([torch.randn((1, *shape), generator=g) for g in generators])  # (b, c, h, w)
    latents = noise.to(device, dtype) * scheduler.init_noise_sigma
    guided = settings.guidance_scale > 1
    for step, time in enumerate(scheduler.timesteps, start=1):
        noisy = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, time)
        predicted = predict(noisy, time)
        if guided:
            without, with_text = predicted.chunk(2)
            predicted = without + settings.guidance_scale * (with_text - without)
        latents = scheduler.step(predicted, time, latents, **options, return_dict=False)[0]
        yield Sample(step=step, total=len(scheduler.timesteps), latents=latents)
