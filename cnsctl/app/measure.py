"""How good a concept is and whether it is still what it was: fit, pictures, proof.

Owns which prompts and seeds are used, so that figures of different days compare; must not know terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import stdev
from typing import TYPE_CHECKING, Any

from cnsctl.app.shelf import HOLDOUT
from cnsctl.data.prompt_grammar import parse, render_class
from cnsctl.data.prompt_templates import base_probe_texts, probe_prompts
from cnsctl.metrics.error_removed import error_removed
from cnsctl.metrics.similarity import clip_i, clip_t, likeness_within
from cnsctl.specs import Delta, Mode, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.app.session import Session
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.proof import Proof
    from cnsctl.results import Learned
    from cnsctl.store import ConceptRecord

    Pixels = NDArray[np.uint8]
    Features = NDArray[np.floating]

SEEDS = (0, 1)
"""Of the probe pictures, for each probe prompt that names a place."""

NOISES = (0, 1, 2)
"""Of error removed; the first is the figure that is kept."""

PROOF_PROBES = 2
"""Probe prompts that the proof computes: alone, and in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One concept's check."""

    name: str
    proof: Proof
    lost: float | None
    """In merged, where other deltas moved its K or V: points of error removed lost since it was learned."""


def with_new(session: Session, prior: Overlay, name: str, delta: Delta) -> Overlay:
    """A concept on top of those that it was trained on: in merged, the store's overlay as it would be with it."""
    from cnsctl.engine.concepts import to_concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import delta_key

    concept = to_concept(session.base, delta, key=delta_key(delta))
    return Overlay(mode=session.store.mode, concepts={**prior.concepts, name: concept})


def checked(session: Session, overlay: Overlay, record: ConceptRecord) -> Outcome:
    """Prove a concept by its record, milliseconds and no image; in merged, measure it where others moved it."""
    from cnsctl.engine.proof import only_company_changed, prove

    name = record["name"]
    proof = prove(session.base, overlay, name, session.store.blob(record["probe"]))
    lost = None
    if session.store.mode is Mode.MERGED and not proof.unchanged and only_company_changed(proof):
        at_learning = record["learned"].get("error_removed")
        lost = 0.0
        if not proof.moved <= 0 and isinstance(at_learning, float):
            lost = at_learning - fit(session, overlay, name, session.latents(record))
    return Outcome(name=name, proof=proof, lost=lost)


def probe_record(session: Session, overlay: Overlay, name: str) -> bytes:
    """What later proofs of this concept compare with."""
    from cnsctl.engine.proof import record

    return record(session.base, overlay, name, probe_prompts(name)[:PROOF_PROBES])


def fit(session: Session, overlay: Overlay, name: str, latents: torch.Tensor, *, noise: int = 0) -> float:
    """Error removed, percent: the denoising error with the concept against the base's own with the bare class word.

    The base's own: in merged every delta acts on the class word too, and a yardstick must not move with the store.
    """
    from cnsctl.engine.overlay import EMPTY
    from cnsctl.engine.proof import fit_error

    prompt = probe_prompts(name)[0]
    with_concept = fit_error(session.base, overlay, prompt, latents, noise_seed=noise)
    without = fit_error(session.base, EMPTY, class_prompt(overlay, prompt), latents, noise_seed=noise)
    return error_removed(with_concept, without)


def fit_with_spread(session: Session, overlay: Overlay, name: str, latents: torch.Tensor) -> tuple[float, float]:
    """`fit`, and its standard deviation over three seeds of the noise: what a difference must exceed to mean anything."""
    found = [fit(session, overlay, name, latents, noise=noise) for noise in NOISES]
    return found[0], stdev(found)


def class_prompt(overlay: Overlay, prompt: Prompt) -> Prompt:
    """The same prompt with the bare class word instead of the concept."""
    return parse(render_class(prompt, {n: c.class_word for n, c in overlay.concepts.items()}), ())


def fresh(
    session: Session, overlay: Overlay, name: str, pixels: Pixels, latents: torch.Tensor
) -> tuple[dict[str, float | str | None], list[Pixels]]:
    """Scores of a concept, and its probe pictures. CLIP scores are None when the base brings no CLIP."""
    drawn = probe_pictures(session, overlay, probe_prompts(name))
    scores: dict[str, float | str | None] = {"error_removed": fit(session, overlay, name, latents)}
    return scores | clip_scores(session, overlay, name, drawn, clip_features(session, pixels)), drawn


def probe_pictures(session: Session, overlay: Overlay, prompts: Sequence[Prompt]) -> list[Pixels]:
    """The probe prompts that name a place, each on the fixed seeds, at the base's own settings."""
    from cnsctl.engine.generate import Request, draw

    requests = [Request(prompt=p, seed=s) for p in prompts[1:] for s in SEEDS]
    return [picture for _, picture in draw(session.base, overlay, requests, session.base.draw_defaults)]


def clip_features(session: Session, pixels: Pixels) -> Features | None:
    """CLIP features of a concept's own images, (n, d): computed once, compared often. None when the base has no CLIP."""
    towers = session.clip()
    return None if towers is None else towers.pictures(list(pixels))


def clip_scores(
    session: Session, overlay: Overlay, name: str, drawn: Sequence[Pixels], own: Features | None
) -> dict[str, float | str | None]:
    """CLIP-I against the concept's own images (mean over pairs) and CLIP-T against the prompt with the class word."""
    towers = session.clip()
    if towers is None or own is None:
        return {"clip_i": None, "clip_t": None, "backbone": None}
    texts = [class_prompt(overlay, p).text for p in probe_prompts(name)[1:] for _ in SEEDS]
    features = towers.pictures(drawn)
    return {
        "clip_i": clip_i(features, own),
        "clip_t": clip_t(features, towers.texts(texts)),
        "backbone": towers.backbone,
    }


def clip_i_real(features: Features | None, n_held_out: int) -> float | None:
    """What a perfect likeness scores: CLIP-I of a concept's held-out pictures against those that it was learned from.

    Where none was held out: of its pictures against each other, each pair once.
    """
    if features is None or len(features) < 2:
        return None
    if n_held_out:
        return clip_i(features[-n_held_out:], features[:-n_held_out])
    return likeness_within(features)


def base_pictures(session: Session, overlay: Overlay) -> list[Pixels]:
    """The ten prompts without a concept, on one seed: what drift is measured on."""
    from cnsctl.engine.generate import Request, draw

    requests = [Request(prompt=parse(text, ()), seed=0) for text in base_probe_texts()]
    return [picture for _, picture in draw(session.base, overlay, requests, session.base.draw_defaults)]


def concept_fields(
    session: Session,
    name: str,
    learned: Learned,
    scores: Mapping[str, float | str | None],
    captions: Sequence[str | None],
    *,
    holdout: int,
    created: str,
) -> dict[str, Any]:
    """A concept's record, less what the store computes itself."""
    return {
        "name": name,
        "class_word": learned.delta.class_word,
        "tokens": len(next(iter(learned.delta.vectors.values()))),
        "share": learned.selected.share,
        "share_denoiser": learned.selected.neurons / session.base.denoiser_weights,
        "created": created,
        "captions": list(captions),
        "recipe": {**learned.delta.recipe, **({HOLDOUT: holdout} if holdout else {})},
        "learned": dict(scores),
    }
