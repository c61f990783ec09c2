"""Rules of cached masks: they are read completely or not at all."""

from __future__ import annotations

import torch

from cnsctl.engine.training_state import masks_from_bytes, masks_to_bytes

SHAPES = {"k": (3, 5), "v": (4, 9)}


def test_masks_are_read_as_written():
    masks = {site: torch.rand(shape) > 0.5 for site, shape in SHAPES.items()}
    back = masks_from_bytes(masks_to_bytes(masks), shapes=SHAPES)
    assert back is not None
    assert all((back[site] == masks[site]).all() for site in SHAPES)


def test_damaged_masks_and_masks_of_another_base_model_are_refused():
    """A mask with one wrong byte would silently change the selection in every later training run."""
    data = masks_to_bytes({site: torch.ones(shape, dtype=torch.bool) for site, shape in SHAPES.items()})
    for at in range(len(data)):
        assert masks_from_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], shapes=SHAPES) is None, at
    assert masks_from_bytes(data[:-1], shapes=SHAPES) is None
    assert masks_from_bytes(data, shapes={**SHAPES, "v": (4, 19)}) is None
