"""What was learned or drawn survives kills, signals and full disks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from workshop import losses, run

from pocket.training import models, recipes
from pocket.training.render import captions, render, scenes
from pocket.training.work import Work, read_notes, read_state, replace_folder, write_state

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


def endless(work: Path, *, save_s: float) -> warm.Started:
    """A process that trains the denoiser until it is told to stop, and saves its state so often."""
    return warm.start(_endless, save_s, "train", "unet", "--work", work, "--tiny", "--threads", 1)


def _endless(save_s: float, *command: object) -> None:
    tiny = recipes.tiny
    recipes.tiny = lambda recipe, steps: replace(tiny(recipe, steps=10**9), save_s=save_s)
    warm.module("pocket", *command)


def step_on_disk(work: Path) -> int:
    state = work / models.UNET_STATE
    return int(read_notes(state)["step"]) if state.is_file() else 0


def wait_for(done: Callable[[], bool], process: warm.Started) -> None:
    while process.poll() is None and not done():
        time.sleep(0.02)
    assert process.poll() is None


def test_a_killed_stage_goes_on_from_its_last_state(work):
    """SIGKILL in the middle of training: the state on disk is whole, and the next run continues its counts."""
    state = work / models.UNET_STATE
    process = endless(work, save_s=0.0)
    try:
        wait_for(lambda: step_on_disk(work) >= 3, process)
    finally:
        process.end()
    tensors, notes = read_state(state)
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    run(work, "unet", tiny_steps=2)
    after = read_notes(state)
    assert after["step"] == notes["step"] + 2
    assert after["seen"] == notes["seen"] + 2 * 8


def test_a_training_that_is_told_to_end_writes_what_it_has_learned(work):
    """SIGTERM, long before a state is due."""
    before, told = step_on_disk(work), len(losses(work, "unet"))
    process = endless(work, save_s=1e9)
    try:
        wait_for(lambda: len(losses(work, "unet")) >= told + 3, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.end()
    assert step_on_disk(work) >= before + 3


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    write_state(path, {"a": torch.zeros(3)}, {"step": 1})

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_state(path, {"a": torch.ones(3)}, {"step": 2})
    tensors, notes = read_state(path)
    assert (tensors["a"].tolist(), notes) == ([0, 0, 0], {"step": 1})


def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path):
    folder = tmp_path / "weights"
    replace_folder(folder, lambda new: (new.mkdir(), (new / "a").write_text("old")))

    def broken(new):
        new.mkdir()
        (new / "a").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        replace_folder(folder, broken)
    assert (folder / "a").read_text() == "old"


def test_an_unfinished_set_of_scenes_is_finished_without_drawing_the_rest_again(tmp_path):
    work = Work(folder=tmp_path)
    stopped = render(work, n_scenes=200, seen=0, seed=1)
    next(stopped)
    stopped.close()
    assert not work.has("t.json")
    first = np.array(scenes(work)[:64])
    parts = sorted(path.stat().st_mtime_ns for path in work.path("t.parts").iterdir())
    assert len(parts) == 1
    events = list(render(work, n_scenes=200, seen=0, seed=2))
    assert len(events) == 3
    assert np.array_equal(scenes(work)[:64], first)
    whole = Work(folder=tmp_path / "whole")
    whole.folder.mkdir()
    list(render(whole, n_scenes=200, seen=0, seed=1))
    assert captions(work) == captions(whole)
    assert np.array_equal(scenes(work), scenes(whole))
