"""What `--memory auto` chooses, the batch that fits, and devices by number."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from commands import at, cnsctl

from cnsctl.app import run_memory
from cnsctl.bases import base_folder, devices, fitting, memory_choice, memory_estimate
from cnsctl.bases.memory_estimate import estimate
from cnsctl.engine.generate import fitting_batch
from cnsctl.errors import InvalidSettingError, UsageError
from cnsctl.settings import Memory, RequestSettings, checked

CPU = torch.device("cpu")


class Cache(dict):
    def cached(self, key):
        return self.get(key)

    def cache(self, key, data):
        self[key] = data


def choose(folder, free, monkeypatch, *, memory=Memory.AUTO, work="add", batch_size=2, cache=None):
    monkeypatch.setattr(memory_choice, "free_bytes", lambda _: free)
    return memory_choice.choose(
        base_folder.open_folder(folder), memory, device=CPU, dtype="fp32", work=work, batch_size=batch_size,
        cache=Cache() if cache is None else cache,
    )  # fmt: skip


def test_with_enough_memory_nothing_is_saved_and_nothing_is_estimated(tiny_folder, monkeypatch):
    monkeypatch.setattr(memory_choice, "estimate", None)
    assert choose(tiny_folder, 1 << 40, monkeypatch) == (Memory.AUTO, None)
    assert choose(tiny_folder, None, monkeypatch) == (Memory.AUTO, None)


@pytest.mark.slow
def test_auto_chooses_the_first_setting_that_fits_and_says_so(tiny_folder, monkeypatch):
    cache = Cache()
    monkeypatch.setattr(memory_choice, "SURELY", {"fp32": 1 << 20})
    monkeypatch.setattr(memory_estimate, "FIXED", 0)  # beside which a tiny base model is nothing
    rows = {row.memory: row for row in estimate(base_folder.open_folder(tiny_folder), dtype="fp32").memory}
    assert rows["auto"].add > rows["low"].add
    for name, free in (("auto", 1.2 * rows["auto"].add), ("low", 1.2 * rows["low"].add), ("lowest", 1)):
        plan, note = choose(tiny_folder, int(free), monkeypatch, cache=cache)
        assert plan is Memory(name)
        assert ("everything fits" in note) if name == "auto" else (f"chose {name}" in note)
    assert "may be too little" in note
    assert len(cache) == 1


@pytest.mark.parametrize("began", list(Memory))
def test_a_resumed_run_saves_what_it_saved_when_it_began(tiny_folder, monkeypatch, began):
    """Another setting would differ by rounding, whatever is free now. A user's own setting is not questioned."""
    monkeypatch.setattr(memory_choice, "free_bytes", lambda _: 1)
    options = {"device": CPU, "dtype": "fp32", "work": "add", "batch_size": 1, "cache": Cache(), "began": began}
    folder = base_folder.open_folder(tiny_folder)
    assert memory_choice.choose(folder, Memory.AUTO, **options)[0] is began
    assert memory_choice.choose(folder, Memory.LOW, **options) == (Memory.LOW, None)


def test_the_setting_is_kept_with_the_training_state(tmp_path):
    assert run_memory.began_with(tmp_path, "state") is None
    assert list(run_memory.keep(tmp_path, Memory.LOW, None)) == []
    assert run_memory.began_with(tmp_path, "state") is None  # the run has no state yet: it may begin in another way
    (tmp_path / "state").touch()
    began = run_memory.began_with(tmp_path, "state")
    assert began is Memory.LOW
    assert list(run_memory.keep(tmp_path, Memory.LOW, began)) == []
    (note,) = run_memory.keep(tmp_path, Memory.AUTO, began)
    assert "began with low" in note.text
    assert run_memory.began_with(tmp_path, "state") is Memory.LOW


def test_an_estimate_is_made_once_per_base_model(tiny_folder, monkeypatch):
    cache = Cache()
    first = choose(tiny_folder, 1, monkeypatch, cache=cache)
    monkeypatch.setattr(memory_choice, "estimate", None)
    assert choose(tiny_folder, 1, monkeypatch, cache=cache) == first


