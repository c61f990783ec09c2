"""The main workflow through the command line, on base models of either prediction and in every mode."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import at, cnsctl, tree
from PIL import Image

from cnsctl.data.png import read_png_text
from cnsctl.data.prompt_templates import training_texts
from cnsctl.store import Store


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "base"), [("prompt", "tiny_v_folder"), ("token", "tiny_folder"), ("merged", "tiny_v_folder")]
)
def test_train_generate_list_evaluate_remove(request, base, mode, tmp_path, images_of_two):
    store, out = at(tmp_path / "store"), tmp_path / "out"
    assert cnsctl("init", "--base", request.getfixturevalue(base), "--mode", mode, *store).code == 0
    for name in ("dog", "hat"):
        line = ("add", name, images_of_two / name, "--steps", 4, "--token-embeddings", 2, "--allow-forgetting")
        done = cnsctl(*line, *store)
        assert done.code == 0, done.err
    generated = cnsctl("gen", "<dog> wearing <hat>", "@dog here", "a cat", "-n", 2, "--seed", 5, "-o", out, *store)
    assert generated.code == 0, generated.err
    names = ["_dog_-wearing-_hat_-5", "_dog_-wearing-_hat_-6", "_dog_-here-5", "_dog_-here-6", "a-cat-5", "a-cat-6"]
    assert generated.out.splitlines() == [str(out / f"{n}.png") for n in names]
    assert len({pixels(p).tobytes() for p in generated.out.splitlines()}) == 6
    listed = cnsctl("ls", "--json", *store).json
    assert [c["name"] for c in listed["concepts"]] == ["dog", "hat"]
    assert listed["mode"] == mode
    assert all(c["tokens"] == 2 for c in listed["concepts"])
    measured = cnsctl("eval", "--json", *store).json
    if mode != "merged":
        assert all(set(c["forgetting"].values()) <= {0.0, None} for c in measured["concepts"])
        assert (measured["drift"]["changed"], measured["drift"]["max_abs"]) == (0, 0)
        assert cnsctl("verify", *store).code == 0
    else:
        assert measured["drift"]["changed"] > 0
    assert cnsctl("rm", "dog", "-y", *store).code == 0
    assert cnsctl("ls", "-q", *store).out == "hat\n"


@pytest.mark.usefixtures("unmeasured")
def test_adding_and_removing_others_leaves_a_concepts_image_bit_identical(stocked, tmp_path, images_of_two):
    def generated(name: str) -> bytes:
        done = cnsctl("gen", "<dog> on a beach", "--seed", 3, "-o", tmp_path / f"{name}.png", *at(stocked))
        assert done.code == 0, done.err
        return pixels(done.out.strip()).tobytes()

    before = generated("before")
    assert cnsctl("rm", "hat", "-y", *at(stocked)).code == 0
    assert generated("without") == before
    assert cnsctl("add", "cat", images_of_two / "hat", "--steps", 3, *at(stocked)).code == 0
    assert generated("with") == before
    assert cnsctl("mv", "dog", "rex", *at(stocked)).code == 0
    done = cnsctl("gen", "<rex> on a beach", "--seed", 3, "-o", tmp_path / "rex.png", *at(stocked))
    assert pixels(done.out.strip()).tobytes() == before
    assert cnsctl("verify", *at(stocked)).code == 0


@pytest.mark.usefixtures("unmeasured")
def test_in_merged_removing_the_last_concept_restores_the_image_before_it(merged, tmp_path, images_of_two):
    store = at(merged)

    def generated(name: str) -> bytes:
        return pixels(cnsctl("gen", "a cat", "--seed", 3, "-o", tmp_path / name, *store).out.strip()).tobytes()

    before = generated("a.png")
    assert cnsctl("add", "hat", images_of_two / "hat", "--allow-forgetting", "--steps", 3, *store).code == 0
    assert generated("b.png") != before
    assert cnsctl("rm", "hat", "-y", *store).code == 0
    assert generated("c.png") == before


@pytest.mark.usefixtures("unmeasured")
def test_in_merged_a_concept_that_others_would_forget_by_is_refused_and_its_training_state_kept(
    merged, images_of_two, monkeypatch
):
    from cnsctl.app import train

    before = tree(merged)
    monkeypatch.setattr(train, "LOST_POINTS", -100.0)  # any change is too much
    args = ("add", "hat", images_of_two / "hat", *at(merged))
    refused = cnsctl(*args)
    assert refused.code == 8
    assert "<dog> lost" in refused.err
    assert tree(merged) == before
    allowed = cnsctl(*args, "--allow-forgetting")
    assert allowed.code == 0
    assert "training resumes after step" in allowed.err
    assert "warning: <dog> lost" in allowed.err


@pytest.mark.usefixtures("unmeasured")
def test_removing_from_the_middle_of_merged_names_what_it_touches(merged, images_of_two):
    assert cnsctl("add", "hat", images_of_two / "hat", "--allow-forgetting", "--steps", 3, *at(merged)).code == 0
    removed = cnsctl("rm", "dog", "-y", "--json", *at(merged)).json
    assert removed["touched"]["dog"]["hat"] > 0


@pytest.mark.usefixtures("unmeasured")
def test_the_same_training_run_gives_the_same_delta_byte_for_byte(tiny_folder, tmp_path, images_of_two):
    shas = []
    for run in ("a", "b"):
        store = tmp_path / run
        cnsctl("init", "--base", tiny_folder, *at(store))
        assert cnsctl("add", "dog", images_of_two / "dog", "--seed", 4, "--steps", 3, *at(store)).code == 0
        shas.append(cnsctl("show", "dog", "--json", *at(store)).json["delta"].rsplit("/", 1)[1])
    assert shas[0] == shas[1]


@pytest.mark.usefixtures("unmeasured")
def test_score_shows_the_mask_that_add_will_choose(empty, images_of_two):
    from cnsctl.app.score import mask_hash
    from cnsctl.store import Store

    before = tree(empty)
    scored = cnsctl("score", "dog", images_of_two / "dog", "--json", *at(empty))
    assert scored.code == 0, scored.err
    assert tree(empty) == before
    assert cnsctl("add", "dog", images_of_two / "dog", *at(empty)).code == 0
    store = Store.open(empty)
    assert mask_hash(store.delta(store.concept("dog")).indices) == scored.json["mask"]
    beside = cnsctl("score", "hat", images_of_two / "hat", "--class", "hat", "--json", *at(empty)).json
    assert beside["shared"] > beside["shared_random"] > 0
    assert sum(s["neurons"] for s in beside["sites"]) == beside["neurons"]


def test_an_image_file_contains_how_it_was_made(stocked, tmp_path):
    path = tmp_path / "p.png"
    assert cnsctl("gen", "a <dog:0.5>", "--negative-prompt", "<hat>", "--seed", 9, "-o", path, *at(stocked)).code == 0
    made = json.loads(read_png_text(path)["cnsctl"])
    assert (made["prompt"], made["negative_prompt"], made["seed"]) == ("a <dog:0.5>", "<hat>", 9)
    assert set(made["concepts"]) == {"dog", "hat"}
    assert made["base"]["fingerprint"] == cnsctl("ls", "--json", *at(stocked)).json["base"]["fingerprint"]


@pytest.mark.usefixtures("unmeasured")
def test_captions_beside_the_images_are_trained_with(empty, images, monkeypatch):
    from cnsctl.app import train

    jobs, honest = [], train.make_job

    def make_job(*args, **options):
        jobs.append((yield from honest(*args, **options)))
        return jobs[-1]

    monkeypatch.setattr(train, "make_job", make_job)
    (images / "0.txt").write_text("a <dog> in the snow")
    (images / "1.txt").write_text("the dog at night")
    assert cnsctl("add", "dog", images, "--steps", 3, *at(empty)).code == 0
    assert cnsctl("show", "dog", "--json", *at(empty)).json["captions"] == [
        "a <dog> in the snow", "the dog at night", None,
    ]  # fmt: skip
    assert [[p.text for p in prompts] for prompts in jobs[0].texts] == [
        ["a <dog> in the snow"], ["the <dog> at night"], [p.text for p in training_texts("dog")],
    ]  # fmt: skip


@pytest.mark.usefixtures("unmeasured")
def test_replace_trains_again_and_keeps_one(stocked, images_of_two):
    old = cnsctl("show", "dog", "--json", *at(stocked)).json
    done = cnsctl("add", "dog", images_of_two / "hat", "--replace", "--steps", 3, *at(stocked))
    assert done.code == 0, done.err
    new = cnsctl("show", "dog", "--json", *at(stocked)).json
    assert new["delta"] != old["delta"]
    assert sorted(cnsctl("ls", "-q", *at(stocked)).out.split()) == ["dog", "hat"]


@pytest.mark.usefixtures("unmeasured")
def test_a_store_with_a_copied_base_model_does_not_need_the_original(tiny_folder, tmp_path, images_of_two):
    import shutil

    base = shutil.copytree(tiny_folder, tmp_path / "base")
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", base, "--copy", *store).code == 0
    shutil.rmtree(base)
    assert cnsctl("add", "dog", images_of_two / "dog", "--steps", 3, *store).code == 0


@pytest.mark.usefixtures("unmeasured")
def test_a_concept_trained_in_bf16_is_proven_in_fp32(empty, images_of_two, tmp_path):
    """The proof is about the stored values, in whatever precision they were trained."""
    assert cnsctl("add", "dog", images_of_two / "dog", "--dtype", "bf16", "--steps", 3, *at(empty)).code == 0
    assert cnsctl("show", "dog", "--json", *at(empty)).json["recipe"]["dtype"] == "bfloat16"
    (row,) = cnsctl("verify", "--dtype", "fp32", "--json", *at(empty)).json["concepts"]
    assert (row["unchanged"], row["moved"]) == (True, 0)
    assert cnsctl("gen", "<dog>", "--dtype", "bf16", "-o", tmp_path / "x.png", *at(empty)).code == 0


def test_the_state_of_an_interrupted_add_can_be_deleted(stocked):
    with Store.open(stocked).work.reserve("cat") as work:
        (work / "state").write_bytes(b"half")
        held = cnsctl("rm", "dog", "cat", "-y", *at(stocked))
        assert (held.code, cnsctl("ls", "-q", *at(stocked)).out) == (5, "dog\nhat\n")
    listed = cnsctl("ls", *at(stocked))
    assert "cnsctl rm --unfinished cat" in listed.err
    assert cnsctl("ls", "--json", *at(stocked)).json["unfinished"] == ["cat"]
    assert cnsctl("rm", "dog", "cat", "-y", "-q", *at(stocked)).out == "dog\ncat\n"
    assert not work.exists()
    assert cnsctl("ls", "-q", *at(stocked)).out == "hat\n"
    assert cnsctl("rm", "cat", "-y", *at(stocked)).code == 4


def test_the_state_of_an_interrupted_replace_can_be_deleted_and_the_concept_stays(stocked):
    """After `add --replace` was interrupted, its name is that of a concept and of a training state."""
    with Store.open(stocked).work.reserve("dog") as work:
        (work / "state").write_bytes(b"half")
    deleted = cnsctl("rm", "--unfinished", "dog", "-y", "--json", *at(stocked)).json
    assert (deleted["removed"], deleted["discarded"], deleted["left"]) == ([], ["dog"], ["dog", "hat"])
    assert not work.exists()
    missing = cnsctl("rm", "--unfinished", "dog", "-y", *at(stocked))
    assert (missing.code, "no unfinished training run of 'dog'" in missing.err) == (4, True)
    with Store.open(stocked).work.reserve("dog") as work:
        (work / "state").write_bytes(b"half")
    both = cnsctl("rm", "dog", "-y", "--json", *at(stocked)).json
    assert (both["removed"], both["discarded"], both["left"]) == (["dog"], ["dog"], ["hat"])
    assert not work.exists()
