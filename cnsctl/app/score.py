"""`score`: what `add` would choose, and how many of these neurons other concepts own.

Owns that answer; must not know terminals or formulas.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnsctl.app.dataset import long_captions, make_job
from cnsctl.app.requests import AddRequest, admit
from cnsctl.app.session import Session, start
from cnsctl.app.shelf import describe_base
from cnsctl.results import Answer, Event, Phase, Selected
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnsctl.engine.trainer import Job
    from cnsctl.store import Store


def score(store: Store, request: AddRequest) -> Iterator[Event]:
    """What `add` would choose: the same warm-up, score and selection, then it stops. Nothing is written."""
    from cnsctl.engine import train

    admitted = admit(store, replace(request, replace=True))
    class_word, pictures = admitted.class_word, admitted.pictures
    yield Phase(name="load the base")
    session = start(store, request.compute)
    job = make_job(session, request, class_word, pictures)
    yield from long_captions(session.base, job, pictures)
    selected: Selected | None = None
    for event in train.score(session.base, job):
        if isinstance(event, Selected):
            selected = event
        else:
            yield event
    assert selected is not None
    yield Answer(data=_score_answer(session, job, selected, class_word))


def _score_answer(session: Session, job: Job, selected: Selected, class_word: str) -> dict[str, Any]:
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
        "shared": selected.shared,
        "shared_random": selected.shared_random,
    }


def mask_hash(mask: Mapping[str, Any]) -> str:
    """SHA-256 of a mask: `score` prints that of the mask which `add` will choose, byte for byte."""
    import numpy as np

    digest = hashlib.sha256()
    for _site, flat in sorted(mask.items()):
        digest.update(np.ascontiguousarray(flat, dtype="<i8").tobytes())
    return digest.hexdigest()
