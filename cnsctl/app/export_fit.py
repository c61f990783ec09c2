"""Fitting the LoRA of an export, and measuring what it keeps.

Owns this order of work; must not know the fit's algebra (`engine.lora_fit`) or files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.counting import Count
from cnsctl.app.session import started
from cnsctl.concept import Mode
from cnsctl.errors import CnsctlError
from cnsctl.events import Event, Note, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from cnsctl.app.export import ExportRequest
    from cnsctl.app.session import Session
    from cnsctl.bases.protocol import Base
    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.lora_effect import Fitted
    from cnsctl.engine.overlay import Overlay
    from cnsctl.formats.contents import Factors
    from cnsctl.store import ConceptRecord, Store

MEASURE = "measure error removed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fits:
    """The fitted LoRA of each concept, and what it keeps."""

    factors: Mapping[str, Mapping[str, Factors]]
    """Per concept and site."""
    fidelity: Mapping[str, results.Fidelity]
    """Per concept."""


def fitting(
    store: Store, records: Sequence[ConceptRecord], rank: int, request: ExportRequest, session: Session | None
) -> Generator[Event, None, Fits]:
    """Fit a LoRA to each concept.

    Args:
        store: of the concepts.
        records: of the concepts.
        rank: of the LoRA.
        request: says whether error removed is measured.
        session: with the base model, if it is loaded.
    """
    session = yield from started(store, request.compute, session)
    overlay = session.overlay([record["name"] for record in records])
    factors, fidelity = {}, {}
    for record in records:
        name = record["name"]
        concept = overlay.concepts[name]
        if overlay.mode is Mode.MERGED:
            concept = _with_all(session.base, overlay, concept)
        found = yield from _fitted(session.base, name, concept, rank)
        factors[name] = {site: _rounded(pair, name, site) for site, pair in found.factors.items()}
        through = here = on = None
        if request.measure and not record["references"]:  # as after an import
            yield Note(text=f"error removed is not measured: <{name}> has no images")
        elif request.measure:
            through, here, on = yield from _measured(session, overlay, record, concept, factors[name])
        fidelity[name] = results.Fidelity(
            name=name,
            kept=found.effect.kept,
            leak=found.effect.leak,
            error_removed=through,
            error_removed_here=here,
            measured_on=on,
        )
    return Fits(factors=factors, fidelity=fidelity)


def _fitted(base: Base, name: str, concept: Concept, rank: int) -> Generator[Event, None, Fitted]:
    from cnsctl.engine.lora_effect import fitting as fit

    phase, work, begun = f"fit a LoRA to <{name}>", fit(base, {name: concept}, rank=rank), False
    while True:
        try:
            done, total = next(work)
        except StopIteration as end:
            found: Fitted = end.value
            return found
        if not begun:
            yield Phase(name=phase, total=total)
            begun = True
        yield Step(phase=phase, step=done, total=total)


def _with_all(base: Base, overlay: Overlay, concept: Concept) -> Concept:
    """In merged mode all deltas act: the concept's token embeddings with all of them as one delta."""
    import torch

    indices, values = {}, {}
    for site, W in base.sites.items():
        at = torch.unique(torch.cat([one.indices[site] for one in overlay.concepts.values()]))
        indices[site], values[site] = at, overlay.merged_weight(W, site).reshape(-1)[at]
    return replace(concept, indices=indices, values=values)


def _rounded(pair: Factors, name: str, site: str) -> Factors:
    """As the file has them: fp16."""
    import numpy as np

    with np.errstate(over="ignore"):
        down, up = (one.astype(np.float16).astype(np.float32) for one in (pair.down, pair.up))
    if not (np.isfinite(down).all() and np.isfinite(up).all()):
        raise CnsctlError(
            f"the LoRA of <{name}> has no finite numbers in fp16 at {site}",
            hint="export another format, or train the concept again with a lower learning rate",
        )
    return replace(pair, down=down, up=up)


def _measured(
    session: Session, overlay: Overlay, record: ConceptRecord, concept: Concept, factors: Mapping[str, Factors]
) -> Generator[Event, None, tuple[float, float, int]]:
    """Error removed through the file and in this store, and on how many images."""
    from cnsctl.app.concepts import measurable
    from cnsctl.app.measuring import FEW, NO_IMAGES, Plan, sample
    from cnsctl.app.probes import encoded, removed_error
    from cnsctl.engine.lora_effect import change_of, error_removed_through

    plan = Plan(rows=sample(measurable(record), FEW), level=NO_IMAGES)
    count = Count(MEASURE, 5 * len(plan.rows))
    yield count.begin()
    latents = yield from count.each(encoded(session, record, plan))
    here = yield from count.each(removed_error(session, overlay, record["name"], latents))

    def change(site: str) -> Any:
        return change_of(session.base, factors[site])

    through = error_removed_through(session.base, record["name"], concept, change, latents)
    yield count.step(2 * len(latents))
    return through, here, len(latents)
