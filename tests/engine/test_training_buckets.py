"""Training on images of several shapes, and with masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_samples import concept_of, job, overlay, prompt, same_delta, states, trained

from cnsctl.api import Run
from cnsctl.concept import Frame, Mention, Mode
from cnsctl.engine import train, training_state
from cnsctl.engine.denoising_error import denoising_error
from cnsctl.engine.trainer import Trainer

SHAPES = [(16, 16), (20, 12), (16, 16), (12, 20), (16, 16), (20, 12)]
"""Three buckets, of 3, 2 and 1 images."""


def mixed(base, **settings):
    """A job on images of these shapes."""
    random = torch.Generator().manual_seed(5)
    asked = job(base, **{"steps": 4, **settings})
    latents = [torch.randn((4, *shape), generator=random) for shape in SHAPES]
    return replace(asked, latents=latents, texts=[asked.texts[0]] * len(SHAPES))


def seen(base, a_job, steps: int) -> list[list[int]]:
    """The images of each step."""
    trainer = Trainer(base, a_job)
    found: list[list[int]] = []
    loss = trainer._loss

    def noting(answer, target, rows):
        found.append(rows)
        return loss(answer, target, rows)

    trainer._loss = noting
    trainer._update = lambda: None
    for _ in range(steps):
        trainer.step()
    return found


def test_a_step_sees_images_of_one_shape_and_each_image_is_seen_equally_often(tiny):
    batches = seen(tiny, mixed(tiny, batch_size=2, steps=48), 48)
    assert all(len({SHAPES[i] for i in batch}) == 1 for batch in batches)
    counts = np.bincount([i for batch in batches for i in batch], minlength=len(SHAPES))
    assert counts.sum() == 96
    of_bucket = [sum(counts[i] for i, s in enumerate(SHAPES) if s == shape) for shape in dict.fromkeys(SHAPES)]
    assert np.abs(np.array(of_bucket) - [48, 32, 16]).max() <= 4


def test_images_of_one_shape_are_trained_as_one_batch_of_them(tiny):
    """A list of latents, which buckets need, changes nothing: the delta is that of one tensor, bit for bit."""
    together = job(tiny)
    assert isinstance(together.latents, torch.Tensor)
    assert same_delta(
        trained(tiny, together).delta, trained(tiny, replace(together, latents=list(together.latents))).delta
    )


def test_a_run_on_several_shapes_resumes_bit_identically(tiny):
    a_job = mixed(tiny)
    whole = trained(tiny, a_job)
    for state in states(tiny, a_job, [1, 3]):
        assert same_delta(Run(train.train(tiny, a_job, resume=state)).result().delta, whole.delta)


def test_the_denoising_error_is_the_mean_over_images_of_any_shape(tiny):
    a_job = mixed(tiny)
    learned = overlay(Mode.PROMPT, rex=concept_of(tiny, trained(tiny, a_job).delta))
    rex = prompt("a ", Mention(name="rex"))
    assert denoising_error(tiny, learned, rex, a_job.latents) > 0
    same = denoising_error(tiny, learned, rex, a_job.latents[:1])
    assert same == denoising_error(tiny, learned, rex, a_job.latents[0][None])


def test_latents_of_several_shapes_are_read_as_they_were_written():
    latents = [torch.randn((4, *shape)) for shape in SHAPES] * 3
    data = training_state.latents_to_bytes(latents, key="k")
    back = training_state.latents_from_bytes(data, key="k")
    assert all(torch.equal(a, b) for a, b in zip(latents, back, strict=True))
    assert training_state.latents_from_bytes(data, key="other") is None
    assert training_state.latents_from_bytes(data[:-1], key="k") is None


# masks


def half(shape=(16, 16)):
    mask = torch.zeros(shape)
    mask[:, : shape[1] // 2] = 1
    return mask


def test_only_what_the_mask_keeps_enters_the_loss(tiny):
    trainer = Trainer(tiny, replace(job(tiny), masks=[half(), None, half()]))
    target = torch.zeros((2, 4, 16, 16))
    wrong_inside, wrong_outside = target.clone(), target.clone()
    wrong_inside[:, :, :, :8] = 1
    wrong_outside[:, :, :, 8:] = 1
    assert float(trainer._loss(wrong_outside, target, [0, 2])) == 0
    assert float(trainer._loss(wrong_inside, target, [0, 2])) == 1  # the mean over what is kept
    assert float(trainer._loss(wrong_outside, target, [1, 1])) == 0.5  # trained whole
    assert float(trainer._loss(wrong_inside, target, [0, 1])) == 0.75


def test_a_white_mask_weighs_as_none():
    mask, found, target = torch.ones((16, 16)), torch.randn((2, 4, 16, 16)), torch.randn((2, 4, 16, 16))

    class Asked:
        job = type("Job", (), {"masks": [mask, mask]})

    torch.testing.assert_close(Trainer._loss(Asked, found, target, [0, 1]), torch.nn.functional.mse_loss(found, target))


def test_masks_shapes_and_frames_belong_to_the_job(tiny):
    plain = job(tiny)
    frame = Frame(original=(40, 30), target=(32, 24))
    others = [
        plain,
        replace(plain, masks=[half(), None, None]),
        replace(plain, masks=[None, half(), None]),
        replace(plain, masks=[half().T.contiguous(), None, None]),
        replace(plain, frames=[frame] * 3),
        replace(plain, latents=[latent.reshape(4, 8, 32) for latent in plain.latents]),
    ]
    assert len({train.hash_of(tiny, other) for other in others}) == len(others)


@pytest.mark.parametrize("masks", [[], [None, None, None]])
def test_without_masks_the_delta_is_the_same_bit_for_bit(tiny, masks):
    plain = job(tiny, steps=3)
    assert same_delta(trained(tiny, plain).delta, trained(tiny, replace(plain, masks=masks)).delta)
