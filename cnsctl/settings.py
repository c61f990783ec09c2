"""Every setting of a user, declared once: name, type, range, unit, help and default.

Flags, range checks, help texts, completion, the keys of `cnsctl.json`, JSON and the Python keywords are derived from
these declarations and carry one name: `learning_rate` is `--learning-rate` on the command line.

Owns the declarations and their checks; must not know models, files or terminals.
"""

from __future__ import annotations

import math
import re
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from cnsctl.errors import InvalidSettingError, UsageError
from cnsctl.export_formats import DEFAULT_FORMAT, DEFAULT_KEYS, DEFAULT_RANK, ExportFormat, KeyStyle
from cnsctl.sampler_names import Sampler, Sigmas, Spacing, near_samplers, read_sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Policy(StrEnum):
    """What selection does with neurons that other concepts own. Only merged mode needs it."""

    OVERLAP = "overlap"
    """Take them."""
    PREFER_FREE = "prefer-free"
    """Take free neurons first."""
    EXCLUSIVE = "exclusive"
    """Leave them."""


class Select(StrEnum):
    """How concept neurons follow from the scores (docs/explanation/method.md)."""

    EXACT = "exact"
    """The highest scores that are not general, until the budget is met exactly (ours)."""
    INTERSECT = "intersect"
    """The highest scores, less the general neurons: the paper's mask. The budget is an upper limit."""


class Prediction(StrEnum):
    """What the denoiser of a base model predicts, as `prediction_type` in the configuration of a scheduler."""

    EPSILON = "epsilon"
    """The noise."""
    V = "v_prediction"
    """The velocity: SD 2.x at 768 pixels, and some models of SDXL's shape, such as NoobAI's."""


class Device(StrEnum):
    """Where to compute. `cuda:1`, the second GPU, is a value too."""

    AUTO = "auto"
    """CUDA, else MPS, else the CPU."""
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"

    @classmethod
    def _missing_(cls, value: object) -> Device | None:
        word = _device_word(value)
        if word in ("auto", "cuda", "mps", "cpu"):
            return cls(word)
        if re.fullmatch(r"cuda:(0|[1-9]\d{0,2})", word) is None:
            return None
        found = str.__new__(cls, word)
        found._name_ = found._value_ = word
        return found


def _device_word(value: object) -> str:
    """A device as torch names it: `CUDA` is `cuda`, and the only CPU and MPS have the number 0."""
    word = value.lower() if isinstance(value, str) else ""
    return word.removesuffix(":0") if word in ("cpu:0", "mps:0") else word


class Memory(StrEnum):
    """How much memory to save."""

    AUTO = "auto"
    """By what the device has free: nothing, if everything fits."""
    LOW = "low"
    """Text encoders and decoder wait in main memory; blocks are computed twice in training."""
    LOWEST = "lowest"
    """The denoiser waits too, while the decoder runs."""


class Dtype(StrEnum):
    """Precision of the denoiser."""

    AUTO = "auto"
    """bf16 where the device computes it fast, else fp32."""
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @classmethod
    def _missing_(cls, value: object) -> Dtype | None:
        if not isinstance(value, str):
            return None
        word = value.lower().removeprefix("torch.")
        return cls(known) if (known := _DTYPES.get(word, word)) in set(cls) else None


