"""Runs and sessions: stopped and continued, closed, and what goes wrong in words."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import weakref

import numpy as np
import pytest
import torch
from commands import tree
from PIL import Image

import cnsctl
from cnsctl import Run, create_store, errors, events, open_store
from cnsctl.cli.main import OFFLINE


@pytest.fixture(scope="module")
def session(tiny_folder, images_of_two, tmp_path_factory):
    """A session of a store with the concept `dog`, for tests that do not change it."""
    store = create_store(tmp_path_factory.mktemp("runs") / "store", base=tiny_folder)
    with store.load() as opened:
        opened.train("dog", images_of_two / "dog", measure=False).result()
        yield opened


@pytest.fixture
def store(empty):
    return open_store(empty)


STEPS = 10
"""Of the tiny base's settings."""


def of_training(event) -> bool:
    return isinstance(event, events.Step) and event.phase.startswith("train ")


def after(run: Run, step: int) -> None:
    """Let it train as far as this step."""
    n = 0
    for event in run:
        n += of_training(event)
        if n == step:
            return
    raise AssertionError("it ended before")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("step", [1, 4])
def test_a_closed_run_continues_to_the_same_bytes(store, session, images_of_two, step):
    with store.load() as opened:
        after(run := opened.train("dog", images_of_two / "dog"), step)
        run.close()
        assert store.list().unfinished == ("dog",)
        with pytest.raises(errors.UsageError, match="stopped before its end"):
            run.result()
        again = opened.train("dog", images_of_two / "dog")
        assert sum(of_training(event) for event in again) == STEPS - step
        assert again.result() is again.result()
    whole = session._open().store.concepts()[0]
    assert open_store(store.path).show("dog").delta.endswith(whole["delta"])
    assert store.list().unfinished == ()


def test_the_end_of_a_with_block_keeps_the_training_state(store, images_of_two):
    with store.load() as opened, opened.train("dog", images_of_two / "dog") as run:
        after(run, 3)
    assert store.list().unfinished == ("dog",)
    assert store.remove("dog", unfinished=True).discarded == ("dog",)


@pytest.mark.usefixtures("unmeasured")
def test_a_loop_that_was_left_early_continues_with_result(store, images_of_two):
    with store.load() as opened:
        run = opened.train("dog", images_of_two / "dog")
        after(run, 3)
        assert run.result().concept.name == "dog"
        assert list(run) == []


def test_nothing_happens_before_a_run_is_asked(store, session, images_of_two):
    before = tree(store.path)
    run = session.train("hat", "no such folder", learning_rate="fast")
    assert tree(store.path) == before
    with pytest.raises(errors.InvalidSettingError):
        next(run)
    with pytest.raises(errors.UsageError, match="stopped before its end"):
        run.result()


def test_a_warning_of_a_run_is_a_python_warning():
    def work():
        yield events.Warn(text="the disk is slow")
        return 7

    with pytest.warns(cnsctl.CnsctlWarning, match="the disk is slow") as caught:
        assert Run(work()).result() == 7
    assert caught[0].filename == __file__


def test_a_warning_while_generating_is_a_python_warning(session):
    with pytest.warns(cnsctl.CnsctlWarning, match="the prompt is too long"):
        session.generate("a very " * 40, steps=1)


def test_a_closed_session_says_so(empty, images_of_two):
    with open_store(empty).load() as opened:
        assert repr(opened) == "Session(device='cpu', dtype='fp32')"
    opened.close()
    assert repr(opened) == "Session(closed)"
    for call in (
        lambda: opened.train("dog", images_of_two),
        lambda: opened.score("dog", images_of_two),
        lambda: opened.generate("a dog"),
        lambda: next(opened.generate_many(["a dog"])),
        opened.verify,
        opened.evaluate,
        opened.__enter__,
    ):
        with pytest.raises(errors.UsageError, match="the session is closed") as caught:
            call()
        assert caught.value.hint == "load the store again"


@pytest.mark.usefixtures("really_loaded")
def test_closing_a_session_frees_the_base_model(empty):
    opened = open_store(empty).load()
    base = weakref.ref(opened._open().base)
    opened.close()
    gc.collect()
    assert base() is None


def test_a_session_in_half_precision_refuses_to_train(session, images_of_two):
    half = cnsctl.Session(dataclasses.replace(session._open(), dtype="fp16"))
    for run in (half.train("hat", images_of_two / "hat"), half.score("hat", images_of_two / "hat")):
        with pytest.raises(errors.UsageError, match="cannot train in fp16"):
            run.result()


