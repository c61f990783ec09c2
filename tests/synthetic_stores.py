"""Stores with synthetic concepts on tiny base models, for what needs no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnsctl.app import stores
from cnsctl.concept import Delta, Mode
from cnsctl.store import Store

CREATED = "2026-11-24T10:00:00Z"


def make_store(
    path: Path, base: Path, *, mode: Mode = Mode.PROMPT, vectors: int = 1, copy: bool = False, **words: str
) -> Store:
    """A store with a concept for each name, given with its class word: `make_store(path, base, dog="dog")`."""
    from cnsctl import create_store

    create_store(path, base=base, mode=mode, copy=copy)
    store = stores.open_store(path)
    for seed, (name, word) in enumerate(words.items(), start=1):
        delta = synthetic_delta(store, seed, word=word, vectors=vectors)
        fields = {
            "name": name, "class_word": word, "tokens": vectors, "share": 0.1, "share_denoiser": 0.01,
            "created": CREATED, "captions": [None], "recipe": {}, "scores": {},
        }  # fmt: skip
        with store.transaction(f"add {name}") as tx:
            tx.add(fields, delta, references=[an_image()], probe=b"a probe", preview=None)
    return store


def an_image() -> bytes:
    """A small PNG."""
    from io import BytesIO

    from PIL import Image

    pixels = np.random.default_rng(5).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream := BytesIO(), "PNG")
    return stream.getvalue()


def synthetic_delta(store: Store, seed: int, *, word: str, vectors: int = 1) -> Delta:
    """Random neurons, values near those of the base model, and random token embeddings."""
    from cnsctl.app.site_weights import opened_weights

    rng = np.random.default_rng(seed)
    indices, values = {}, {}
    with opened_weights(store) as weights:
        for site in store.base.sites:
            flat = weights.before(site).reshape(-1)
            at = np.flatnonzero(rng.random(flat.size) < 0.2).astype(np.int64)
            indices[site] = at
            values[site] = (flat[at] + 0.6 * rng.standard_normal(len(at))).astype(np.float16)
    return Delta(
        shapes=dict(store.base.sites),
        indices=indices,
        values=values,
        vectors={e: (0.3 * rng.standard_normal((vectors, w))).astype(np.float16) for e, w in _widths(store).items()},
        class_word=word,
        fingerprint=store.base.fingerprint,
        mode=store.mode,
        recipe={"seed": seed},
    )


def _widths(store: Store) -> dict[str, int]:
    """Per text encoder: the width of its token embeddings, from its configuration."""
    import json

    folder = stores.base_of(store)
    found = {}
    for part in sorted(folder.glob("text_encoder*")):
        config = json.loads((part / "config.json").read_text(encoding="utf-8"))
        found[part.name] = config.get("hidden_size", config.get("d_model"))
    return found
