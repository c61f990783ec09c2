"""Rules of interrupted training: the state is that of the last complete step, and a resumed run loses nothing."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from engine_samples import job, same_delta, states, trained

import cnsctl
from cnsctl.api import Run
from cnsctl.concept import Mode
from cnsctl.data.prompt_templates import training_texts
from cnsctl.engine import train
from cnsctl.engine.checkpoint import Checkpoint
from cnsctl.engine.trainer import Trainer
from cnsctl.events import TRAIN_NEURONS, Selected

ENGINE = str(Path(cnsctl.__file__).parent / "engine")


@pytest.mark.parametrize(("mode", "vectors"), [(Mode.TOKEN, 1), (Mode.TOKEN, 2), (Mode.PROMPT, 2), (Mode.MERGED, 1)])
def test_a_run_stopped_at_any_step_ends_bit_identical_to_an_uninterrupted_one(tiny, mode, vectors):
    """In the token phase, at the change of phases, in the neurons, after the last step."""
    a_job = job(tiny, steps=4, warmup=0.5, mode=mode, token_embeddings=vectors)
    whole = trained(tiny, a_job)
    stops = range(1, 5)
    for step, state in zip(stops, states(tiny, a_job, stops), strict=True):
        checkpoint = Checkpoint()
        last = Run(train.train(tiny, a_job, resume=state, checkpoint=checkpoint)).result()
        assert same_delta(last.delta, whole.delta), step
        assert last.final_loss == whole.final_loss, step


def test_a_run_stopped_before_and_after_the_score_ends_bit_identical(tiny):
    a_job = job(tiny, steps=6, warmup=0.5)
    whole = trained(tiny, a_job).delta
    for n_events_after in (0, 1):
        checkpoint = Checkpoint()
        events = train.train(tiny, a_job, checkpoint=checkpoint)
        next(e for e in events if isinstance(e, Selected))
        for _ in range(n_events_after):
            next(events)
        events.close()
        assert checkpoint.step == 3
        state = checkpoint.to_bytes()
        assert state is not None
        assert (b"mask." in state) == (n_events_after == 1), "after the score, the mask is kept too"
        last = Run(train.train(tiny, a_job, resume=state)).result()
        assert same_delta(last.delta, whole)


def test_before_the_first_step_the_checkpoint_is_empty(tiny):
    checkpoint = Checkpoint()
    events = train.train(tiny, job(tiny), checkpoint=checkpoint)
    next(events)
    assert (checkpoint.step, checkpoint.to_bytes()) == (None, None)


class Interrupt:
    """Raises KeyboardInterrupt at the n-th executed line of the engine."""

    def __init__(self, n: int) -> None:
        self.left, self.fired = n, False

    def __call__(self, frame, event, _arg):
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.fired = True
                raise KeyboardInterrupt
        return self


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_a_step_leaves_the_state_before_it_or_after_it(tiny):
    """Also inside the optimizers and while the state is copied."""
    a_job = job(tiny, steps=6, warmup=0.5, batch_size=1)
    small = a_job.latents[..., ::2, ::2].contiguous()
    a_job = replace(a_job, latents=small, texts=[training_texts("rex")[:2]] * 3)
    before, after = states(tiny, a_job, [4, 5])
    found = []
    for n in range(1, 10_000):
        checkpoint, trace = Checkpoint(), Interrupt(n)
        events = train.train(tiny, a_job, resume=before, checkpoint=checkpoint)
        while getattr(event := next(events), "name", None) != TRAIN_NEURONS:
            pass
        sys.settrace(trace)
        try:
            with suppress(KeyboardInterrupt):
                event = next(events)
        finally:
            sys.settrace(None)
        if not trace.fired:
            break
        state = checkpoint.to_bytes()
        assert state in (before, after), n
        found.append(state == after)
    assert found == sorted(found), "one moment, before which it is the old state and after which it is the new one"
    assert found.count(False) > 30
    assert found.count(True) >= 1
    assert event.step == 2


@pytest.mark.parametrize("torn", ["vectors", "values"])
def test_a_step_that_fails_between_two_optimizers_is_done_again(tiny, monkeypatch, torn):
    a_job = job(tiny, steps=6, warmup=0.5)
    whole = trained(tiny, a_job).delta
    honest = Trainer.step

    def failing(self):
        if self.done == 4:
            optimizer = next(iter(self.vector_optimizers.values())) if torn == "vectors" else self.value_optimizer
            honest_step = optimizer.step

            def step_and_fail():
                honest_step()
                raise MemoryError

            optimizer.step = step_and_fail
        return honest(self)

    checkpoint = Checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing)
        with pytest.raises(MemoryError):
            list(train.train(tiny, a_job, checkpoint=checkpoint))
    assert checkpoint.step == 4
    last = Run(train.train(tiny, a_job, resume=checkpoint.to_bytes())).result()
    assert same_delta(last.delta, whole)