_DTYPES = {
    "float32": "fp32", "float": "fp32", "full": "fp32", "f32": "fp32", "32": "fp32", "no": "fp32",
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16", "16": "fp16",
}  # fmt: skip
"""What torch and other tools call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting."""

    name: str
    kind: type
    """int, float, bool, str, or an enum."""
    help: str
    """What it does, without range and default."""
    low: float | None
    """Smallest value, included."""
    high: float | None
    """Largest value, included."""
    multiple_of: int
    """Values are multiples of it."""
    word: str
    """Means 0, which is outside the range: "auto". Empty for most settings."""
    default: Any
    """`BY_BASE` where the base model sets it."""
    group: str
    """Heading in the help; empty for the common ones."""
    read: Callable[[Any], Mapping[str, Any]] | None = None
    """Of a value that means several settings: these by name, or an empty mapping if the value is wrong."""
    near: Callable[[str], list[str]] | None = None
    """The allowed values that are most similar to a wrong one."""
    governs: tuple[str, ...] = ()
    """Settings whose values of the base model are dropped if the user gives this one."""
    form: str = ""
    """The allowed values in words, where `kind` does not say them."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words of an enum; empty for other kinds."""
        return tuple(str(choice) for choice in self.kind) if issubclass(self.kind, StrEnum) else ()

    @property
    def allowed(self) -> str:
        """The allowed values in words: "1 to 16", or the choices."""
        if self.form:
            return self.form
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None or self.high is None:
            return {bool: "true or false", str: "text"}.get(self.kind, "a number")
        steps = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        steps += f", or {self.word}" if self.word else ""
        if self.high >= _SEEDS:
            return f"{self.low:g} to 2^62{steps}"
        return f"{self.low:g} to {self.high:,g}{steps}" if self.high < 1e6 else f"{self.low:g} or more{steps}"


class _Default(StrEnum):
    """A default that is not a value, in words for the help."""

    BY_BASE = "set by the base model"
    RANDOM = "random"


BY_BASE, RANDOM = _Default.BY_BASE, _Default.RANDOM
"""`BY_BASE`: default of a setting that the base model sets: its `cnsctl.json`, else the defaults for all base models."""

_SEEDS = 2**62
"""The largest seed: other seeds are added to it in 63 bits."""

WAIT_S = 60.0
"""How long a change of a store waits for another one: a commit takes seconds, and the waiting concept took minutes to train."""

RANDOM_SEED = -1
"""As a seed: a random one."""
AUTO = "auto"
"""In words for 0: chosen by the memory."""

ADVANCED, MERGED, RESEARCH = "Advanced", "Merged mode", "Research"


def _setting(
    help: str,  # noqa: A002  the field's term
    *,
    low: float | None = None,
    high: float | None = None,
    multiple_of: int = 1,
    word: str = "",
    default: Any = BY_BASE,
    group: str = "",
    **more: Any,
) -> Any:
    limits = {"low": low, "high": high, "multiple_of": multiple_of, "word": word}
    meta = {"help": help, **limits, "group": group, "default": default}
    meta |= more
    return field(metadata=meta) if default is BY_BASE else field(default=default, metadata=meta)


