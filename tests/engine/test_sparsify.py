"""Fitting the largest part of a dense change: never worse than not fitting it, and always finite in fp16."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cnsctl.engine.sparsify import Sparse, sparsifying
from cnsctl.events import result_of

X = torch.tensor([[1.1, 1.1, 1.0, 1.0]])
"""Features of one token: of equal changes, those of the first two columns have the highest scores."""


def sparse(change: list[list[float]], unseen: torch.Tensor) -> Sparse:
    """Half of the weights, changed from 0."""
    dense = np.array(change, np.float32)
    base = SimpleNamespace(sites={"s": torch.zeros(dense.shape)})
    return result_of(
        sparsifying(base, {"s": lambda: dense}, differences=True, budget=0.5, fitted=X, unseen=unseen)  # type: ignore[arg-type]
    )


def test_the_kept_changes_make_up_for_those_that_are_left_out():
    found = sparse([[1, 1, 1, 1]], X)
    assert found.indices["s"].tolist() == [0, 1]
    assert found.values["s"] == pytest.approx([4.2 / 2.2] * 2, rel=1e-2)
    assert found.error == pytest.approx(0, abs=1e-2)


def test_a_row_whose_fit_is_too_large_for_fp16_keeps_its_changes_uncorrected():
    found = sparse([[5e4, 5e4, 5e4, 5e4], [1, 1, 1, 1]], X)
    assert found.indices["s"].tolist() == [0, 1, 4, 5]
    assert found.values["s"][:2].tolist() == [np.float16(5e4)] * 2
    assert found.values["s"][2:] == pytest.approx([4.2 / 2.2] * 2, rel=1e-2)


def test_a_fit_that_is_worse_on_other_prompts_is_not_used():
    found = sparse([[1, 1, 1, 1]], torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert found.values["s"].tolist() == [1, 1]
    assert found.error == 0
