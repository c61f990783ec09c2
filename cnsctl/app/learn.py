"""`add` and `score`: read, score, select, train, verify, commit; or keep nothing but the work.

Owns the order of these steps; must not know terminals, file formats or formulas.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from cnsctl.app import measure
from cnsctl.app.session import Compute, Session, refuse_half_for_learning, start
from cnsctl.app.shelf import base_of, describe_base, now, summary
from cnsctl.data.names import check_name, words_of
from cnsctl.data.pictures import peek_pictures, read_pictures
from cnsctl.data.texts import calibration_texts, caption_prompt, training_texts
from cnsctl.errors import CnsctlError, DiskProblem, LearnedNotKept, NameTaken, UsageProblem
from cnsctl.results import Answer, Checkpoint, Event, Learned, Note, Phase, Selected, Warn
from cnsctl.specs import FORMAT, LearnSpec, Mode, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.data.pictures import Picture
    from cnsctl.engine.train import Job
    from cnsctl.store import Store

LOST_POINTS = 5.0
"""In merged: an earlier concept that loses more points of error removed than this refuses the commit."""

STATE_FILE = "state.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRequest:
    """What the user asked to learn."""

    name: str
    sources: Sequence[Path]
    class_word: str | None = None
    settings: Mapping[str, Any]
    """Fields of `LearnSpec` that the user gave; the base's defaults fill in the rest."""
    replace: bool = False
    allow_forgetting: bool = False
    compute: Compute = field(default_factory=Compute)


def add(store: Store, request: AddRequest) -> Iterator[Event]:
    """Learn a concept and keep it; the last event is the answer.

    Everything that can be refused is refused before the model is loaded. Until the commit nothing in the store changes,
    and an interrupted run is resumed by the same call.
    """
    class_word = _prepared(store, request)
    yield Note(text=f"<{request.name}> stands for a new token and the class word {class_word!r}")
    with ExitStack() as held:
        if store.mode is Mode.MERGED:  # each concept is learned on top of the others: one at a time
            held.enter_context(store.training())
        work = held.enter_context(store.reserve(request.name))
        generation = store.generation()
        yield Phase(name="load the base")
        session = start(store, request.compute, hash_weights=True)
        pictures = read_pictures(list(request.sources), size=session.base.size)
        yield from (Note(text=f"{p.name}: {p.note}") for p in pictures if p.note is not None)
        job = _job(session, request, class_word, pictures)
        learned: Learned | None = None
        for event in _learning(job, session, work / STATE_FILE):
            if isinstance(event, Learned):
                learned = event
            else:
                yield event
        assert learned is not None
        yield from _keep(session, request, learned, pictures, generation)
    store.discard_work(request.name)
    yield Answer(data=_answer(store, request.name, learned))


def score(store: Store, request: AddRequest) -> Iterator[Event]:
    """What `add` would choose: the same warm-up, score and selection, then it stops. Nothing is written."""
    from cnsctl.engine import train

    class_word = _prepared(store, replace(request, replace=True))
    yield Phase(name="load the base")
    session = start(store, request.compute)
    pictures = read_pictures(list(request.sources), size=session.base.size)
    job = _job(session, request, class_word, pictures)
    selected: Selected | None = None
    for event in train.score(session.base, job):
        if isinstance(event, Selected):
            selected = event
        elif not isinstance(event, Checkpoint):
            yield event
    assert selected is not None
    yield Answer(data=_score_answer(session, job, selected, class_word))


def _prepared(store: Store, request: AddRequest) -> str:
    """Refuse what can be refused without a model; returns the class word."""
    check_name(request.name)
    refuse_half_for_learning(request.compute)
    taken = {c["name"] for c in store.concepts()}
    if request.name in taken and not request.replace:
        raise NameTaken(
            f"there is a concept called {request.name!r} already",
            hint=f"use another name, cnsctl add {request.name} --replace, or cnsctl rm {request.name}",
        )
    _check_settings(request.settings)
    peek_pictures(list(request.sources))
    class_word = _class_word(store, request)
    _check_space(store, request)
    return class_word


