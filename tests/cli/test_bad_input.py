"""Bad input: one clear message with a next step, and the store unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import at, cnsctl, tree
from PIL import Image


def truncated(folder) -> None:
    file = next(folder.glob("*.png"))
    file.write_bytes(file.read_bytes()[:-100])


def giant(folder) -> None:
    Image.fromarray(np.zeros((1, 17000), dtype=np.uint8)).save(folder / "big.png")


CASES = {
    "a missing folder": (["cat", "/no/such/folder"], None, 1, "/no/such/folder"),
    "an empty folder": (["cat", "{images}"], lambda f: [p.unlink() for p in f.glob("*.png")], 1, "images"),
    "a broken image": (["cat", "{images}"], lambda f: (f / "x.png").write_bytes(b"no png"), 1, "x.png"),
    "a truncated image": (["cat", "{images}"], truncated, 1, ".png'"),
    "a giant image": (["cat", "{images}"], giant, 1, "big.png"),
    "a name that is taken": (["dog", "{images}"], None, 1, "concept already exists: 'dog'"),
    "a name that is not allowed": (["../dog", "{images}"], None, 2, "../dog"),
    "no class word": (["zorblax", "{images}"], None, 2, "--class"),
    "an empty class word": (["zorblax", "{images}", "--class", " "], None, 2, "--class"),
    "a budget of zero": (["cat", "{images}", "--budget", 0], None, 2, "--budget"),
    "zero steps": (["cat", "{images}", "--steps", 0], None, 2, "--steps"),
    "a learning rate of zero": (["cat", "{images}", "--learning-rate", 0], None, 2, "--learning-rate"),
    "an unknown policy": (["cat", "{images}", "--policy", "greedy"], None, 2, "--policy"),
    "training in fp16": (["cat", "{images}", "--dtype", "fp16"], None, 2, "fp16"),
}


@pytest.mark.parametrize("case", CASES)
def test_add_refuses(stocked, images, case):
    args, damage, code, words = CASES[case]
    if damage is not None:
        damage(images)
    before = tree(stocked)
    done = cnsctl("add", *(str(a).format(images=images) for a in args), *at(stocked))
    assert done.code == code, done.err
    assert words in done.err
    assert "hint:" in done.err
    assert tree(stocked) == before


def test_a_missing_store_is_not_created(tmp_path):
    for line in (["ls"], ["show", "dog"], ["rm", "dog", "-y"], ["eval"], ["verify"], ["mv", "a", "b"]):
        done = cnsctl(*line, *at(tmp_path / "none"))
        assert done.code == 10, line
        assert "cnsctl init" in done.err
    assert not (tmp_path / "none").exists()


def test_a_missing_concept_is_refused_and_the_nearest_name_suggested(stocked):
    before = tree(stocked)
    for line in (["show", "dgo"], ["rm", "dog", "dgo", "-y"], ["eval", "dgo"], ["verify", "dgo"], ["mv", "dgo", "b"]):
        done = cnsctl(*line, *at(stocked))
        assert done.code == 4, line
        assert "did you mean dog" in done.err
    assert tree(stocked) == before


def test_the_new_name_must_differ_from_the_old_one(stocked):
    done = cnsctl("mv", "dog", "dog", *at(stocked))
    assert (done.code, "are the same" in done.err) == (2, True)


def test_rm_refuses_to_ask_if_stdin_is_not_a_terminal(stocked):
    done = cnsctl("rm", "dog", *at(stocked), stdin="y\n")
    assert done.code == 2
    assert "rm dog -y" in done.err
    assert cnsctl("ls", "-q", *at(stocked)).out.split() == ["dog", "hat"]


def test_a_missing_base_model_or_another_one_is_refused(tiny_folder, tiny_v_folder, tmp_path, images_of_two):
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", base, *store).code == 0
    shutil.rmtree(base)
    gone = cnsctl("gen", "x", *store)
    assert (gone.code, f"base model not found: {base}" in gone.err) == (1, True)
    shutil.copytree(tiny_v_folder, base)
    other = cnsctl("gen", "x", *store)
    assert (other.code, "another base model is at" in other.err) == (1, True)
    assert cnsctl("init", "--base", tmp_path / "nowhere", *at(tmp_path / "s2")).code == 1


def test_a_damaged_blob_is_found_before_it_is_used(stocked, tmp_path):
    delta = Path(cnsctl("show", "dog", "--json", *at(stocked)).json["delta"])
    data = bytearray(delta.read_bytes())
    data[len(data) // 2] ^= 1
    delta.chmod(0o644)
    delta.write_bytes(bytes(data))
    for line in (["gen", "<dog>", "-o", tmp_path / "x.png"], ["verify"]):
        done = cnsctl(*line, *at(stocked))
        assert done.code == 6, done.err
        assert "dog" in done.err
        assert "cnsctl check" in done.err
        assert "cnsctl rm" not in done.err, "the cause is not certain yet"
    assert cnsctl("gen", "<hat>", "-o", tmp_path / "y.png", *at(stocked)).code == 0


def test_every_damaged_concept_is_named_and_each_can_be_removed_alone(stocked):
    """One that cannot be read does not hide another, and does not stop a command about another."""
    for name in ("dog", "hat"):
        delta = Path(cnsctl("show", name, "--json", *at(stocked)).json["delta"])
        kept = delta.read_bytes()
        delta.chmod(0o644)
        delta.write_bytes(kept[:-9])
        if name == "dog":
            alone = cnsctl("eval", "hat", "--no-images", *at(stocked))
            assert alone.code == 0, alone.err
    found = cnsctl("verify", "--json", *at(stocked))
    assert (found.code, [row["forgotten"] for row in found.json["concepts"]]) == (6, [True, True])
    assert "cnsctl check" in json.loads(found.err)["hint"]
    for name in ("dog", "hat"):
        assert cnsctl("rm", name, "-y", *at(stocked)).code == 0


def test_a_caption_that_does_not_fit_is_named(empty, images, monkeypatch):
    (images / "1.txt").write_text("there is nothing " * 40 + "but a dog")
    late = cnsctl("add", "dog", images, "--class", "dog", *at(empty))
    assert (late.code, "caption of 1.png" in late.err, "<dog>" in late.err) == (1, True, True)
    (images / "1.txt").write_text("a dog and " + "nothing " * 40)
    cut = cnsctl("add", "dog", images, "--class", "dog", *at(empty))
    assert cut.code == 0, cut.err
    assert "1.png: the caption is too long for this base model; ignored: " in cut.err


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out-of-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), "out-of-memory"),
        (ZeroDivisionError("division by zero"), "internal"),
    ],
)
def test_an_unforeseen_failure_is_json_with_json_and_a_traceback_without(stocked, tmp_path, monkeypatch, err, code):
    from cnsctl.app import session

    def start(*_args, **_kwargs):
        raise err

    monkeypatch.setattr(session, "start", start)
    line = ["gen", "<dog>", "-o", tmp_path / "x.png", *at(stocked)]
    failed = cnsctl(*line, "--json")
    assert (failed.code, json.loads(failed.err)["code"]) == (1, code)
    if code == "out-of-memory":
        assert "--batch-size" in cnsctl(*line).err
    else:
        with pytest.raises(ZeroDivisionError):  # a traceback is what a bug report needs
            cnsctl(*line)


def test_a_base_model_inside_the_store_is_hashed_once_and_again_after_a_file_was_written(
    tiny_folder, tmp_path, monkeypatch
):
    from cnsctl.bases import hashing

    store = tmp_path / "store"
    cnsctl("init", "--base", tiny_folder, "--copy", *at(store))
    hashed, checked = [], hashing.checking_files
    monkeypatch.setattr(hashing, "checking_files", lambda folder, hashes: hashed.append(1) or checked(folder, hashes))
    gen = ("gen", "x", "-o", tmp_path / "x.png", "-f", *at(store))
    for _ in range(2):
        assert cnsctl(*gen).code == 0
    assert len(hashed) == 1
    (file,) = (store / "base/vae").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert cnsctl(*gen).code == 6


def test_a_changed_weight_of_a_copied_base_model_is_damage_and_of_a_referenced_one_forgetting(
    tiny_folder, tmp_path, images_of_two
):
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tiny_folder, tmp_path / "base")

    def alter(folder) -> None:
        (file,) = (folder / "unet").glob("*.safetensors")
        tensors = load_file(file)
        tensors["conv_in.weight"].view(-1)[0] += 1
        save_file(tensors, file, metadata={"format": "pt"})

    inside, outside = tmp_path / "inside", tmp_path / "outside"
    cnsctl("init", "--base", base, "--copy", *at(inside))
    cnsctl("init", "--base", base, *at(outside))
    for store in (inside, outside):
        assert cnsctl("add", "dog", images_of_two / "dog", "--steps", 3, "--no-measure", *at(store)).code == 0
        assert cnsctl("verify", *at(store)).code == 0
    alter(base)
    alter(inside / "base")
    assert cnsctl("verify", *at(inside)).code == 6
    found = cnsctl("verify", "--json", *at(outside))
    assert found.code == 7
    assert found.json["concepts"][0]["forgotten"]


def test_a_newer_store_asks_for_an_upgrade(stocked):
    for name in ("store.json", "store.json.bak"):
        file = stocked / name
        file.chmod(0o644)
        file.write_text(json.dumps({**json.loads(file.read_text()), "format": 4}))
    done = cnsctl("ls", *at(stocked))
    assert done.code == 1
    assert "newer cnsctl" in done.err


def test_the_message_about_a_locked_store_names_the_process(stocked, images_of_two):
    from cnsctl.store import Store

    with Store.open(stocked).work.reserve("cat"):
        done = cnsctl("add", "cat", images_of_two / "dog", *at(stocked))
    assert done.code == 5
    assert str(os.getpid()) in done.err


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_reported_before_training_and_while_generating(small_disk, stocked, images_of_two):
    store = small_disk / "store"
    shutil.copytree(stocked, store)
    before = tree(store)
    refused = cnsctl("add", "cat", images_of_two / "dog", *at(store))
    assert refused.code == 1
    assert "MB free" in refused.err
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(b"x" * 65536)
    full = cnsctl("gen", "<dog>", "-n", 40, "-o", small_disk / "out", *at(store))
    assert full.code == 1
    assert "full" in full.err
    assert tree(store) == before
    assert not [p for p in small_disk.rglob("*.png") if not p.read_bytes().endswith(b"IEND\xaeB`\x82")]
