"""Rules of training states and cached masks: they are read completely or not at all."""

from __future__ import annotations

import pytest
import torch

from cnsctl.engine.training_state import (
    DamagedState,
    TrainState,
    is_intact,
    masks_from_bytes,
    masks_to_bytes,
    state_from_bytes,
    state_to_bytes,
)

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


def state():
    return TrainState(
        step=3,
        parts={"steps": "10", "images": "ab" * 32},
        losses=(0.5, 0.25),
        tensors={"vectors.clip": torch.rand(2, 3), "mask.k": torch.arange(5)},
    )


def test_a_state_is_read_as_written():
    written = state()
    back = state_from_bytes(state_to_bytes(written))
    assert (back.step, back.losses, back.parts) == (written.step, written.losses, written.parts)
    assert all(torch.equal(back.tensors[name], written.tensors[name]) for name in written.tensors)


def test_promise_6_any_flipped_bit_of_a_state_is_refused_in_words():
    """One bit in the header would resume at another step, or read numbers as other numbers."""
    data = state_to_bytes(state())
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedState):
            state_from_bytes(bytes(changed))
        assert not is_intact(bytes(changed))
    for cut in range(len(data)):
        assert not is_intact(data[:cut])
    assert is_intact(data)


def test_a_state_is_a_safetensors_file_like_any_other():
    import safetensors.torch

    assert set(safetensors.torch.load(state_to_bytes(state()))) == {"vectors.clip", "mask.k"}