def _class_word(store: Store, request: AddRequest) -> str:
    from cnsctl.bases.words import unknown_words

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


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(LearnSpec)}
    assert set(settings) <= known, set(settings) - known
    limits = {"steps": (2, 100_000), "batch": (1, 1024), "vectors": (1, 16), "seed": (0, 2**62)}
    for key, (low, high) in limits.items():
        if key in settings and not low <= settings[key] <= high:
            raise UsageProblem(f"--{key} {settings[key]} is out of range", hint=f"use {low} to {high}")
    if "budget" in settings and not 0 < settings["budget"] <= 1:
        raise UsageProblem(f"--budget {settings['budget']} is out of range", hint="use a share, such as 0.058")
    for key in ("rate_values", "rate_vectors"):
        if key in settings and not 0 < settings[key] < 1:
            raise UsageProblem(f"a learning rate of {settings[key]} is out of range", hint="use 0 < rate < 1")


def _check_space(store: Store, request: AddRequest) -> None:
    """The delta, the work's state (values and two moments) and the pictures, with room to spare."""
    from cnsctl.store import free_bytes

    budget = float(request.settings.get("budget", 0.058))
    needed = int(budget * store.base.n_weights * (3.2 + 24)) + 8_000_000
    free = free_bytes(store.path)
    if free < needed:
        raise DiskProblem(
            f"{store.path} has {free / 1e6:.1f} MB left, learning needs about {needed / 1e6:.1f} MB",
            hint="make room, or use --store on another disk",
        )


def _job(session: Session, request: AddRequest, class_word: str, pictures: Sequence[Picture]) -> Job:
    import numpy as np
    import torch

    from cnsctl.engine.overlay import EMPTY
    from cnsctl.engine.train import Job

    base, store = session.base, session.store
    others = [c for c in store.concepts() if c["name"] != request.name]
    masks = {c["name"]: store.delta(c).indices for c in others}
    merged = store.mode is Mode.MERGED
    return Job(
        name=request.name,
        class_word=class_word,
        latents=base.encode_pictures(np.stack([p.pixels for p in pictures])),
        texts=[_texts_of(request.name, class_word, p) for p in pictures],
        spec=LearnSpec(**{**base.learn_defaults, **request.settings}),
        mode=store.mode,
        prior=session.overlay(masks) if merged else EMPTY,
        general=_general(session),
        others={n: {s: torch.from_numpy(i).to(base.device) for s, i in m.items()} for n, m in masks.items()},
    )


def _texts_of(name: str, class_word: str, picture: Picture) -> tuple[Prompt, ...]:
    if picture.caption is None:
        return training_texts(name)
    return (caption_prompt(name, class_word, picture.caption),)


def _general(session: Session) -> dict[str, Any]:
    """General neurons of the base, cached: they depend on the base and the calibration prompts alone."""
    from cnsctl.engine import neurons, state

    texts = calibration_texts()
    key = hashlib.sha256(
        "\n".join([session.base.fingerprint, *neurons.general_settings(), *texts]).encode()
    ).hexdigest()
    shapes = {site: tuple(W.shape) for site, W in session.base.sites.items()}
    cached = session.store.cached(f"general-{key[:24]}")
    found = None if cached is None else state.masks_from_bytes(cached, shapes=shapes)
    if found is None:
        found = neurons.general_neurons(session.base, texts)
        session.store.cache(f"general-{key[:24]}", state.masks_to_bytes(found))
    return {site: mask.to(session.base.device) for site, mask in found.items()}


def _learning(job: Job, session: Session, state_file: Path) -> Iterator[Event]:
    from cnsctl.engine import train
    from cnsctl.store import write_atomic

    resume = state_file.read_bytes() if state_file.is_file() else None
    if resume is not None:
        yield Note(text="an unfinished run was found: it goes on where it stopped, unless pictures or settings differ")
    for event in train.learn(session.base, job, resume=resume):
        if isinstance(event, Checkpoint):
            write_atomic(state_file, event.state)
        else:
            yield event


