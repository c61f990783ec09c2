"""Orthogonal projection: K and V of earlier concepts hardly change, and the new concept is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_samples import concept_of, job, overlay, same_delta, states, synthetic, trained

from cnsctl.api import Run
from cnsctl.concept import Mode
from cnsctl.data.prompt_templates import training_texts
from cnsctl.engine import train
from cnsctl.engine.overlay import site_weight
from cnsctl.engine.projection import RANK, TOLERANCE, Projection, directions
from cnsctl.engine.prompt_tokens import features
from cnsctl.events import Note

ROWS, COLUMNS = 12, 20


@pytest.fixture(scope="module", params=["tiny", "tiny_v"])
def base(request):
    return request.getfixturevalue(request.param)


def random_case(seed: int, rank: int, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, Projection]:
    """Directions, an update of the masked entries, and the projection."""
    generator = torch.Generator().manual_seed(seed)
    P = torch.linalg.qr(torch.randn((COLUMNS, max(1, rank)), generator=generator)).Q[:, :rank]
    flat = (torch.rand(ROWS * COLUMNS, generator=generator) < share).nonzero().flatten()
    update = torch.randn(len(flat), generator=generator)
    return P, update, Projection(P, {"site": flat}, {"site": (ROWS, COLUMNS)})


def dense(projection: Projection, update: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(ROWS * COLUMNS)
    out[projection.mask["site"]] = update
    return out.view(ROWS, COLUMNS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 2, 6])
def test_the_projected_update_has_no_part_along_the_directions(seed, rank):
    P, update, projection = random_case(seed, rank)
    left = projection.off("site", update)
    absent = TOLERANCE**0.5  # directions weaker than that in a row's columns are not protected
    assert ((dense(projection, left) @ P).norm(dim=1) <= 2 * absent * dense(projection, update).norm(dim=1)).all()
    assert torch.allclose(projection.off("site", left), left, atol=1e-3)
    assert (dense(projection, left).norm(dim=1) <= dense(projection, update).norm(dim=1) + 1e-5).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_removed_part_lies_along_the_directions(seed):
    """Restricted to the columns of each row."""
    P, update, projection = random_case(seed, 2)
    taken = dense(projection, update - projection.off("site", update))
    mask = dense(projection, torch.ones_like(update)) > 0
    for row in range(ROWS):
        p = P * mask[row][:, None]
        fit = torch.linalg.lstsq(p, taken[row][:, None], driver="gelsd").solution
        assert torch.allclose((p @ fit).flatten(), taken[row], atol=1e-4)


def test_without_directions_the_update_does_not_change():
    _, update, projection = random_case(0, 0)
    assert torch.equal(projection.off("site", update), update)
    assert projection.full_rows == 0


def test_a_row_without_a_free_direction_is_not_trained_and_is_counted():
    P = torch.linalg.qr(torch.randn((COLUMNS, 3), generator=torch.Generator().manual_seed(1))).Q
    flat = torch.tensor([0, 1, 2, *range(COLUMNS, 2 * COLUMNS)])  # three columns of row 0, all of row 1
    projection = Projection(P, {"site": flat}, {"site": (ROWS, COLUMNS)})
    assert (projection.full_rows, projection.used_rows) == (1, 2)
    left = projection.off("site", torch.ones(len(flat)))
    assert left[:3].abs().max() < 1e-3
    assert left[3:].abs().max() > 0.1


def test_directions_are_those_of_the_earlier_concepts_own_tokens(base):
    prior = overlay(Mode.MERGED, old=synthetic(base, 9), older=synthetic(base, 10, word="cat"))
    P = directions(base, prior)
    assert P.shape == (next(iter(base.sites.values())).shape[1], 2 * RANK)
    assert torch.allclose(P.norm(dim=0).cpu(), torch.ones(2 * RANK), atol=1e-4)
    assert directions(base, overlay(Mode.MERGED)).shape[1] == 0


def moved(base, delta, prior) -> float:
    """Relative change of K and V at the earlier concept's own tokens."""
    old = prior.concepts["old"]
    texts = [prior.splice(base, p) for p in training_texts("old")]
    X = features(base, texts, {"old": old.vectors}).x
    own = torch.cat([x[list(t.spans["old"])] for x, t in zip(X, texts, strict=True)])
    change = total = 0.0
    for site, W in base.sites.items():
        before = site_weight(W, site, [(old, 1.0)], merged=True)
        after = site_weight(W, site, [(old, 1.0), (concept_of(base, delta), 1.0)], merged=True)
        change += float((own @ (after - before).T).norm() ** 2)
        total += float((own @ before.T).norm() ** 2)
    return (change / total) ** 0.5


def settings(base, *, orthogonal: bool, **settings):
    prior = overlay(Mode.MERGED, old=synthetic(base, 9))
    return prior, job(
        base,
        mode=Mode.MERGED,
        prior=prior,
        others={"old": prior.concepts["old"].indices},
        orthogonal=orthogonal,
        **settings,
    )


def test_orthogonal_training_hardly_changes_k_and_v_of_an_earlier_concept(base):
    prior, plain = settings(base, orthogonal=False, steps=12, budget=0.5)
    _, careful = settings(base, orthogonal=True, steps=12, budget=0.5)
    without, with_ = trained(base, plain).delta, trained(base, careful).delta
    assert moved(base, with_, prior) < 0.35 * moved(base, without, prior)
    site = next(iter(base.sites))
    start = site_weight(base.sites[site], site, [(prior.concepts["old"], 1.0)], merged=True)
    values = start.cpu().view(-1)[torch.from_numpy(with_.indices[site])].numpy()
    assert np.abs(with_.values[site].astype(np.float32) - values).max() > 1e-3  # it was trained


def test_an_interrupted_orthogonal_run_ends_as_an_uninterrupted_one(base):
    _, a_job = settings(base, orthogonal=True)
    (state,) = states(base, a_job, [3])
    resumed = Run(train.train(base, a_job, resume=state)).result()
    assert same_delta(trained(base, a_job).delta, resumed.delta)


def test_rows_that_cannot_be_trained_are_reported(base):
    concepts = {f"c{i}": synthetic(base, i) for i in range(6)}
    a_job = job(
        base, mode=Mode.MERGED, prior=overlay(Mode.MERGED, **concepts), orthogonal=True, steps=2, budget=0.02,
        others={n: c.indices for n, c in concepts.items()},
    )  # fmt: skip
    notes = [e.text for e in train.train(base, a_job) if isinstance(e, Note)]
    assert any("rows are not trained" in text for text in notes)
