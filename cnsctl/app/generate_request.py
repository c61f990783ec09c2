"""The request of `gen`, and every check of it that needs neither a store nor a model.

Owns what a call, or the record in an image, asks for; must not know files or models.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cnsctl.app.output_paths import STDOUT
from cnsctl.errors import UsageError
from cnsctl.settings import RANDOM_SEED, GenerateSettings, RequestSettings, checked, merged, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cnsctl.results import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What the user asked to generate."""

    prompts: Sequence[str]
    """From the command line; all are checked before the model is loaded."""
    stream: Iterable[Sequence[str]] | None = None
    """More prompts as they arrive: those that arrive together are generated together."""
    negative_prompt: str = ""
    count: int = 1
    """Images per prompt: image k uses seed + k."""
    seed: int = 0
    save: bool = True
    """Write files; otherwise images are only events."""
    output: Path | None = None
    force: bool = False
    skip_existing: bool = False
    """Keep files that the same request has made, instead of refusing them."""
    compare: bool = False
    """Also generate each prompt with class words in place of its concepts, on the base model alone."""
    sheet: Path | None = None
    """A contact sheet of all images; with `compare` there is one in any case."""
    batch_size: int | str = 1
    """Images at a time; `auto` or 0: as many as the memory of the device allows."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GenerateSettings` that the user gave; the base model sets the rest."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ComputeSettings` that the user gave."""
    like: Made | None = None
    """The record of the image that this request repeats."""


def requested(
    *,
    like: Made | None = None,
    prompts: Sequence[str] = (),
    negative_prompt: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any],
    **more: Any,
) -> GenerateRequest:
    """The request of a call. What it leaves open is as in the image that it repeats, if there is one.

    Args:
        like: the record of that image.
        prompts: as given.
        negative_prompt: None is not given.
        seed: None is not given.
        settings: fields of `GenerateSettings`, as given.
        more: other fields of the request.
    """
    checked(GenerateSettings, settings)
    if like is None:
        return GenerateRequest(
            prompts=prompts, negative_prompt=negative_prompt or "", seed=chosen_seed(seed), settings=settings, **more
        )
    return GenerateRequest(
        prompts=prompts if prompts or more.get("stream") is not None else [like.prompt],
        negative_prompt=like.negative_prompt if negative_prompt is None else negative_prompt,
        seed=like.seed if seed is None else chosen_seed(seed),
        settings=merged(GenerateSettings, like.settings, settings),
        like=like,
        **more,
    )


def chosen_seed(given: int | None) -> int:
    """The given seed, or a random one if none was given; it is kept in the PNG text of each image."""
    import secrets

    return secrets.randbelow(2**31) if given is None or given == RANDOM_SEED else given


def check(request: GenerateRequest) -> GenerateRequest:
    """The request with a chosen seed.

    Raises:
        InvalidSettingError: a setting is unknown or out of range.
        UsageError: options contradict each other, or a prompt is empty.
    """
    checked(GenerateSettings, request.settings)
    given = {name: getattr(request, name) for name in settings_of(RequestSettings)}
    request = replace(request, **checked(RequestSettings, given))
    if any(not prompt.strip() for prompt in request.prompts):
        raise UsageError("the prompt is empty", reason="no-prompt")
    if request.skip_existing and request.force:
        raise UsageError("existing files are either kept or overwritten", reason="keep-or-overwrite")
    if request.skip_existing and request.output == STDOUT:
        raise UsageError("standard output has no existing files to keep", reason="skip-stdout")
    return replace(request, seed=chosen_seed(request.seed))


def refuse_for_several(request: GenerateRequest) -> None:
    """Several processes share a list of images; they cannot share a stream or a sheet."""
    if request.stream is not None or request.output == STDOUT:
        raise UsageError(
            "several processes cannot share standard input or output",
            note="each of them makes a part of the images",
            hint="give the prompts as arguments, and a folder for the images",
        )
    if request.sheet is not None or request.compare:
        raise UsageError(
            "several processes cannot share a contact sheet",
            note="each of them makes a part of the images",
            hint="generate in one process",
        )
