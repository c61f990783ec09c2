"""`score`: the neurons that `add` would train, and how many of them other concepts own.

Owns this result; must not know terminals or formulas.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.dataset import long_captions, make_job
from cnsctl.app.forecast import after_loading, selecting
from cnsctl.app.requests import TrainRequest, admit, expected_settings
from cnsctl.app.session import Session, started
from cnsctl.app.stores import base_model
from cnsctl.events import Event, Selected

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cnsctl.store import Store


def score(
    store: Store, request: TrainRequest, *, session: Session | None = None
) -> Generator[Event, None, results.ScoreResult]:
    """The neurons that `add` would train, by the same warm-up, scoring and selection. Saves nothing."""
    from cnsctl.engine import train

    admitted = admit(store, replace(request, replace=True))
    batch_size = request.settings.get("batch_size")
    settings = expected_settings(store, request)
    yield after_loading(selecting(len(admitted.images) - request.holdout, settings))
    session = yield from started(store, request.compute, session, work="add", batch_size=batch_size)
    job = yield from make_job(session, request, admitted.class_word, admitted.images)
    yield from long_captions(session.base, job, admitted.images)
    selected: Selected | None = None
    for event in train.score(session.base, job):
        if isinstance(event, Selected):
            selected = event
        else:
            yield event
    assert selected is not None
    shapes = session.base.shapes
    return results.ScoreResult(
        store=str(store.path),
        base=base_model(store),
        name=job.name,
        class_word=job.class_word,
        neurons=selected.neurons,
        share=selected.share,
        share_denoiser=selected.neurons / session.base.denoiser_weights,
        mask=mask_hash(selected.mask),
        sites=tuple(
            results.Site(site=s, neurons=n, weights=shapes[s][0] * shapes[s][1], general=selected.general[s])
            for s, n in selected.sites.items()
        ),
        shared=selected.shared,
        shared_random=selected.shared_random,
    )


def mask_hash(mask: Mapping[str, Any]) -> str:
    """SHA-256 of a mask. Equal settings and images give equal masks, in `score` and in `add`."""
    import numpy as np

    digest = hashlib.sha256()
    for _site, flat in sorted(mask.items()):
        digest.update(np.ascontiguousarray(flat, dtype="<i8").tobytes())
    return digest.hexdigest()
