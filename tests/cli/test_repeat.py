"""Rules of `gen --like`, `--skip-existing`, `--compare` and `--sheet`, and of `info`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import at, cnsctl, tree
from PIL import Image

from cnsctl import info, open_store
from cnsctl.app import session as sessions
from cnsctl.app import sheets
from cnsctl.data.png import png_bytes, read_png_text
from cnsctl.events import result_of
from cnsctl.results import as_json
from cnsctl.store import Store

PIXELS = np.zeros((16, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def loaded(shared_store):
    """The base model, loaded once for all calls of this file."""
    return result_of(sessions.start(Store.open(shared_store), {"device": "cpu", "dtype": "fp32"}))


@pytest.fixture
def loads(loaded, monkeypatch):
    """The number of times that a call needed the base model, which is given to it."""
    import dataclasses

    seen = []

    def start(store, _compute, **_more):
        seen.append(store.path)
        yield 1.0
        return dataclasses.replace(loaded, store=store)

    monkeypatch.setattr(sessions, "start", start)
    return seen


@pytest.fixture
def here(tmp_path, monkeypatch, loads):
    """An empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def gen(store, *args, stdin="", code=0):
    done = cnsctl("gen", *args, *at(store), stdin=stdin)
    assert done.code == code, done.err
    return done


def made(path):
    return json.loads(read_png_text(Path(path))["cnsctl"])


def opened(path) -> tuple[np.ndarray, dict]:
    """Pixels and texts of a file."""
    with Image.open(path) as image:
        return np.asarray(image), dict(image.info)


def with_record(path, texts, **changes):
    """The same pixels with a changed record."""
    record = {**json.loads(texts["cnsctl"]), **changes}
    path.write_bytes(png_bytes(PIXELS, {"Software": "cnsctl 0.1.0", "cnsctl": json.dumps(record)}))
    return path


REQUEST = ("<dog> on a beach", "--steps", 2, "--seed", 7, "--negative-prompt", "<hat>", "--guidance-scale", 3,
           "--sampler", "DPM++ 2M Karras", "--size", "40x32")  # fmt: skip


