"""The proof: shows without generating an image that a concept has not changed.

Owns probe records and the check of the installed attention; must not know the store.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl.bases.attention import KeysValues, by_formula
from cnsctl.concept import Mention, Prompt
from cnsctl.engine.overlay import Overlay, text_keys_values
from cnsctl.engine.seeds import stream
from cnsctl.errors import StoreDamagedError
from cnsctl.formats.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnsctl.bases.protocol import Base, TextFeatures

FORMAT = 1
"""Version of probe records."""

PROJECTIONS = 16
"""Random projections per site and probe."""

TOLERANCE = 1e-4
"""Relative difference of projections below which K and V count as unchanged on another machine."""

PROBED_QUERIES = 16
"""Seeded inputs on which each attention layer is compared with its formula."""

MISREADING = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.005}
"""Largest relative difference between the installed attention and its formula by rounding, for each dtype."""

_AGAIN = "train the concept again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The outcome of one concept's proof."""

    unchanged: bool
    """Nothing that reaches the concept's images has changed."""
    moved: float
    """Largest relative change of a site's projections over the probes; infinite if one is NaN or Inf."""
    reasons: tuple[str, ...]
    """What differs from the record, for people."""
    other_parts: tuple[str, ...] = ()
    """Parts of the base model that differ from the record but do not read concepts: decoder, scheduler."""


def record(base: Base, overlay: Overlay, name: str, prompts: Sequence[Prompt]) -> bytes:
    """Canonical JSON of a concept's probes: hashes of all inputs of K and V, and projections of K and V themselves.

    It does not contain the name, so renaming does not change it. The base model must be loaded with `hash_weights`.
    """
    probes = [_probe(base, overlay, name, p)[0] for p in prompts]
    data = {"format": FORMAT, "kind": "probe", "base": _base_hashes(base), "mode": str(overlay.mode), "probes": probes}
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def prove(base: Base, overlay: Overlay, name: str, recorded: bytes) -> Proof:
    """Compute the probes again and compare them with the record, and the installed attention with its formula.

    Raises:
        StoreDamagedError: the record cannot be read.
        FormatTooNewError: a newer cnsctl wrote it.
    """
    data = _read(recorded)
    changed = [part for part, digest in _base_hashes(base).items() if data["base"].get(part) != digest]
    reasons = [f"the base model's {part} changed" for part in changed if part not in WITHOUT_CONCEPTS]
    moved = 0.0
    for old in data["probes"]:
        pieces = tuple(Mention(name=name) if p is None else str(p) for p in old["pieces"])
        text = "".join(f"<{name}>" if isinstance(p, Mention) else p for p in pieces)
        new, features, keys_values = _probe(base, overlay, name, Prompt(text=text, pieces=pieces))
        reasons += [words for key, words in _REASONS.items() if new[key] != old.get(key)]
        moved = max(moved, _distance(new["projections"], old["projections"]))
        if misreading(base, keys_values, features) > MISREADING[base.dtype]:
            reasons.append("the installed attention reads other keys or values")
    if moved > TOLERANCE:
        reasons.append("K or V moved")
    return Proof(
        unchanged=not reasons,
        moved=moved,
        reasons=tuple(dict.fromkeys(reasons)),
        other_parts=tuple(part for part in changed if part in WITHOUT_CONCEPTS),
    )


WITHOUT_CONCEPTS = ("decoder", "scheduler")
"""Parts of a base model that change every image alike, with and without concepts: their change is not forgetting."""


_REASONS = {
    "ids": "the tokens of its prompt changed",
    "vectors": "its token changed",
    "deltas": "other deltas act on it",
}


def only_other_deltas_changed(proof: Proof) -> bool:
    """In merged mode: whether nothing but the other deltas changed, and K and V through them."""
    return set(proof.reasons) <= {_REASONS["deltas"], "K or V moved"}


