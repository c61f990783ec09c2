"""Schedulers: the base model's own, as its stock pipeline uses it, and those of the other samplers on its noise schedule.

Owns reading and making schedulers, and what one of them cannot do; must not know pipelines or images.
"""

from __future__ import annotations

import copy
from inspect import signature
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cnsctl.bases.config_files import read_json
from cnsctl.bases.part_files import SCHEDULER_FILE
from cnsctl.errors import BaseModelError, UsageError
from cnsctl.sampler_names import SAMPLERS, SIGMAS_KEY, SPACING_KEY, Sigmas, Spacing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from cnsctl.settings import GenerateSettings

ZERO_SNR = "rescale_betas_zero_snr"
"""The key of a noise schedule that ends in pure noise."""

DEFAULTED = "_use_default_values"
"""Key in a configuration: keys that its file does not have. `from_config` drops their values."""

SOME_STEPS = 20

UNSEEDED = ("DPMSolverSDEScheduler",)
"""Schedulers that take noise from a random source of their own: the same seed would not give the same image."""


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a base model's own scheduler."""
    return read_json(folder / SCHEDULER_FILE)


def load(
    config: Mapping[str, Any], class_name: str | None, *, shown: Path, predictions: Collection[str], corrects: bool
) -> Any:
    """Make the base model's own scheduler, as its stock pipeline uses it.

    Args:
        config: its configuration.
        class_name: from model_index.json, which the stock pipeline follows; by default the configuration's own.
        shown: the base model, for messages.
        predictions: what the denoiser of the family may predict.
        corrects: the stock pipeline corrects files of 2022, as `StableDiffusionPipeline` does.

    Raises:
        BaseModelError: this scheduler cannot be used, with the reason.
    """
    import diffusers
    from diffusers import SchedulerMixin

    name = str(class_name or config.get("_class_name"))
    kind: Any = getattr(diffusers, name, None)
    if missing := _missing(kind):
        raise _unusable(shown, f"{name} needs {missing}", hint=f"install it: pip install {missing}")
    is_scheduler = isinstance(kind, type) and issubclass(kind, SchedulerMixin)
    if not is_scheduler:
        raise _unusable(shown, f"the scheduler {name} is not a scheduler of diffusers {diffusers.__version__}")
    if "FlowM" in name or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        raise _unusable(shown, f"{name} is for flow matching, and this denoiser is not")
    if name in UNSEEDED:
        raise _unusable(shown, f"the noise of {name} does not follow the seed of an image")
    if config.get("beta_start") is None and config.get("trained_betas") is None:
        raise _unusable(shown, "its configuration does not contain a noise schedule (beta_start or trained_betas)")
    try:
        kind.from_config(config).set_timesteps(SOME_STEPS)  # what is wrong with its settings shows here
        own: Any = kind.from_config(config)
    except (
        TypeError,
        ValueError,
        ImportError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        LookupError,
        ArithmeticError,
    ) as err:
        raise _unusable(shown, f"{name}: {_first_line(err)}") from err
    prediction = str(own.config.get("prediction_type", "epsilon"))
    if prediction not in predictions:
        raise _unusable(shown, f"its denoiser predicts {prediction!r}, not {' or '.join(predictions)}")
    return _corrected(own) if corrects else own


def make(settings: GenerateSettings, own: Any) -> Any:
    """A new scheduler, because a scheduler keeps state between runs and an image must not depend on it.

    Raises:
        UsageError: the sampler does not support this schedule.
    """
    made = _MADE.setdefault(own, {})
    key = (settings.sampler, settings.sigmas, settings.spacing)
    if key not in made:  # the constructor of dpm2 takes half a second
        made[key] = _made(settings, own)
    return copy.deepcopy(made[key])


_MADE: WeakKeyDictionary[Any, dict[tuple[str, ...], Any]] = WeakKeyDictionary()
"""Schedulers that have not run, by the base model's own, and sampler, sigmas and spacing."""


def _made(settings: GenerateSettings, own: Any) -> Any:
    kind, changes = _wanted(settings, own)
    if not changes and type(own) is kind:
        return own
    config = dict(own.config)
    if (
        type(own) is kind
    ):  # values that its file does not have are not dropped: the stock pipeline may have changed them
        config.pop(DEFAULTED, None)
    try:
        return kind.from_config(config, **changes)
    except ImportError as err:
        raise UsageError(
            f"sampler {settings.sampler} with {settings.sigmas} sigmas needs a library: {_first_line(err)}",
            hint="install it, or use another sampler",
        ) from err