def test_like_repeats_an_image_to_the_byte(shared_store, here):
    gen(shared_store, *REQUEST, "-o", "a.png")
    gen(shared_store, "--like", "a.png", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    with open_store(shared_store).load() as session:
        again = session.generate(like="a.png")
    assert again.info == opened("a.png")[1]
    np.testing.assert_array_equal(np.asarray(again), opened("a.png")[0])


def test_options_beside_like_replace_parts_of_the_request(shared_store, here):
    gen(shared_store, *REQUEST, "-o", "a.png")
    gen(shared_store, "<hat>", "--like", "a.png", "--seed", 5, "--sampler", "ddim", "--size", 32, "-o", "b.png")
    before, after = made("a.png"), made("b.png")
    assert (after["prompt"], after["seed"], after["settings"]["width"]) == ("<hat>", 5, 32)
    assert (after["settings"]["sampler"], after["settings"]["sigmas"]) == ("ddim", "default")  # Karras was of the other
    assert after["negative_prompt"] == before["negative_prompt"]
    assert after["settings"]["guidance_scale"] == before["settings"]["guidance_scale"]
    gen(shared_store, "--like", "a.png", "--negative-prompt", "", "-o", "c.png")
    assert made("c.png")["negative_prompt"] == ""


def test_like_without_output_takes_the_next_free_name(shared_store, here):
    first = gen(shared_store, "<dog>", "--steps", 1, "--seed", 1).out.strip()
    assert gen(shared_store, "--like", first).out == "_dog_-1-2.png\n"
    assert gen(shared_store, "--like", first, "-o", first, code=2)


def test_like_says_what_has_changed_since(shared_store, here):
    gen(shared_store, "<dog>", "--steps", 1, "--seed", 1, "-o", "a.png")
    texts = read_png_text(Path("a.png"))
    other = with_record(
        here / "b.png",
        texts,
        concepts={"dog": "0" * 64},
        base={"name": "another", "fingerprint": "1" * 64},
        mode="prompt",
        dtype="bf16",
        batch_size=4,
    )
    said = gen(shared_store, "--like", other, "--dtype", "fp32", "-o", "c.png").err
    assert "warning: the image was generated on another base model: another 111111111111" in said
    assert "warning: the image was generated in prompt mode; this store is in token mode" in said
    assert "warning: <dog> is another concept now" in said
    assert "dtype fp32, then bf16" in said
    assert "then in a batch of 4 images" in said
    assert not re.search("warning|differ", gen(shared_store, "--like", "a.png", "-o", "d.png").err)


@pytest.mark.parametrize("prompt", ["<dog> here", "@dog here"])
def test_like_refuses_an_image_whose_concept_is_missing_and_names_its_new_name(stocked, here, loads, prompt):
    """`@dog` would become a word."""
    gen(stocked, prompt, "--steps", 1, "-o", "a.png")
    loads.clear()
    assert cnsctl("mv", "dog", "rex", *at(stocked)).code == 0
    done = gen(stocked, "--like", "a.png", "-o", "b.png", code=4)
    assert "concept not found: 'dog'" in done.err
    assert "did you mean <rex>?" in done.err
    assert loads == []
    gen(stocked, "<rex> here", "--like", "a.png", "-o", "b.png")
    assert made("a.png")["concepts"]["dog"] == made("b.png")["concepts"]["rex"]
    np.testing.assert_array_equal(opened("a.png")[0], opened("b.png")[0])


def test_skip_existing_goes_on_and_loads_nothing_if_all_is_there(shared_store, here, loads):
    line = ("<dog> a", "a house", "--steps", 1, "--seed", 1, "-n", 2, "--skip-existing", "--sheet", "s.png")
    whole = gen(shared_store, *line)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert len(before) == 5
    Path("a-house-2.png").unlink()
    rest = gen(shared_store, *line)
    assert (rest.out, whole.out.count("\n")) == ("a-house-2.png\n", 4)
    assert "3 images existed already" in rest.err
    loads.clear()
    done = gen(shared_store, *line, "--json").lines[-1]
    assert (done["generated"], done["kept"], done["sheet"], loads) == (0, 4, "s.png", [])
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["--steps", 2], "steps 1, not 2"),
        (["--negative-prompt", "x"], "negative prompt ''"),
        (["--size", "40x32"], "width 32, not 40"),
        (["--dtype", "bfloat16"], "dtype fp32, not bf16"),
    ],
)
def test_skip_existing_refuses_a_file_that_another_request_made(shared_store, here, loads, changes, why):
    gen(shared_store, "<dog>", "--steps", 1, "--seed", 1)
    loads.clear()
    done = gen(shared_store, "<dog>", "--steps", 1, "--seed", 1, *changes, "--skip-existing", code=2)
    assert f"another request made it: {why}" in done.err
    assert loads == []


def test_skip_existing_refuses_a_concept_that_was_trained_again_and_a_foreign_file(shared_store, here):
    gen(shared_store, "<dog>", "--steps", 1, "--seed", 1)
    own = Path("_dog_-1.png")
    with_record(own, read_png_text(own), concepts={"dog": "0" * 64})
    line = ("<dog>", "--steps", 1, "--seed", 1, "--skip-existing")
    assert "<dog> as it was before" in gen(shared_store, *line, code=2).err
    own.write_bytes(b"mine")
    assert "not an image" in gen(shared_store, *line, code=2).err
    lines = gen(shared_store, "-", *line[1:], stdin="<dog>\na house\n", code=3)
    assert lines.out == "a-house-1.png\n"
    assert own.read_bytes() == b"mine"


def test_compare_puts_the_base_model_with_the_class_word_beside_the_concept(shared_store, here):
    done = gen(shared_store, "a <dog:0.5> and <hat>", "--steps", 1, "--seed", 1, "--compare", "-n", 2)
    assert done.out.split() == [
        "a-dog-and-hat-1.png", "a-dog-and-hat-2.png", "a-_dog+0.5_-and-_hat_-1.png", "a-_dog+0.5_-and-_hat_-2.png",
    ]  # fmt: skip
    assert "contact sheet: a-_dog+0.5_-and-_hat_-1-compare.png" in done.err
    assert "did you mean" not in done.err
    gen(shared_store, "a dog and hat", "--steps", 1, "--seed", 1, "-o", "plain.png")
    assert Path("plain.png").read_bytes() == Path("a-dog-and-hat-1.png").read_bytes()
    gen(shared_store, "<dog>", "--steps", 1, "--seed", 1, "--compare", "-o", "c.png")
    assert {p.name for p in here.glob("c*.png")} == {"c.png", "c-1.png", "c-base-1.png"}
    assert "cnsctl-sheet" in read_png_text(Path("c.png"))


