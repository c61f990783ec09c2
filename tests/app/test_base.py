"""Rules of `base`: what a store is built on, where that is, and the models that measure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import at, cnsctl, tree
from metric_folders import make_clip, make_dino
from safetensors.torch import load_file, save_file
from store_samples import manifest_of

from cnsctl import create_store, estimate_memory, open_store
from cnsctl.cli import tables
from cnsctl.errors import BaseModelError
from cnsctl.results import as_json

SMALL = ("--width", 32, "--height", 32, "--steps", 2, "--seed", 1, "-o", "-")


def plain(value):
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def image_of(store) -> bytes:
    """The pixels of an image, without the texts of its file, which contain the name of the base model."""
    from io import BytesIO

    from PIL import Image

    return Image.open(BytesIO(cnsctl("gen", "a cat", *SMALL, *at(store)).raw)).tobytes()


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    top = tmp_path_factory.mktemp("metrics")
    return make_clip(top / "clip"), make_dino(top / "dino")


def test_base_describes_a_store_without_loading_a_model(shared_store, tiny, tiny_folder):
    shown = cnsctl("base", "--json", *at(shared_store)).json
    assert shown["base"]["fingerprint"] == tiny.fingerprint
    assert shown["base"]["weights_denoiser"] == tiny.denoiser_weights
    assert (shown["sites"], shown["prediction"], shown["zero_snr"], shown["size"]) == (
        len(tiny.sites),
        "epsilon",
        False,
        32,
    )
    assert shown["budget"] == {"neurons": round(0.1 * shown["base"]["weights_kv"]), "share": 0.1}
    assert (shown["place"], shown["inside"], shown["found"]) == (str(tiny_folder), False, True)
    assert shown["bytes"] == sum(p.stat().st_size for p in tiny_folder.rglob("*") if p.is_file())
    assert (shown["clip"], shown["own_clip"], shown["judge"]) == (None, False, None)
    assert plain(as_json(open_store(shared_store).base())) == shown
    assert cnsctl("base", "-q", *at(shared_store)).out == f"{tiny_folder}\n"


def test_a_base_model_that_moved_is_found_again_and_another_one_is_refused(tiny_folder, tiny_v_folder, tmp_path):
    old, new, store = tmp_path / "old", tmp_path / "new", tmp_path / "store"
    shutil.copytree(tiny_folder, old)
    assert cnsctl("init", "--base", old, *at(store)).code == 0
    before = cnsctl("gen", "a cat", *SMALL, *at(store)).raw
    old.rename(new)
    lost = cnsctl("gen", "a cat", *SMALL, *at(store))
    assert lost.code == 1
    assert "cnsctl base --at" in lost.err
    described = cnsctl("base", "--json", *at(store)).json
    assert (described["found"], described["place"], described["prediction"]) == (False, str(old), None)
    content = (store / "store.json").read_bytes()
    for other in (tiny_v_folder, tmp_path / "nowhere", store):
        refused = cnsctl("base", "--at", other, *at(store))
        assert refused.code != 0
        assert (store / "store.json").read_bytes() == content
    assert cnsctl("base", "--at", new, *at(store)).code == 0
    assert cnsctl("gen", "a cat", *SMALL, *at(store)).raw == before
    assert open_store(store).base(at=new).place == str(new)


def test_a_base_model_inside_the_store_has_no_other_place(empty, tiny_folder, tmp_path):
    assert cnsctl("init", "--base", tiny_folder, "--copy", *at(tmp_path / "copied")).code == 0
    refused = cnsctl("base", "--at", tiny_folder, *at(tmp_path / "copied"))
    assert refused.code == 2
    assert "contains its base model" in refused.err
    assert cnsctl("base", "--json", *at(tmp_path / "copied")).json["inside"] is True


@pytest.mark.slow
def test_a_store_on_a_single_file_is_the_store_on_its_folder(single, tmp_path):
    """Not copied, copied, and after a move."""
    folder, file = single("sd15")
    moved = Path(shutil.copy(file, tmp_path / "here.safetensors"))
    assert cnsctl("init", "--base", folder, *at(tmp_path / "folder")).code == 0
    assert cnsctl("init", "--base", moved, *at(tmp_path / "file")).code == 0
    assert cnsctl("init", "--base", moved, "--copy", *at(tmp_path / "copy")).code == 0
    expected = image_of(tmp_path / "folder")
    record = manifest_of(tmp_path / "file")
    assert (record["base"]["kind"], record["base"]["path"]) == ("file", str(moved))
    assert not list((tmp_path / "file").rglob("*.safetensors"))
    moved.rename(tmp_path / "there.safetensors")
    assert image_of(tmp_path / "copy") == expected
    lost = cnsctl("gen", "a cat", *SMALL, *at(tmp_path / "file"))
    assert "cnsctl base --at" in lost.err
    assert cnsctl("base", "--at", tmp_path / "there.safetensors", *at(tmp_path / "file")).code == 0
    assert image_of(tmp_path / "file") == expected
    wrong = cnsctl("base", "--at", folder, *at(tmp_path / "file"))
    assert wrong.code == 2
    assert "not a folder" in wrong.err


@pytest.mark.slow
def test_a_changed_single_file_is_another_base_model(single, tmp_path):
    file = tmp_path / "x.safetensors"
    shutil.copy(single("sd15")[1], file)
    assert cnsctl("init", "--base", file, *at(tmp_path / "store")).code == 0
    weights = load_file(file)
    save_file({name: weight * 1.01 for name, weight in weights.items()}, file)
    done = cnsctl("gen", "a cat", *SMALL, *at(tmp_path / "store"))
    assert done.code == 1
    assert "another base model" in done.err
    refused = cnsctl("base", "--at", file, *at(tmp_path / "store"))
    assert "another base model" in refused.err


def test_the_prediction_of_the_user_is_recorded_and_used(single, tiny_folder, tmp_path):
    for name, base in (("file", single("sd15")[1]), ("folder", tiny_folder)):
        store = create_store(tmp_path / name, base=str(base), prediction="v_prediction")
        assert store.base().prediction == "v_prediction"
    plain_store = at(tmp_path / "plain")
    assert cnsctl("init", "--base", tiny_folder, *plain_store).code == 0
    with_v = cnsctl("gen", "a cat", *SMALL, *at(tmp_path / "folder")).raw
    assert with_v != cnsctl("gen", "a cat", *SMALL, *plain_store).raw
    wrong = cnsctl("init", "--base", tiny_folder, "--prediction", "flow", *at(tmp_path / "wrong"))
    assert wrong.code == 2
    assert "epsilon, v_prediction" in wrong.err


def test_a_store_contains_no_facts_that_its_owner_did_not_give(shared_store):
    record = manifest_of(shared_store)
    assert set(record) == {"mode", "created", "base"}
    assert not {"prediction", "origin", "checkpoint"} & set(record["base"])


def test_a_clip_and_a_second_backbone_measure_once_they_are_recorded(stocked, metrics):
    clip, dino = metrics
    content = tree(stocked)
    done = cnsctl("base", "--clip", clip, "--judge", dino, *at(stocked))
    assert done.code == 0, done.err
    assert {name for name, data in tree(stocked).items() if data != content.get(name)} == {
        "store.json",
        "store.json.bak",
    }
    with open_store(stocked).load() as session:
        result = session.evaluate("dog")
    (row,) = as_json(result)["concepts"]
    assert row["backbone"].startswith("clip-")
    assert all(-1 <= row[key] <= 1 for key in ("clip_i", "clip_i_class", "clip_i_real", "clip_t", "clip_t_class"))
    assert row["forgetting"]["clip_i"] is None  # it was trained without a CLIP
    assert row["judge"]["backbone"].startswith("dino-")
    assert all(-1 <= row["judge"][key] <= 1 for key in ("images", "images_class", "images_real"))
    assert any(line.startswith("second backbone: dino-") for line in tables.evaluated(result))


def test_scores_of_two_clips_are_not_subtracted(stocked, metrics, images_of_two, tmp_path):
    store = open_store(stocked)
    store.base(clip=metrics[0])
    done = cnsctl("add", "cat", images_of_two / "dog", "--class", "cat", "--steps", 3, *at(stocked))
    assert done.code == 0, done.err
    store.base(clip=make_clip(tmp_path / "other", seed=1))
    (row,) = cnsctl("eval", "cat", "--json", *at(stocked)).json["concepts"]
    assert row["trained"]["clip_i"] is not None
    assert row["clip_i"] is not None
    assert row["trained"]["backbone"] != row["backbone"]
    assert row["forgetting"]["clip_i"] is row["forgetting"]["clip_t"] is None


def test_a_metric_model_that_is_gone_or_another_one_is_refused(stocked, metrics, tmp_path):
    dino = Path(shutil.copytree(metrics[1], tmp_path / "dino"))
    assert cnsctl("base", "--judge", dino, *at(stocked)).code == 0
    dino.rename(tmp_path / "away")
    gone = cnsctl("eval", "dog", *at(stocked))
    assert gone.code == 1
    assert "--judge" in gone.err
    for given in (("--clip", metrics[1]), ("--clip", tmp_path / "none"), ("--judge", tmp_path)):
        content = (stocked / "store.json").read_bytes()
        assert cnsctl("base", *given, *at(stocked)).code == 1
        assert (stocked / "store.json").read_bytes() == content


def test_init_says_that_clip_scores_stay_empty(tiny_folder, metrics, tmp_path):
    without = cnsctl("init", "--base", tiny_folder, *at(tmp_path / "a"))
    assert "no image half" in without.err
    assert "cnsctl base --clip" in without.err
    assert "image half" not in cnsctl("init", "--base", tiny_folder, "--clip", metrics[0], *at(tmp_path / "b")).err


@pytest.mark.slow
def test_an_estimate_is_of_the_store_or_of_a_named_base_model(shared_store, tiny_folder, single, monkeypatch):
    from cnsctl.bases import memory_estimate

    stock, made = memory_estimate.estimating, {}

    def once(folder, *, dtype):  # each base model is followed once in this test
        key = (folder.name, dtype)
        if key not in made:
            made[key] = yield from stock(folder, dtype=dtype)
        return made[key]

    monkeypatch.setattr(memory_estimate, "estimating", once)
    of_store = cnsctl("base", "--estimate", "--json", *at(shared_store)).json
    of_folder = cnsctl("base", "--estimate", tiny_folder, "--json").json
    assert of_store == of_folder == plain(as_json(estimate_memory(tiny_folder)))
    assert plain(as_json(open_store(shared_store).estimate())) == of_store
    assert len(cnsctl("base", "--estimate", *at(shared_store)).out.splitlines()) == 5
    assert list(made) == [("tiny", "fp32")]
    cnsctl("base", "--estimate", single("sd15")[1], "--dtype", "bf16")
    assert list(made)[1:] == [("my sd15", "bf16")]


@pytest.mark.parametrize(
    "line", [("x",), ("--estimate", "--clip", "x"), ("--dtype", "bf16"), ("--estimate", "--at", "x")]
)
def test_options_that_do_not_belong_together_are_refused(shared_store, line):
    assert cnsctl("base", *line, *at(shared_store)).code == 2


@pytest.mark.parametrize("name", ["x.ckpt", "x.txt", "lora.safetensors"])
def test_files_that_are_not_checkpoints_are_refused_before_anything_is_written(tmp_path, name):
    import torch

    save_file({"a.lora_up.weight": torch.zeros(2, 2), "a.lora_down.weight": torch.zeros(2, 2)}, tmp_path / name)
    with pytest.raises(BaseModelError):
        create_store(tmp_path / "store", base=tmp_path / name)
    assert not (tmp_path / "store").exists()