def test_an_image_says_how_it_was_made(session, tmp_path):
    image = session.generate("<dog> on a beach", guidance_scale=1.5)
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    facts = json.loads(image.info["cnsctl"])
    assert facts["prompt"] == "<dog> on a beach"
    assert facts["settings"]["guidance_scale"] == 1.5
    again = session.generate("<dog> on a beach", guidance_scale=1.5, seed=facts["seed"])
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


def test_the_seed_is_random_by_default(session):
    first, second = (json.loads(session.generate("a dog", steps=1).info["cnsctl"])["seed"] for _ in range(2))
    assert first != second


def test_one_prompt_needs_no_list_and_images_come_one_by_one(session):
    images = session.generate_many("a dog", count=3, seed=1, steps=1)
    assert json.loads(next(images).info["cnsctl"])["seed"] == 1
    assert len(list(images)) == 2


def test_an_unknown_setting_is_refused_with_its_name_and_what_is_allowed(session, images_of_two):
    for call in (
        lambda: session.generate("a dog", guidence_scale=3),
        lambda: session.generate("a dog", count=3),
        lambda: session.train("hat", images_of_two / "hat", learning_rte=1.0).result(),
    ):
        with pytest.raises(errors.InvalidSettingError, match="unknown setting"):
            call()
    with pytest.raises(errors.InvalidSettingError) as caught:
        session.generate("a dog", width=33)
    err = caught.value
    assert (err.name, err.value, err.allowed) == ("width", 33, "32 to 4,096, a multiple of 8")
    assert (err.code, err.reason) == ("invalid-setting", "setting")
    assert err.facts == {"name": "width", "value": 33, "near": []}


def test_errors_carry_code_reason_and_facts(session, tmp_path, images_of_two):
    with pytest.raises(errors.ConceptNotFoundError) as missing:
        session.generate("<dgo> on a beach")
    assert (missing.value.code, missing.value.reason) == ("concept-not-found", "concept-missing")
    assert missing.value.facts["near"] == ["<dog>"]
    with pytest.raises(errors.NameTakenError) as taken:
        session.train("dog", images_of_two / "dog").result()
    assert taken.value.facts == {"name": "dog"}
    with pytest.raises(errors.StoreNotFoundError) as gone:
        open_store(tmp_path / "nowhere")
    assert gone.value.code == "store-not-found"
    with pytest.raises(errors.InvalidSettingError) as mode:
        create_store(tmp_path / "new", mode="tokens")
    assert mode.value.allowed == "token, prompt, merged"
    with pytest.raises(errors.UsageError, match="no name"):
        open_store(session._open().store.path).remove()
    for err in (missing, taken, gone, mode):
        assert isinstance(err.value, cnsctl.CnsctlError)
        assert "--" not in (err.value.hint or "")


def test_an_unknown_device_or_dtype_is_refused(empty):
    for settings in ({"device": "gpu"}, {"dtype": "fp8"}):
        with pytest.raises(errors.InvalidSettingError):
            open_store(empty).load(**settings)


@pytest.mark.usefixtures("unmeasured")
def test_a_run_works_step_by_step_in_other_threads(store, session, images_of_two):
    """As a web server does it; signals are the main thread's."""
    from concurrent.futures import ThreadPoolExecutor

    with store.load() as opened:
        run = opened.train("dog", images_of_two / "dog")
        while True:
            with ThreadPoolExecutor(1) as one:
                if one.submit(next, run, None).result() is None:
                    break
        assert run.result().concept.name == "dog"
    assert store.show("dog").delta.endswith(session._open().store.concepts()[0]["delta"])


def test_the_torch_of_the_caller_stays_as_it_was(session, images_of_two):
    """Between events and afterwards: gradients, default dtype, threads, and the global random numbers."""

    def state():
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
        return *flags, torch.get_num_threads(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = state()
    for _ in session.score("hat", images_of_two / "hat"):
        assert state() == before
    for _ in session.generate_many("<dog>", count=2, seed=1, steps=2):
        assert state() == before
    session.verify()
    session.evaluate()
    assert state() == before


def test_loading_leaves_the_environment_of_the_process_as_it_was(empty, monkeypatch):
    """Another library of the same program may need the network."""
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    open_store(empty).load().close()
    assert dict(os.environ) == before
