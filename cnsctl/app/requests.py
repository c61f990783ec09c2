"""Requests of `add` and `score`, and every check that does not need a model.

Owns these checks; must not know models or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.app.environment import refuse_unfit
from cnsctl.app.output_paths import check_folder
from cnsctl.app.stores import damage_inside, open_base
from cnsctl.bases.base_folder import default_budget
from cnsctl.concept import NAME, Mode
from cnsctl.data.buckets import bucket_sizes, multiple_of
from cnsctl.data.class_words import near_noun, uncommon_word
from cnsctl.data.images import read_images
from cnsctl.data.names import check_name, words_of
from cnsctl.errors import DiskError, InvalidSettingError, NameTakenError, StoreDamagedError, UsageError
from cnsctl.settings import MERGED, ComputeSettings, Dtype, TrainSettings, checked, complete, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.data.buckets import Size
    from cnsctl.data.images import ImageSet, TrainingImage
    from cnsctl.store import Store


MAX_CLASS_WORD = 100
"""Letters of a class word. No kind of thing needs more, and each text encoder reads a few dozen tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train."""

    name: str
    sources: Sequence[str | Path]
    """Folders and files of images; errors name them as they are written here."""
    class_word: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TrainSettings` that the user gave; the base model sets the rest."""
    holdout: int = 0
    """How many images, the last ones, are kept for evaluation."""
    recursive: bool = False
    """Also search subfolders."""
    masks: Path | None = None
    """A folder with masks of the same names."""
    replace: bool = False
    restart: bool = False
    """Delete the state of an interrupted run under this name."""
    allow_forgetting: bool = False
    allow_worse: bool = False
    """Save the concept even if it is worse than its class word on the base model."""
    preview: bool = True
    """Generate images after the training."""
    measure: bool = True
    """Measure the concept after the training; without it, images are not generated either."""
    preview_every: int = 0
    """Training steps between two previews; 0 for none."""
    preview_folder: Path | None = None
    """Gets a file per preview during the training."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ComputeSettings` that the user gave."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """A request that passed these checks."""

    class_word: str
    source: str
    """Where the class word comes from."""
    images: Sequence[TrainingImage]
    """Each once, in its bucket, held-out ones last."""
    notes: Sequence[str]
    warnings: Sequence[str]


def admit(store: Store, request: TrainRequest) -> Admitted:
    """Check the request without a model, and read the images, each once."""
    refuse_wrong(request)
    store.refuse_older()  # not after the training
    refuse_taken_name(store, request)
    _refuse_unmeasured(store, request)
    _check_previews(request)
    with damage_inside(store):  # class words are read in its vocabulary
        admitted = readable(open_base(store), request)
    _check_space(store, checked(TrainSettings, request.settings))
    refuse_damaged(store, request.name)
    return replace(admitted, warnings=(*_without_effect(store.mode, request), *admitted.warnings))


def readable(folder: BaseFolder, request: TrainRequest) -> Admitted:
    """Check what does not depend on a store, and read the images, each once.

    Args:
        folder: of the base model.
        request: what to train.
    """
    refuse_wrong(request)
    sizes = image_sizes(folder, checked(TrainSettings, request.settings))
    found = read_images(list(request.sources), sizes=sizes, recursive=request.recursive, masks=request.masks)
    _check_holdout(request.holdout, len(found.images))
    class_word, source, doubts = _class_word(folder, request, found)
    few = ("1 image is few: about five images are enough",) if len(found.images) - request.holdout == 1 else ()
    odd = (f"{image.name}: {text}" for image in found.images for text in image.warnings)
    return Admitted(
        class_word=class_word,
        source=source,
        images=found.images,
        notes=found.notes,
        warnings=(*few, *doubts, *found.warnings, *odd),
    )


def refuse_wrong(request: TrainRequest) -> None:
    """Refuse what can be refused without reading a file.

    Raises:
        InvalidNameError, InvalidSettingError, UsageError: by the name and the settings.
    """
    _refuse_swapped(request)
    check_name(request.name)
    refuse_unfit()
    refuse_half_for_training(request.compute)
    checked(TrainSettings, request.settings)


def _refuse_swapped(request: TrainRequest) -> None:
    """Detect images that are given where the name belongs: `./dog dog`."""
    if NAME.fullmatch(request.name) or not Path(request.name).exists():
        return
    *images, last = [request.name, *(str(source) for source in request.sources)]
    raise UsageError(
        f"the name comes before the images: {request.name!r} is a {'folder' if Path(request.name).is_dir() else 'file'}",
        reason="name-first",
        name=last if NAME.fullmatch(last) else "NAME",
        images=images if NAME.fullmatch(last) else [*images, last],
    )


def _without_effect(mode: Mode, request: TrainRequest) -> Iterator[str]:
    """Settings that nothing in this mode reads."""
    if mode is Mode.MERGED:
        return
    given = [
        name
        for name, setting in settings_of(TrainSettings).items()
        if setting.group == MERGED and name in request.settings
    ]
    given += ["allow_forgetting"] if request.allow_forgetting else []
    if given:
        yield f"{', '.join(given)}: without effect in {mode} mode, only in merged mode"


def refuse_taken_name(store: Store, request: TrainRequest) -> None:
    """Refuse the name of a concept, unless that is to be replaced.

    Raises:
        NameTakenError: a concept has it. If training under this name was interrupted, it can get another name.
    """
    if request.name not in store.snapshot().names or request.replace:
        return
    reason = "name-taken-meanwhile" if request.name in store.work.unfinished() else "name-taken"
    raise NameTakenError(f"concept already exists: {request.name!r}", reason=reason, name=request.name)


def image_sizes(folder: BaseFolder, settings: Mapping[str, Any]) -> Sequence[Size]:
    """Heights and widths of the buckets: published ones of the base model's family, else those of the resolution's area.

    Args:
        folder: of the base model.
        settings: fields of `TrainSettings` that the user gave.

    Raises:
        InvalidSettingError: the base model cannot see images of this resolution.
    """
    resolution = settings.get("resolution", folder.train.get("resolution", folder.size))
    if (resolution, resolution) in folder.family.image_sizes:
        return folder.family.image_sizes
    multiple = multiple_of(resolution, folder.coarsest)
    if "resolution" not in settings:  # the base model's own is right
        multiple = gcd(multiple, resolution)
    if resolution % multiple:
        raise InvalidSettingError("resolution", resolution, allowed=f"multiples of {multiple} on this base model")
    return bucket_sizes(resolution, multiple)


def expected_settings(store: Store, request: TrainRequest) -> TrainSettings:
    """The settings of the training as far as they are known before the base model is loaded: its budget may differ."""
    folder = open_base(store)
    found: TrainSettings = complete(
        TrainSettings, {"budget": 1.0, "resolution": folder.size, **folder.train}, request.settings
    )
    return found


def refuse_half_for_training(compute: Mapping[str, Any]) -> None:
    """fp16 gradients of a denoiser underflow, so training in fp16 is refused."""
    if complete(ComputeSettings, {}, compute).dtype is Dtype.FP16:
        raise UsageError("cannot train in fp16: gradients underflow", reason="fp16-training")


def _refuse_unmeasured(store: Store, request: TrainRequest) -> None:
    """In merged mode, later training compares with a concept's error removed, so it must be measured."""
    if store.mode is Mode.MERGED and not request.measure:
        raise UsageError(
            "cannot train without measuring in merged mode",
            note="later training runs compare with error removed, to detect forgetting",
            reason="unmeasured",
        )


