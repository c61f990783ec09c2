"""Rules of the check that a denoiser predicts what its configuration says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cnsctl.bases.base_folder import POCKET, open_folder
from cnsctl.bases.prediction_check import check, refuse_contradiction
from cnsctl.bases.registry import load
from cnsctl.errors import BaseModelError
from cnsctl.settings import Prediction


@pytest.fixture
def pocket_as():
    """Pocket with a configuration that says so."""

    def loaded(said: Prediction):
        folder = replace(open_folder(POCKET), prediction=said)
        return load(folder, device=torch.device("cpu"), dtype=torch.float32)

    return loaded


def predicting_epsilon(base):
    """The same denoiser, which predicts v, with its answer written as ε = a·v + s·x."""
    answer = base.components.predict

    def predict(noisy, times, *rest):
        alpha = base.schedule.alphas[times].reshape(-1, 1, 1, 1)
        return alpha.sqrt() * answer(noisy, times, *rest) + (1 - alpha).sqrt() * noisy

    base.components = replace(base.components, predict=predict)
    return base


@pytest.mark.parametrize("said", Prediction)
@pytest.mark.parametrize("predicts", Prediction)
def test_a_configuration_that_contradicts_the_weights_is_refused_with_both_figures(pocket_as, said, predicts):
    base = pocket_as(said)
    if predicts is Prediction.EPSILON:
        base = predicting_epsilon(base)
    found = check(base)
    assert found.found is predicts
    if said is predicts:
        refuse_contradiction(base, found)
        return
    with pytest.raises(BaseModelError, match=f"do not predict {said}") as refused:
        refuse_contradiction(base, found)
    assert refused.value.facts["prediction"] == predicts
    assert all(f"as {kind}" in refused.value.note for kind in Prediction)


def test_random_weights_decide_nothing(tiny, tiny_v):
    for base in (tiny, tiny_v):
        found = check(base)
        assert found.found is None
        refuse_contradiction(base, found)