def test_compare_in_merged_mode_is_with_the_base_model_without_any_concept(
    tiny_folder, tmp_path, images_of_two, monkeypatch, unmeasured
):
    monkeypatch.chdir(tmp_path)
    for name, mode in (("m", "merged"), ("t", "token")):
        assert cnsctl("init", "--base", tiny_folder, "--mode", mode, *at(tmp_path / name)).code == 0
    added = cnsctl("add", "dog", images_of_two / "dog", "--learning-rate", 0.1, *at(tmp_path / "m"))
    assert added.code == 0, added.err
    gen(tmp_path / "m", "a house", "--compare", "--steps", 1, "--seed", 1, "-o", "x.png")
    gen(tmp_path / "t", "a house", "--steps", 1, "--seed", 1, "-o", "plain.png")
    base, own, plain = (opened(n)[0] for n in ("x-base-1.png", "x-1.png", "plain.png"))
    assert (base == plain).all()
    assert (base != own).any()
    assert (made("x-base-1.png")["concepts"], list(made("x-1.png")["concepts"])) == ({}, ["dog"])


def test_a_sheet_has_every_image_of_the_call(shared_store, here, loaded):
    gen(
        shared_store,
        "-",
        "<dog>",
        "--steps",
        1,
        "--seed",
        1,
        "--sheet",
        "s.png",
        stdin="a house\n<nope>\na cat\n",
        code=3,
    )
    wide = opened("s.png")[0].shape[1]
    gen(shared_store, "<dog>", "--steps", 1, "--seed", 1, "--sheet", "one.png", "-o", "x.png")
    assert wide > opened("one.png")[0].shape[1]
    again = gen(shared_store, "<dog>", "--steps", 1, "--sheet", "s.png", code=2)
    assert "file already exists: s.png" in again.err
    gen(shared_store, "<dog>", "--steps", 1, "--sheet", "s.png", "-f")
    assert opened("s.png")[0].shape[1] == opened("one.png")[0].shape[1]


@pytest.mark.parametrize(("images", "columns"), [(1, 1), (3, 3), (5, 5), (6, 6), (7, 4), (8, 4), (10, 5), (13, 5)])
def test_a_sheet_leaves_few_cells_blank(images, columns):
    assert sheets._columns(images) == columns


def test_python_compares_and_writes_the_sheet_of_the_command(shared_store, here):
    gen(shared_store, "<dog>", "--compare", "--steps", 1, "--seed", 1, "-o", "c.png")
    with open_store(shared_store).load() as session:
        plain, own = session.generate_many("<dog>", compare=True, sheet="p.png", steps=1, seed=1)
        assert (plain.info, own.info) == (opened("c-base-1.png")[1], opened("c-1.png")[1])
        with pytest.raises(Exception, match="already exists"):
            list(session.generate_many("<dog>", sheet="p.png", steps=1))
    assert Path("p.png").read_bytes() == Path("c.png").read_bytes()


def test_info_prints_what_an_image_records(shared_store, here):
    gen(shared_store, *REQUEST, "-o", "a.png")
    said = cnsctl("info", "a.png").out
    for words in ("prompt: <dog> on a beach", "negative prompt: <hat>", "seed 7, 2 steps", "sampler dpm++2m", "sigmas karras",
                  "guidance scale 3", "40 × 32 pixels", "<dog> ", "<hat> ", "base model: tiny", "cnsctl 0.1.0"):  # fmt: skip
        assert words in said
    row = cnsctl("info", "a.png", "--json").json["images"][0]
    assert row["made"]["concepts"]["dog"] == open_store(shared_store).show("dog").delta[-64:]
    assert row == json.loads(json.dumps(as_json(info("a.png"))))["images"][0]
    assert cnsctl("info", "-q", "a.png").out == "<dog> on a beach\n"