def refuse_damaged(store: Store, name: str, *, files: bool = False) -> None:
    """In merged mode, refuse to train on top of damaged concepts, as far as this is visible without reading deltas.

    Args:
        store: of the concepts.
        name: of the new concept; the concept that it replaces is not needed.
        files: also read the files that the check after the training needs: probe records and images.

    Raises:
        StoreDamagedError: one is damaged; the message contains its name.
    """
    if store.mode is not Mode.MERGED:
        return
    for record in store.concepts():
        if record["name"] == name:
            continue
        try:
            if store.is_damaged(record):
                raise StoreDamagedError("its delta is missing or has the wrong size")
            for sha in (record["probe"], *record["references"]) if files else ():
                store.blob(sha)
        except StoreDamagedError as err:
            raise StoreDamagedError(
                f"<{record['name']}> is damaged: {err.what}",
                note="in merged mode a concept is trained on top of all others",
                reason="damaged-concept",
                name=record["name"],
            ) from err


def _check_previews(request: TrainRequest) -> None:
    """Refuse a number of steps below zero, and a folder that cannot take a file."""
    if request.preview_every < 0:
        raise InvalidSettingError("preview_every", request.preview_every, allowed="1 or more, or 0 for none")
    if request.preview_every and request.preview_folder is not None:
        check_folder(request.preview_folder)


