"""Rules of the check that a denoiser predicts what its configuration says."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import pytest
from commands import at, cnsctl

from cnsctl.bases.base_folder import POCKET
from cnsctl.bases.prediction_check import checking, measuring
from cnsctl.errors import BaseModelError
from cnsctl.events import result_of
from cnsctl.settings import Prediction


def saying(pocket, said: Prediction, *, by_owner: bool = False):
    """Pocket, whose configuration or whose owner says what it predicts."""
    base = copy.copy(pocket)
    base.schedule = copy.copy(pocket.schedule)
    base.schedule.prediction = said
    if by_owner:
        base.folder = replace(base.folder, prediction=said)
    return base


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
def test_a_configuration_that_contradicts_the_weights_is_refused_with_both_figures(pocket, said, predicts):
    base = saying(pocket, said)
    if predicts is Prediction.EPSILON:
        base = predicting_epsilon(base)
    assert result_of(measuring(base)).found is predicts
    if said is predicts:
        assert result_of(checking(base)) is None
        return
    with pytest.raises(BaseModelError, match=f"do not predict {said}") as refused:
        result_of(checking(base))
    assert refused.value.facts["prediction"] == predicts
    assert all(f"as {kind}" in refused.value.note for kind in Prediction)


def test_the_owners_word_counts_but_a_contradiction_is_printed(pocket):
    assert "seem to predict v_prediction" in result_of(checking(saying(pocket, Prediction.EPSILON, by_owner=True)))
    assert result_of(checking(saying(pocket, Prediction.V, by_owner=True))) is None


def test_random_weights_decide_nothing_and_that_is_printed(tiny, tiny_v):
    for base in (tiny, tiny_v):
        assert result_of(measuring(base)).found is None
        assert "cannot check" in result_of(checking(base))


def test_init_refuses_a_pocket_whose_scheduler_file_lost_its_prediction(tmp_path):
    folder = shutil.copytree(POCKET, tmp_path / "lost")
    file = folder / "scheduler" / "scheduler_config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if k != "prediction_type"}
    file.write_text(json.dumps(config))
    refused = cnsctl("init", "--base", folder, *at(tmp_path / "store"))
    assert refused.code == 1
    assert "do not predict epsilon" in refused.err
    assert "--prediction v_prediction" in refused.err
    assert not (tmp_path / "store").exists()
    done = cnsctl("init", "--base", folder, "--prediction", "v_prediction", *at(tmp_path / "store"))
    assert done.code == 0, done.err


def test_the_owners_word_is_kept_after_a_move(tmp_path):
    """A configuration that `init` accepted with --prediction is accepted by `base --at` too."""
    folder = shutil.copytree(POCKET, tmp_path / "lost")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "epsilon"}))
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", folder, "--prediction", "v_prediction", *store).code == 0
    moved = folder.rename(tmp_path / "moved")
    done = cnsctl("base", "--at", moved, *store)
    assert done.code == 0, done.err
    assert "predicts v" in done.out or "v_prediction" in done.out