def _keep(
    session: Session, request: AddRequest, learned: Learned, pictures: Sequence[Picture], generation: int
) -> Iterator[Event]:
    """Verify the others, measure the new one, commit."""
    import numpy as np

    from cnsctl.data.png import png_bytes

    store, name = session.store, request.name
    overlay = measure.with_new(session, name, learned.delta)
    yield Phase(name="check that nothing was forgotten")
    yield from _others_checked(session, overlay, request)
    yield Phase(name="draw and measure it")
    pixels = np.stack([p.pixels for p in pictures])
    scores, drawn = measure.fresh(session, overlay, name, pixels)
    record = measure.probe_record(session, overlay, name)
    with store.transaction(f"add {name}") as tx:
        if store.mode is Mode.MERGED:
            tx.expect_generation(generation)
        tx.add(
            measure.concept_fields(session, name, learned, scores, [p.caption for p in pictures], created=now()),
            learned.delta,
            references=[png_bytes(p.pixels) for p in pictures],
            probe=record,
            preview=png_bytes(np.concatenate(list(drawn), axis=1)),
            replace=request.replace,
        )


def _others_checked(session: Session, overlay: Any, request: AddRequest) -> Iterator[Event]:
    """Proof for every other concept; in merged, those whose K or V moved are measured.

    Raises:
        LearnedNotKept: an earlier concept lost too much; the work is kept.
    """
    lost = []
    for outcome in measure.proofs(session, overlay, skip=request.name):
        if outcome.lost is not None and outcome.lost > LOST_POINTS:
            lost.append(f"<{outcome.name}> lost {outcome.lost:.1f} points of error removed")
        elif not outcome.proof.unchanged and outcome.lost is None:
            raise CnsctlError(
                f"<{outcome.name}> is not what it was: {'; '.join(outcome.proof.reasons)}", hint="run cnsctl verify"
            )
    if lost and not request.allow_forgetting:
        raise LearnedNotKept(
            f"{'; '.join(lost)} (limit {LOST_POINTS:g})",
            hint="the work is kept: --allow-forgetting commits it, --policy prefer-free or fewer --steps lose less",
        )
    yield from (Warn(text=text) for text in lost)


def _answer(store: Store, name: str, learned: Learned) -> dict[str, Any]:
    record = store.concept(name)
    return {
        "format": FORMAT,
        "store": str(store.path),
        "concept": summary(record),
        "shared": learned.selected.shared,
        "shared_random": learned.selected.shared_random,
        "free": store.free(),
    }


def _score_answer(session: Session, job: Job, selected: Selected, class_word: str) -> dict[str, Any]:
    import numpy as np

    from cnsctl.engine import neurons

    chance = neurons.random_neurons(session.base, budget=job.spec.budget, seed=job.spec.seed)
    overlaps = {}
    for other, mask in job.others.items():
        owned = neurons.owned_entries(session.base, [mask])
        chosen = {s: mask[s].new_tensor(np.asarray(m)) for s, m in selected.mask.items()}
        overlaps[other] = {
            "neurons": neurons.shared_with(chosen, owned),
            "random": neurons.shared_with(chance, owned),
        }
    return {
        "format": FORMAT,
        "store": str(session.store.path),
        "base": describe_base(session.store),
        "name": job.name,
        "class_word": class_word,
        "neurons": selected.neurons,
        "share": selected.share,
        "share_denoiser": selected.neurons / session.base.denoiser_weights,
        "mask": mask_hash(selected.mask),
        "sites": [
            {"site": s, "neurons": n, "weights": session.base.sites[s].numel(), "general": selected.general[s]}
            for s, n in selected.sites.items()
        ],
        "overlaps": overlaps,
    }


def mask_hash(mask: Mapping[str, Any]) -> str:
    """SHA-256 of a mask: `score` prints that of the mask which `add` will choose, byte for byte."""
    import numpy as np

    digest = hashlib.sha256()
    for _site, flat in sorted(mask.items()):
        digest.update(np.ascontiguousarray(flat, dtype="<i8").tobytes())
    return digest.hexdigest()