def _width_and_height(size: object) -> Mapping[str, Any]:
    """Read "768x512", or 768 for both."""
    m = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX×]\s*(\d{1,9}))?\s*", str(size), re.ASCII)
    if m is None or not isinstance(size, (str, int)):
        return {}
    return {"width": int(m[1]), "height": int(m[2] or m[1])}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How one concept is trained."""

    steps: int = _setting("Training steps", low=2, high=100_000)
    learning_rate: float = _setting("Learning rate of the neurons", low=1e-9, high=1.0)
    token_learning_rate: float = _setting("Learning rate of the token embedding", low=1e-9, high=1.0, group=ADVANCED)
    batch_size: int = _setting("Noised images per step", low=1, high=1024)
    resolution: int = _setting(
        "Side of a square image in pixels; other shapes have about its area", low=32, high=4096, multiple_of=4
    )
    accumulate: int = _setting(
        "Batches per step, whose gradients are added up: less memory than a larger batch",
        low=1,
        high=1024,
        default=1,
        group=ADVANCED,
    )
    budget: float = _setting("Share of the K/V weights that the concept may change", low=1e-6, high=1.0, group=ADVANCED)
    seed: int = _setting("Seed of every random number", low=0, high=_SEEDS, default=0)
    token_embeddings: int = _setting("Token embeddings of the concept", low=1, high=16, default=1, group=ADVANCED)
    warmup: float = _setting(
        "Share of the steps that trains the token embedding alone", low=0.0, high=1.0, default=0.2, group=ADVANCED
    )
    policy: Policy = _setting(
        "Neurons that other concepts own: take them, take free ones first, or leave them",
        default=Policy.OVERLAP,
        group=MERGED,
    )
    lambda_prev: float = _setting(
        "Weight of the pull towards values of earlier concepts", low=0.0, high=1e6, group=MERGED
    )
    lambda_base: float = _setting("Weight of the pull towards the base model's values", low=0.0, high=1e6, group=MERGED)
    orthogonal: bool = _setting(
        "Train only in directions that earlier concepts do not read", default=False, group=MERGED
    )
    select: Select = _setting(
        "exact: meet the budget; intersect: the paper's mask, which may be smaller",
        default=Select.EXACT,
        group=RESEARCH,
    )
    random_mask: bool = _setting("Ablation: train a random mask of the same size", default=False, group=RESEARCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSettings:
    """How images are generated."""

    steps: int = _setting("Inference steps", low=1, high=999)
    guidance_scale: float = _setting("How closely to follow the prompt; 1 is off", low=0.0, high=100.0)
    sampler: Sampler = _setting(
        "Sampler; names of other tools work",
        read=read_sampler,
        near=near_samplers,
        governs=("sigmas", "spacing"),
    )
    sigmas: Sigmas = _setting(
        "Spread of the noise levels; default is the scheduler's own", default=Sigmas.DEFAULT, group=ADVANCED
    )
    spacing: Spacing = _setting(
        "Spread of the timesteps; default is the scheduler's own", default=Spacing.DEFAULT, group=ADVANCED
    )
    width: int = _setting("Width in pixels", low=32, high=4096, multiple_of=8)
    height: int = _setting("Height in pixels", low=32, high=4096, multiple_of=8)
    clip_skip: int = _setting(
        "Last layers of the CLIP text encoders to leave out; 1 is what other tools call clip skip 2",
        low=0,
        high=31,
        default=0,
        group=ADVANCED,
    )
    long_prompts: bool = _setting(
        "Read a prompt that is too long in several chunks, instead of ignoring its end", default=False
    )
    size: ClassVar[Setting] = Setting(
        name="size",
        kind=str,
        word="",
        help="Width and height in pixels, in this order",
        low=None,
        high=None,
        multiple_of=1,
        default=BY_BASE,
        group="",
        read=_width_and_height,
        form="WIDTHxHEIGHT, such as 768x512, or 768 for both",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """Which images are generated from a prompt, and how many at a time."""

    count: int = _setting("Images per prompt; image k uses seed + k", low=1, high=100_000, default=1)
    seed: int = _setting("Seed of the first image; -1 is random", low=RANDOM_SEED, high=_SEEDS, default=RANDOM)
    batch_size: int = _setting(
        "Images at a time; 1 makes each independent of the others; auto: as many as the memory allows",
        low=1,
        high=4096,
        word=AUTO,
        default=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What an export writes."""

    format: ExportFormat = _setting("Format of the files", default=DEFAULT_FORMAT)
    rank: int = _setting("Rank of the fitted LoRA", low=1, high=128, default=DEFAULT_RANK)
    keys: KeyStyle = _setting("Names of the tensors of a LoRA", default=DEFAULT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeSettings:
    """Where and how precisely to compute."""

    device: Device = _setting("Where to compute; cuda:1 is the second GPU", default=Device.AUTO)
    dtype: Dtype = _setting("Precision; fp16 only generates", default=Dtype.AUTO)
    memory: Memory = _setting(
        "Save memory, in exchange for time; auto: if the device has too little", default=Memory.AUTO
    )


@cache
def settings_of(kind: type) -> Mapping[str, Setting]:
    """The declarations of a class of settings, by name, in order."""
    hints = get_type_hints(kind)
    return {f.name: _declared(f, hints[f.name]) for f in fields(kind)}


@cache
def shorthands_of(kind: type) -> Mapping[str, Setting]:
    """The declarations of values that mean several settings and are not kept: `size` is `width` and `height`."""
    return {name: value for name, value in vars(kind).items() if isinstance(value, Setting)}


def _declared(f: Field[Any], kind: type) -> Setting:
    return Setting(name=f.name, kind=kind, **f.metadata)


def checked(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings given, each known, of its type and within its range; a value that means several is replaced by them.

    Raises:
        InvalidSettingError: with the name, the value and what is allowed.
        UsageError: two values contradict each other.
    """
    known = {**settings_of(kind), **shorthands_of(kind)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InvalidSettingError(name, value, allowed=", ".join(known), wrong="name")
        for meant, exact in _meant(kind, known[name], value):
            if found.setdefault(meant, exact) != exact:
                raise UsageError(
                    f"two values of {meant}: {found[meant]} and {exact}",
                    note=f"{name} is {str(value)[:80]!r}",
                    reason="two-values",
                    name=meant,
                )
    return found


def _meant(kind: type, setting: Setting, value: Any) -> Iterator[tuple[str, Any]]:
    """The settings that one value means, each checked."""
    if setting.read is None:
        yield setting.name, _checked(setting, value)
        return
    read = setting.read(value)
    try:
        values = {name: _checked(settings_of(kind)[name], each) for name, each in read.items()}
    except InvalidSettingError as err:
        raise _wrong(setting, value, f"{setting.allowed}; {err.name}: {err.allowed}") from err
    if not values:
        raise _wrong(setting, value, setting.allowed)
    yield from values.items()


def _wrong(setting: Setting, value: Any, allowed: str) -> InvalidSettingError:
    near = _near(setting, value) if isinstance(value, str) else []
    wrong = "choice" if setting.choices else "range"
    return InvalidSettingError(setting.name, value, allowed=allowed, wrong=wrong, near=near)  # type: ignore[arg-type]


def _near(setting: Setting, value: str) -> list[str]:
    from difflib import get_close_matches

    if setting.near is not None:
        return setting.near(value)
    if setting.name == "device" and value.lower() in ("gpu", "nvidia", "rocm", "hip"):
        return [str(Device.CUDA)]
    return get_close_matches(value[:80].lower(), setting.choices, n=1)


def _checked(setting: Setting, value: Any) -> Any:
    if setting.choices:
        try:
            return setting.kind(value)
        except ValueError:
            raise _wrong(setting, value, setting.allowed) from None
    if setting.word and value == setting.word:
        return 0
    kinds = {float: (int, float), int: (int,)}.get(setting.kind, (setting.kind,))
    fits = isinstance(value, kinds) and (setting.kind is bool or not isinstance(value, bool))
    if fits and setting.low is not None and setting.high is not None:
        fits = math.isfinite(value) and setting.low <= value <= setting.high
        fits = fits and (setting.multiple_of == 1 or value % setting.multiple_of == 0)
    if not fits:
        raise _wrong(setting, value, setting.allowed)
    return setting.kind(value)


def complete(kind: type[Any], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Settings from the base model's defaults and the user's settings, checked.

    Args:
        kind: a class of settings.
        defaults: those of the base model, for fields that are declared `BY_BASE`.
        given: the user's. A sampler also drops the base model's `sigmas` and `spacing`, which belong to another one.

    Raises:
        InvalidSettingError: one of them is wrong.
        UsageError: two of them contradict each other.
    """
    return kind(**merged(kind, defaults, given))


def merged(kind: type[Any], below: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings given, on top of others, all checked as in `complete`."""
    found = checked(kind, given)
    dropped = _governed(kind, found)
    return {k: v for k, v in checked(kind, below).items() if k not in dropped} | found


def _governed(kind: type, names: Iterable[str]) -> set[str]:
    declared = settings_of(kind)
    return {governed for name in names for governed in declared[name].governs}