def test_the_weights_of_a_single_file_count(tiny_folder, tmp_path, monkeypatch):
    """The folder of a single file contains its configuration alone."""
    from dataclasses import replace

    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    folder = replace(base_folder.open_folder(tiny_folder), single_file=file)
    asked = []
    monkeypatch.setattr(memory_choice, "free_bytes", lambda _: 4 << 30)
    monkeypatch.setattr(memory_choice, "_estimated", lambda *_: asked.append(True))
    memory_choice.choose(folder, Memory.AUTO, device=CPU, dtype="fp32", work="add", batch_size=1, cache=Cache())
    assert asked


@pytest.mark.parametrize("memory", [Memory.LOW, Memory.LOWEST])
def test_a_setting_of_the_user_is_not_questioned(tiny_folder, monkeypatch, memory):
    assert choose(tiny_folder, 1 << 40, monkeypatch, memory=memory) == (memory, None)


def test_free_memory_of_this_machine_is_known():
    assert memory_choice.free_bytes(CPU) > 1 << 20


@pytest.mark.parametrize("memory", ["low", "lowest"])
def test_the_command_line_saves_memory(stocked, tmp_path, memory):
    """The same image as without, up to rounding; on the tiny base model bit for bit or nearly so."""
    from PIL import Image

    pixels = []
    for setting in ("auto", memory):
        out = tmp_path / f"{setting}.png"
        done = cnsctl("gen", "<dog>", "--seed", 3, "-o", out, "--memory", setting, *at(stocked))
        assert done.code == 0, done.err
        pixels.append(torch.tensor(list(Image.open(out).tobytes())).float())
    assert float((pixels[0] - pixels[1]).abs().max()) <= 2


@pytest.mark.parametrize(("fits", "most", "found"), [(100, 16, 16), (5, 16, 4), (1, 16, 1), (0, 3, 1)])
def test_the_batch_is_halved_until_it_fits(fits, most, found):
    tried = []

    def attempt(batch):
        tried.append(batch)
        if batch > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB")

    assert fitting.halved(attempt, most) == found
    assert tried == [b for b in (most, most // 2, most // 4, most // 8) if b > 1][: len(tried)]


def test_another_error_is_not_hidden():
    def attempt(_batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        fitting.halved(attempt, 4)


def test_the_batch_of_an_image_is_tried_with_a_denoising_step(tiny, monkeypatch):
    sizes, predict = [], tiny.components.predict

    def full(noisy, *args):
        sizes.append(len(noisy))
        if len(noisy) > 6:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return predict(noisy, *args)

    components = SimpleNamespace(**{f: getattr(tiny.components, f) for f in tiny.components.__slots__})
    components.predict = full
    monkeypatch.setattr(tiny, "components", components)
    assert fitting_batch(tiny, tiny.generate_defaults, most=12) == 3
    assert sizes == [24, 12, 6]


def test_auto_is_a_batch_size_and_another_word_is_refused(stocked, tmp_path):
    assert checked(RequestSettings, {"batch_size": "auto"}) == {"batch_size": 0}
    with pytest.raises(InvalidSettingError, match="auto"):
        checked(RequestSettings, {"batch_size": "most"})
    done = cnsctl("gen", "<dog>", "-n", 2, "--batch-size", "auto", "-o", tmp_path, *at(stocked))
    assert done.code == 0, done.err
    assert "batch size 1" in done.err
    assert cnsctl("gen", "<dog>", "--batch-size", "many", "-o", tmp_path, *at(stocked)).code == 2


def test_a_device_by_number_is_checked_against_those_that_are_there(monkeypatch):
    with pytest.raises(UsageError, match="cuda:1"):  # this machine has none, or it is hidden
        devices.choose("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose("cuda:1", "fp32")[0] == torch.device("cuda:1")
    with pytest.raises(UsageError) as err:
        devices.choose("cuda:2", "fp32")
    assert err.value.note == "there are: cuda:0, cuda:1"
    for wrong in ("cuda:", "cuda:x", "cpu:1", "cuda:01"):
        with pytest.raises(InvalidSettingError):
            devices.choose(wrong)


def test_one_of_several_processes_takes_the_device_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.choose("auto", "fp32")[0] == torch.device("cuda:1")