@torch.no_grad()
def misreading(base: Base, keys_values: KeysValues, features: TextFeatures) -> float:
    """Relative difference between the installed attention and softmax(q·Kᵀ/√d)·V with these K and V; 0 is exact.

    Each layer is called on seeded inputs as the denoiser calls it, and its output is compared with the formula in fp32.
    The output differs if the attention reads other keys or values, or none.

    Args:
        base: its layers are called, with its own dtype.
        keys_values: of one text, (1, t, rows) per site.
        features: of the same text.

    Returns:
        The largest difference over the layers, divided by the norm of what the attention adds; infinite when an output
        is NaN or Inf.
    """
    worst = 0.0
    with base.bind(keys_values, features):
        for layer in base.layers:
            attn: Any = layer.attention
            width = next(attn.to_q.parameters()).shape[1]
            inputs = torch.randn((1, PROBED_QUERIES, width), generator=stream("attention", layer.k))
            inputs = inputs.to(base.device, base.dtype)
            k, v = keys_values[layer.k], keys_values[layer.v]
            wanted = by_formula(attn, inputs, k, v, features.mask)
            nothing = by_formula(attn, inputs, k, torch.zeros_like(v), features.mask)
            gap = (attn(inputs) - wanted).double().norm() / (wanted - nothing).double().norm().clamp(min=1e-30)
            worst = max(worst, float(gap)) if bool(torch.isfinite(gap)) else math.inf
    return worst


def _base_hashes(base: Base) -> dict[str, str]:
    if base.part_hashes is None:
        raise ValueError("the proof needs a base model that was loaded with hash_weights=True")
    return {"text encoder, tokenizer or K/V": base.fingerprint, **base.part_hashes}


def _probe(base: Base, overlay: Overlay, name: str, prompt: Prompt) -> tuple[dict[str, Any], TextFeatures, KeysValues]:
    """What a record contains for one prompt, and the prompt's features, K and V."""
    text = overlay.splice(base, prompt)
    features, kv = text_keys_values(base, overlay, text)
    tokens = text.tokens
    rows = [
        overlay.concepts[n].vectors[e][i].cpu().numpy().tobytes() for n, i in tokens.vectors for e in base.vector_widths
    ]
    read = [] if features.mask is None else [features.mask.long().tolist()]
    reaching = dict(kv) if features.pooled is None else {**kv, POOLED: features.pooled[:, None]}  # (1, 1, p)
    found = {
        "pieces": [None if isinstance(p, Mention) and p.name == name else p for p in prompt.pieces],
        "ids": hashlib.sha256(json.dumps([*tokens.ids.values(), *tokens.places.values(), *read]).encode()).hexdigest(),
        "vectors": hashlib.sha256(b"".join(rows)).hexdigest(),
        "deltas": [[c.key, scale] for c, scale in overlay.acting(prompt)],
        "projections": {site: _project(site, x.cpu()) for site, x in sorted(reaching.items())},
    }
    return found, features, kv


POOLED = "pooled text"
"""Name of the projections of what conditions the denoiser beside cross-attention."""


def _project(site: str, x: torch.Tensor) -> list[float]:
    """aᵀ·x·b for 16 seeded pairs (a, b), x (1, t, rows) on the CPU. A change of x changes them with probability 1."""
    random = stream("proof", site)
    a = torch.randn((PROJECTIONS, x.shape[1]), generator=random)
    b = torch.randn((PROJECTIONS, x.shape[2]), generator=random)
    return [float(v) for v in ((a @ x[0].float()) * b).double().sum(1)]


def _distance(new: dict[str, list[float]], old: Any) -> float:
    if not isinstance(old, dict) or set(old) != set(new):
        raise StoreDamagedError("the sites in a probe record differ from those of its base model", hint=_AGAIN)
    worst = 0.0
    for site, values in new.items():
        a, b = np.asarray(values), np.asarray(old[site], dtype=np.float64)
        if a.shape != b.shape:
            raise StoreDamagedError(f"a probe record has {b.shape} projections for {site}", hint=_AGAIN)
        relative = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))
        if not math.isfinite(relative):  # max() would drop a NaN
            return math.inf
        worst = max(worst, relative)
    return worst


def _read(recorded: bytes) -> dict[str, Any]:
    try:
        data = json.loads(recorded)
        check_version(data["format"], FORMAT, "a probe record")
        if data["kind"] != "probe" or not isinstance(data["probes"], list) or not isinstance(data["base"], dict):
            raise ValueError(data["kind"])
        for probe in data["probes"]:
            if not isinstance(probe["pieces"], list) or not isinstance(probe["projections"], dict):
                raise TypeError("pieces")
    except (ValueError, KeyError, TypeError) as err:
        raise StoreDamagedError(f"cannot read a probe record: {err}", hint=_AGAIN) from err
    return dict(data)
