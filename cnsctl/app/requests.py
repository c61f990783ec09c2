"""What is asked of `add` and `score`, and everything that can be refused before a model is loaded.

Owns the limits of settings; must not know models or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from cnsctl.app.session import Compute, refuse_half_for_learning
from cnsctl.app.shelf import base_of
from cnsctl.bases.base_folder import open_folder
from cnsctl.data.images import read_pictures
from cnsctl.data.names import check_name, words_of
from cnsctl.errors import DiskProblem, NameTaken, StoreDamaged, UsageProblem
from cnsctl.specs import LEARN_LIMITS, LearnSpec, Mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cnsctl.data.images import Picture
    from cnsctl.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRequest:
    """What the user asked to learn."""

    name: str
    sources: Sequence[Path]
    class_word: str | None = None
    settings: Mapping[str, Any]
    """Fields of `LearnSpec` that the user gave; the base's defaults fill in the rest."""
    holdout: int = 0
    """Pictures, the last ones, that are not learned from but measured on."""
    replace: bool = False
    allow_forgetting: bool = False
    compute: Compute = field(default_factory=Compute)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """A request that passed every check that needs no model."""

    class_word: str
    pictures: Sequence[Picture]
    """Each once, at the base's resolution, those held out last."""


def admit(store: Store, request: AddRequest) -> Admitted:
    """Refuse what can be refused without a model, and read the images: no file is decoded a second time."""
    check_name(request.name)
    refuse_half_for_learning(request.compute)
    if request.name in store.snapshot().names and not request.replace:
        raise NameTaken(
            f"there is a concept called {request.name!r} already",
            hint=f"use another name, cnsctl add {request.name} --replace, or cnsctl rm {request.name}",
        )
    _check_settings(request.settings)
    pictures = read_pictures(list(request.sources), size=open_folder(base_of(store)).size)
    _check_holdout(request.holdout, len(pictures))
    class_word = _class_word(store, request)
    _check_space(store, request)
    refuse_damaged(store, request.name)
    return Admitted(class_word=class_word, pictures=pictures)


def refuse_damaged(store: Store, name: str, *, files: bool = False) -> None:
    """In merged: refuse to train on top of concepts that are damaged, as far as that shows without reading deltas.

    Args:
        store: of the concepts.
        name: of the new concept: one that it replaces is not needed.
        files: read also what the check after the training needs of each: its probe record and its pictures.

    Raises:
        StoreDamaged: the message names the concept.
    """
    if store.mode is not Mode.MERGED:
        return
    for record in store.concepts():
        if record["name"] == name:
            continue
        try:
            if store.is_damaged(record):
                raise StoreDamaged("its delta is missing or has the wrong size")
            for sha in (record["probe"], *record["references"]) if files else ():
                store.blob(sha)
        except StoreDamaged as err:
            raise StoreDamaged(
                f"<{record['name']}> is damaged, and in merged mode a concept is trained on top of all others: {err.what}",
                hint=f"restore the store from a backup, or remove the concept: cnsctl rm {record['name']}",
            ) from err


def _class_word(store: Store, request: AddRequest) -> str:
    from cnsctl.bases.clip_tokenizer import unknown_words

    if request.class_word is not None:
        chosen = " ".join(request.class_word.split())
        if not chosen or any(not c.isprintable() or c in "<>" for c in chosen):
            raise UsageProblem(f"--class {request.class_word!r} holds no usable word", hint='try --class "top hat"')
        return chosen
    words = words_of(request.name)
    if unknown := unknown_words(base_of(store), words):
        raise UsageProblem(
            f"{unknown[0]!r} is no word that this base knows, so {request.name!r} does not say what kind of thing it is",
            hint=f"say it: cnsctl add {request.name} … --class dog",
        )
    return words


def _check_holdout(holdout: int, n_pictures: int) -> None:
    """Refuse to hold out so many that none is left to learn from."""
    if not 0 <= holdout < n_pictures:
        raise UsageProblem(
            f"--holdout {holdout} leaves none of {n_pictures} different pictures to learn from"
            if holdout > 0
            else f"--holdout {holdout} is no number of pictures",
            hint=f"use 0 to {n_pictures - 1}" if n_pictures > 1 else "give more pictures, or hold out none",
        )


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(LearnSpec)}
    assert set(settings) <= known, set(settings) - known
    for key in ("steps", "batch", "vectors", "seed"):
        low, high = LEARN_LIMITS[key]
        if key in settings and not low <= settings[key] <= high:
            raise UsageProblem(f"--{key} {settings[key]} is out of range", hint=f"use {low} to {high}")
    if "budget" in settings and not 0 < settings["budget"] <= 1:
        raise UsageProblem(f"--budget {settings['budget']} is out of range", hint="use a share, such as 0.058")
    for key in ("rate_values", "rate_vectors"):
        if key in settings and not 0 < settings[key] < 1:
            raise UsageProblem(f"a learning rate of {settings[key]} is out of range", hint="use 0 < rate < 1")


def _check_space(store: Store, request: AddRequest) -> None:
    """The delta, the training state (values and two moments) and the images, with room to spare."""
    from cnsctl.bases.base_folder import default_budget, open_folder
    from cnsctl.store import free_bytes

    defaults = {
        "budget": default_budget(kv_weights=store.base.n_weights, denoiser_weights=store.base.denoiser_weights),
        **open_folder(base_of(store)).learn,
    }
    budget = float(request.settings.get("budget", defaults["budget"]))
    needed = int(budget * store.base.n_weights * (3.2 + 24)) + 8_000_000
    free = free_bytes(store.path)
    if free < needed:
        raise DiskProblem(
            f"{store.path} has {free / 1e6:.1f} MB left, learning needs about {needed / 1e6:.1f} MB",
            hint="make room, or use --store on another disk",
        )