def test_info_says_what_is_not_there(shared_store, here):
    Image.fromarray(PIXELS).save("photo.jpg")
    Path("a1111.png").write_bytes(png_bytes(PIXELS, {"parameters": "a cat\nSteps: 20"}))
    Path("text.png").write_text("a cat")
    done = cnsctl("info", "photo.jpg", "a1111.png", "text.png", "none.png")
    assert done.code == 3
    assert "photo.jpg: JPEG, 24 × 16 pixels\n  not recorded how it was generated\n" in done.out
    assert "it has texts of another program: parameters" in done.out
    assert "text.png: not an image" in done.out
    assert "none.png: image not found" in done.out
    assert "2 of 4 files cannot be read" in done.err
    alone = cnsctl("info", "none.png")
    assert (alone.code, "cnsctl show NAME" in alone.err) == (2, True)
    assert gen(shared_store, "--like", "a1111.png", code=2).err.count("does not record how it was generated") == 1


SIDES = {"width": 32, "height": 32}
EVIL = "\x1b[31mred\x07"


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": EVIL}, {"prompt": 3}, {"seed": -5}, {"seed": 1e30}, {"seed": None}, {"settings": {"steps": 10**9}}, {"settings": SIDES},
        {"settings": [1]}, {"settings": {"sampler": EVIL}}, {"concepts": {EVIL: "0"}}, {"concepts": {"dog": EVIL}},
        {"base": EVIL}, {"base": {"name": EVIL, "fingerprint": "0"}}, {"mode": "x"}, {"device": EVIL}, {"batch_size": "x"},
        {"format": 99}, {"format": [EVIL]}, {"prompt": "x" * (1 << 19)},
    ],
)  # fmt: skip
def test_a_record_is_never_trusted(shared_store, here, changes):
    texts = {"cnsctl": json.dumps({
        "format": 1, "prompt": "a", "negative_prompt": "", "seed": 1, "concepts": {}, "mode": "token", "device": "cpu",
        "base": {"name": "tiny", "fingerprint": "0" * 64}, "settings": {**SIDES, "steps": 1, "sampler": "euler", "guidance_scale": 2.0}, "dtype": "fp32",
    })}  # fmt: skip
    good = with_record(here / "good.png", texts)
    assert cnsctl("info", good).code == 0
    bad = with_record(here / "bad.png", texts, **changes)
    for done in (cnsctl("info", bad), gen(shared_store, "--like", bad, code=1), cnsctl("info", bad, good)):
        assert done.code in (1, 3)
        assert "the record in the image" in done.out + done.err
        assert not {"\x1b", "\x07"} & set(done.out + done.err)
        assert len(done.err) < 1000


@pytest.mark.parametrize("record", ["", "[]", "{}", "nonsense", "[" * 100_000, '{"format": 1}'])
def test_a_record_that_is_not_one_is_damage(here, record):
    Path("a.png").write_bytes(png_bytes(PIXELS, {"cnsctl": record}))
    done = cnsctl("info", "a.png")
    assert (done.code, "the record in the image" in done.err) == (1, True)


def test_names_of_foreign_texts_cannot_write_to_the_terminal(here):
    Path("a.png").write_bytes(png_bytes(PIXELS, {f"k{EVIL}{n}": "x" for n in range(50)}))
    done = cnsctl("info", "a.png")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 3


def test_gen_never_makes_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path / "none"))
    assert gen(tmp_path / "typo", "a cat", code=10)
    assert cnsctl("gen", "a cat").code == 10
    assert list(tmp_path.iterdir()) == []


def test_info_of_a_concept_is_show(shared_store, here):
    assert cnsctl("info", "<dog>".strip("<>"), *at(shared_store)).out == cnsctl("show", "dog", *at(shared_store)).out
    assert tree(shared_store)
    shutil.copy(shared_store / "store.json", "dog")  # a file of this name is what is meant
    assert "not an image" in cnsctl("info", "dog").err