def _class_word(folder: BaseFolder, request: TrainRequest, found: ImageSet) -> tuple[str, str, tuple[str, ...]]:
    """The class word, why, and doubts: given, or from the layout of the images, or the name, if it is a common noun."""
    if request.class_word is not None:
        word = usable_class_word(request.class_word)
        return word, "as given", tuple(_doubts(folder, word))
    if found.class_word is not None:
        return found.class_word, f"from {found.source}", ()
    words = words_of(request.name)
    if (why := _unusual(folder, words)) is not None:
        raise UsageError(f"no class word for {request.name!r}: {why}", reason="no-class-word", name=request.name)
    return words, "because the name is a common noun", ()


def _unusual(folder: BaseFolder, words: str) -> str | None:
    """Why the base model may not read words as a kind of thing; None if it does."""
    from cnsctl.bases.clip_tokenizer import unknown_words

    if (uncommon := uncommon_word(words)) is not None:
        return f"{uncommon!r} is not in the list of common nouns"
    if unknown := unknown_words(folder.path, words):
        return f"{unknown[0]!r} is not one token of {folder.name}"
    return None


def _doubts(folder: BaseFolder, word: str) -> Iterator[str]:
    """A warning if a class word that the user gave is probably not a word."""
    if (why := _unusual(folder, word)) is not None:
        near = near_noun(word)
        yield f"the base model may not read the class word {word!r}: {why}" + (
            f"; did you mean {near!r}?" if near not in {None, word} else ""
        )


def usable_class_word(given: str) -> str:
    """A class word as given, with single spaces.

    Raises:
        UsageError: it is blank, too long, or contains characters that a prompt cannot.
    """
    chosen = " ".join(given.split())
    if not chosen or any(not c.isprintable() or c in "<>" for c in chosen):
        raise UsageError(f"class word is not usable: {given[:80]!r}", reason="class-word")
    if len(chosen) > MAX_CLASS_WORD:  # the model decides about shorter ones
        raise UsageError(
            f"class word is too long: {chosen[:80]!r}",
            note=f"it has {len(chosen)} letters; at most {MAX_CLASS_WORD} are allowed",
            reason="long-class-word",
        )
    return chosen


def _check_holdout(holdout: int, n_images: int) -> None:
    """Refuse to hold out all images, or more."""
    if not 0 <= holdout < n_images:
        raise UsageError(
            f"cannot keep {holdout} of {n_images} different images for evaluation",
            note=f"allowed: 0 to {n_images - 1}",
            reason="holdout",
        )


def _check_space(store: Store, settings: Mapping[str, Any]) -> None:
    """Refuse if there is not enough space for the delta, the training state (values and two moments) and the images."""
    from cnsctl.store import free_bytes

    defaults = {
        "budget": default_budget(kv_weights=store.base.n_weights, denoiser_weights=store.base.denoiser_weights),
        **open_base(store).train,
    }
    budget = float(settings.get("budget", defaults["budget"]))
    needed = int(budget * store.base.n_weights * (3.2 + 24)) + 8_000_000
    free = free_bytes(store.path)
    if free < needed:
        raise DiskError(
            f"not enough disk space for training: {free / 1e6:.1f} MB free at {store.path}",
            note=f"about {needed / 1e6:.1f} MB are needed",
            hint="free some space, or use a store on another disk",
        )