def check(settings: GenerateSettings, own: Any) -> None:
    """Refuse what a sampler cannot run, by running it on noise without a denoiser: a few milliseconds.

    Raises:
        UsageError: it does not support the schedule, or this number of steps.
    """
    if not _runs(settings, own, settings.steps):
        by_distance = sorted(range(1, 1000), key=lambda n: (abs(n - settings.steps), n))
        near = next((n for n in by_distance[1:200] if _runs(settings, own, n)), None)
        raise UsageError(
            f"sampler {settings.sampler} cannot run {settings.steps} step{'' if settings.steps == 1 else 's'}",
            note=f"the scheduler is {type(make(settings, own)).__name__}; the nearest number that it can run: {near}",
            reason="sampler-steps",
            nearest=near,
        )


def _runs(settings: GenerateSettings, own: Any, steps: int) -> bool:
    import torch

    scheduler = make(settings, own)
    try:
        scheduler.set_timesteps(steps, device="cpu")
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((1, 1, 2, 2), generator=generator) * scheduler.init_noise_sigma
        options = step_options(scheduler, [generator])
        for time in scheduler.timesteps:
            predicted = torch.tanh(scheduler.scale_model_input(x, time))
            x = scheduler.step(predicted, time, x, **options, return_dict=False)[0]
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError, TypeError, AssertionError):
        return False
    return len(scheduler.timesteps) > 0 and bool(torch.isfinite(x).all())


def step_options(scheduler: Any, generators: list[Any]) -> dict[str, Any]:
    """The arguments of a scheduler's `step` beside prediction, time and latents, as the stock pipeline gives them."""
    given = signature(scheduler.step).parameters
    return {name: value for name, value in {"eta": 0.0, "generator": generators}.items() if name in given}


def _wanted(settings: GenerateSettings, own: Any) -> tuple[Any, Mapping[str, Any]]:
    """The class of a sampler, and what differs from the base model's own configuration."""
    import diffusers

    declared = SAMPLERS.get(settings.sampler)
    name = type(own).__name__ if declared is None else declared.scheduler
    kind = type(own) if declared is None else getattr(diffusers, name)
    if missing := _missing(kind):
        raise UsageError(f"sampler {settings.sampler} needs {missing}", hint=f"install it: pip install {missing}")
    known = set(signature(kind.__init__).parameters) - set(() if declared is None else declared.ignores)
    if own.config.get(ZERO_SNR) and ZERO_SNR not in known:
        raise UsageError(
            f"sampler {settings.sampler} does not support the noise schedule of this base model", reason="sampler"
        )
    changes = {} if declared is None else dict(declared.changes)
    for setting, key, value in _schedule(settings):
        if key not in known:
            raise UsageError(
                f"sampler {settings.sampler} does not support {setting} {value}",
                note=f"diffusers' {name} does not have this setting",
                reason="schedule",
                name=setting,
            )
        changes |= {other: False for other in SIGMAS_KEY.values() if other in known} if setting == "sigmas" else {}
        changes[key] = True if setting == "sigmas" else str(value)
    return kind, changes


def _schedule(settings: GenerateSettings) -> Iterator[tuple[str, str, str]]:
    """The settings of the schedule that the user gave: name, key in a scheduler's configuration, value."""
    if settings.sigmas is not Sigmas.DEFAULT:
        yield "sigmas", SIGMAS_KEY[settings.sigmas], settings.sigmas
    if settings.spacing is not Spacing.DEFAULT:
        yield "spacing", SPACING_KEY, settings.spacing


def _corrected(own: Any) -> Any:
    """Correct a configuration of 2022 as the constructor of StableDiffusionPipeline does, for every sampler."""
    corrections = {"steps_offset": 1, "clip_sample": False}
    left = [key for key in own.config.get(DEFAULTED, ()) if key not in corrections]
    own.register_to_config(**corrections, **{DEFAULTED: left})
    return own


def _missing(kind: Any) -> str:
    """The libraries that a class of diffusers needs and that are not installed."""
    import importlib.util

    backends = getattr(kind, "_backends", ())  # only of the dummies that diffusers puts in place of such classes
    return " ".join(name for name in backends if importlib.util.find_spec(name) is None)


def _unusable(shown: Path, why: str, *, hint: str | None = None) -> BaseModelError:
    return BaseModelError(
        f"unsupported base model: {shown}",
        note=why,
        hint=hint or "correct scheduler/scheduler_config.json and model_index.json, or give another model",
    )


def _first_line(err: Exception) -> str:
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
