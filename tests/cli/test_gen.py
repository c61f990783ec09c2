"""Rules of `gen`: names, streams, pipes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from commands import at, cnsctl
from PIL import Image

from cnsctl.data.png import read_png_text


def size_of(file) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def gen(stocked, *args, stdin=""):
    return cnsctl("gen", "--steps", 1, *args, *at(stocked), stdin=stdin)


def made(file):
    return json.loads(read_png_text(file)["cnsctl"])


def test_one_image_to_a_file_is_that_file(stocked, tmp_path):
    done = gen(stocked, "<dog>", "-o", tmp_path / "new" / "two.png")
    assert done.out == f"{tmp_path / 'new' / 'two.png'}\n"
    assert size_of(tmp_path / "new" / "two.png") == (32, 32)


def test_several_images_to_a_file_get_their_seeds(stocked, tmp_path):
    done = gen(stocked, "a", "a cat", "-n", 2, "--seed", 7, "-o", tmp_path / "x.png")
    assert [Path(p).name for p in done.out.split()] == ["x-7.png", "x-8.png", "x-2-7.png", "x-2-8.png"]


def test_the_same_prompt_twice_gets_two_names(stocked, tmp_path):
    done = gen(stocked, "a cat", "a cat", "--seed", 7, "-o", tmp_path)
    assert [Path(p).name for p in done.out.split()] == ["a-cat-7.png", "a-cat-7-2.png"]


def test_an_existing_file_is_kept_without_force(stocked, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    refused = gen(stocked, "<dog>", "-o", path)
    assert refused.code == 2
    assert "already exists" in refused.err
    assert path.read_bytes() == b"mine"
    assert gen(stocked, "<dog>", "-o", path, "--force").code == 0
    assert path.read_bytes() != b"mine"


def test_without_a_seed_images_differ_and_the_seed_is_in_the_json(stocked, tmp_path):
    seeds = {gen(stocked, "<dog>", "--json", "-o", tmp_path / f"{i}.png").lines[-2]["seed"] for i in range(2)}
    assert len(seeds) == 2


def test_each_line_of_stdin_is_a_prompt(stocked, tmp_path):
    done = gen(stocked, "-", "--seed", 1, "-o", tmp_path, stdin="a <dog>\n\n  \nthe moon\r\n")
    assert done.code == 0, done.err
    assert [Path(p).name for p in done.out.split()] == ["a-_dog_-1.png", "the-moon-1.png"]


def test_a_bad_line_is_reported_and_the_others_are_generated(stocked, tmp_path):
    done = gen(stocked, "-", "--seed", 1, "-o", tmp_path, stdin="a <dog>\na <dgo>\nthe moon\n")
    assert done.code == 3
    assert "did you mean <dog>?" in done.err
    assert len(done.out.split()) == 2
    lines = gen(stocked, "-", "--seed", 2, "--json", "-o", tmp_path, stdin="a <dgo>\nthe moon\n").lines
    assert [line["type"] for line in lines if line["type"] not in ("phase", "step")] == ["failed", "image", "result"]
    assert (lines[-1]["generated"], lines[-1]["failed"]) == (1, 1)


def test_png_bytes_on_stdout(stocked):
    done = gen(stocked, "<dog>", "-o", "-")
    assert size_of(io.BytesIO(done.raw)) == (32, 32)
    assert gen(stocked, "<dog>", "-n", 2, "-o", "-").code == 2
    assert gen(stocked, "<dog>", "--json", "-o", "-").code == 2


def test_json_lines_of_gen(stocked, tmp_path):
    lines = gen(stocked, "a <dog> and <hat>", "--seed", 5, "--json", "-o", tmp_path / "a.png").lines
    assert all(line["format"] == 1 for line in lines)
    image, result = lines[-2], lines[-1]
    assert image == {
        "format": 1, "type": "image", "path": str(tmp_path / "a.png"), "seed": 5,
        "prompt": "a <dog> and <hat>", "concepts": ["dog", "hat"],
    }  # fmt: skip
    assert result["type"] == "result"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["a <dgo>"], 4, "did you mean <dog>?"),
        (["a <dog:9>"], 2, "scale"),
        (["<dog> and <dog:0.5>"], 2, "dog"),
        ([], 2, "no prompt"),
        (["--like", "none.png"], 2, "image not found: none.png"),
        (["--like", "taken"], 1, "not an image"),
        (["x", "--compare"], 2, "name a concept in it"),
        (["x", "--skip-existing"], 2, "add --seed N"),
        (["x", "--skip-existing", "--seed", 1, "--force"], 2, "one of --skip-existing and --force"),
        (["x", "--skip-existing", "--seed", 1, "-o", "-"], 2, "leave --skip-existing out"),
        (["x", "--sheet", "s.jpg"], 2, "use --sheet s.png"),
        (["x", "-o", "s.png", "--sheet", "s.png"], 2, "the name of an image"),
        (["x", "-n", 501, "--sheet", "s.png"], 2, "too many images"),
        (["x", "--sheet", "taken/s.png"], 2, "not a folder"),
        (["<dog>", "--compare", "-o", "-"], 2, "several images"),
        (["x", "-n", 0], 2, "change --count"),
        (["x", "--width", 100], 2, "a multiple of 8"),
        (["x", "--height", 24], 2, "32 to 4,096"),
        (["x", "--sampler", "magic"], 2, "--sampler"),
        (["x", "--sampler", "DPM++ 2S a"], 2, "did you mean --sampler dpm++2s?"),
        (["x", "--sampler", "Euler Karras", "--sigmas", "beta"], 2, "give one value of --sigmas"),
        (["x", "--sampler", "ddim", "--sigmas", "karras"], 2, "leave --sigmas out"),
        (["x", "--sampler", "dpm++2s", "--spacing", "trailing"], 2, "DPMSolverSinglestepScheduler does not have"),
        (["x", "--sampler", "lcm", "--steps", 51], 2, "use --steps 50"),
        (["x", "--size", "768x513"], 2, "size is out of range: '768x513'"),
        (["x", "--size", "big"], 2, "WIDTHxHEIGHT, such as 768x512"),
        (["x", "--size", "64x32", "--width", 32], 2, "give one value of --width"),
        (["x", "--seed", -2], 2, "-1 to 2^62"),
        (["a <lora:dog:0.8> cat"], 2, "hint: write <dog:0.8>"),
        (["a <lora:x:0.8> cat"], 2, "hint: train a concept"),
        (["<dog> --n bad --w 128"], 2, "--negative-prompt"),
        (["x", "--guidance-scale", 1000], 2, "out of range"),
        (["x", "-o", "a.jpg"], 2, "PNG"),
        (["x", "-o", "taken"], 2, "not a folder"),
        (["x", "-o", "taken/a.png"], 2, "not a folder"),
        (["x", "-o", "/dev/stdout"], 2, "-o -"),
        (["x", "--device", "tpu"], 2, "--device"),
        (["x", "--device", "cuda"], 2, "cuda"),
        (["word " * 40 + "<dog>"], 2, "<dog> does not fit"),
    ],
)
def test_a_bad_call_prints_what_to_do(stocked, tmp_path, monkeypatch, args, code, words):
    import torch

    if "cuda" in args and torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    done = gen(stocked, *args)
    assert done.code == code, done.err
    assert words in done.err
    assert "hint:" in done.err
    assert not list(tmp_path.glob("*.png"))


def test_the_ignored_words_of_a_long_prompt_are_printed(stocked, tmp_path):
    done = gen(stocked, "a dog " * 15 + "zebra", "-o", tmp_path / "a.png")
    assert done.code == 0
    assert "ignored" in done.err
    assert "zebra" in done.err


def test_an_unquoted_concept_is_recognised_as_a_redirection(stocked, tmp_path):
    """`gen <dog> on a beach`: the shell reads the file `dog` and empties a file `on`."""
    import subprocess
    import sys

    (tmp_path / "dog").write_text("")
    line = f"{sys.executable} -m cnsctl gen <dog> on a beach --store {stocked}"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 2
    assert "quote the prompt" in done.stderr


def test_scales_are_refused_in_merged_mode(shared_merged):
    done = gen(shared_merged, "<dog:0.5>")
    assert done.code == 2
    assert "merged" in done.err


def test_an_unknown_suffix_is_part_of_a_folder_name(stocked, tmp_path):
    done = gen(stocked, "a", "--seed", 1, "-o", tmp_path / "sd1.5")
    assert done.out == f"{tmp_path / 'sd1.5' / 'a-1.png'}\n"


def test_an_at_that_nearly_names_a_concept_is_reported(stocked, tmp_path):
    done = gen(stocked, "@dgo and @Hat, not @home", "-o", tmp_path / "a.png")
    assert done.code == 0, done.err
    assert "did you mean @dog?" in done.err
    assert "did you mean @hat?" in done.err
    assert "@home" not in done.err


def test_the_seed_is_printed_if_the_file_name_does_not_contain_it(stocked, tmp_path):
    done = gen(stocked, "a", "-o", tmp_path / "a.png")
    seed = json.loads(read_png_text(tmp_path / "a.png")["cnsctl"])["seed"]
    assert f"seed {seed}\n" in done.err
    assert "seed" not in gen(stocked, "a", "-o", tmp_path).err


@pytest.mark.parametrize("side", [("--width", 192), ("--height", 192)])
def test_width_and_height_can_differ(stocked, tmp_path, side):
    assert gen(stocked, "<dog>", *side, "-o", tmp_path / "a.png").code == 0
    assert size_of(tmp_path / "a.png") == ((192, 32) if side[0] == "--width" else (32, 192))


def test_pocket_can_be_named_and_generates_images_that_are_not_square(tmp_path):
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", "pocket", *store).code == 0
    assert cnsctl("ls", "--json", *store).json["base"]["name"] == "pocket"
    line = ("gen", "a cat", "--steps", 1, "--width", 192, "--height", 128, "-o", tmp_path / "a.png")
    assert cnsctl(*line, *store).code == 0
    assert size_of(tmp_path / "a.png") == (192, 128)


def test_a_prompt_file_has_comments_and_a_byte_order_mark(stocked, tmp_path):
    done = gen(stocked, "-", "--seed", 1, "-o", tmp_path, stdin="\ufeff# mine\na <dog>\n  # no\nthe moon\n")
    assert done.code == 0, done.err
    assert [Path(p).name for p in done.out.split()] == ["a-_dog_-1.png", "the-moon-1.png"]
    assert made(tmp_path / "a-_dog_-1.png")["prompt"] == "a <dog>"


def test_a_line_with_an_option_fails_alone(stocked, tmp_path):
    done = gen(stocked, "-", "--seed", 1, "-o", tmp_path, stdin="a <dog> --n bad --w 128\nthe moon\n")
    assert done.code == 3
    assert "the prompt contains an option: --n" in done.err
    assert [Path(p).name for p in done.out.split()] == ["the-moon-1.png"]


def test_the_syntax_of_other_tools_is_explained_once_per_run(stocked, tmp_path):
    prompts = ["a (red:1.3) <dog>", "a ((blue)) <dog> BREAK x"]
    done = gen(stocked, *prompts, "-n", 2, "--negative-prompt", "(bad:1.4)", "-o", tmp_path, "--guidance-scale", 2)
    assert done.code == 0, done.err
    assert done.err.count("does not weight words") == 1
    assert "warning: (red:1.3) is used as words" in done.err
    assert done.err.count("BREAK is used as words") == 1
    lines = gen(stocked, "-", "--json", "-o", tmp_path / "b", stdin="a [x|y]\na [y|z]\n").lines
    assert [line["text"][:5] for line in lines if line["type"] == "warning"] == ["[x|y]"]


def test_a_concepts_name_without_brackets_is_noticed_once(stocked, tmp_path):
    done = gen(stocked, "a photo of dog", "a dog and a hat", "-o", tmp_path)
    assert done.err.count("did you mean") == 1
    assert "did you mean <dog>?" in done.err
    assert "did you mean" not in gen(stocked, "<dog> and a hat", "-o", tmp_path / "b").err
    assert "did you mean" not in gen(stocked, "<dog>", "--negative-prompt", "hat", "-o", tmp_path / "c").err
    assert "did you mean" not in gen(stocked, "-q", "a photo of dog", "-o", tmp_path / "d").err


def test_a_sampler_is_recorded_and_printed_in_its_normal_form(stocked, tmp_path):
    done = gen(stocked, "a", "--sampler", "DPM++ 2M Karras", "-o", tmp_path / "a.png")
    assert done.code == 0, done.err
    assert "sampler 'DPM++ 2M Karras' is dpm++2m with sigmas karras\n" in done.err
    settings = made(tmp_path / "a.png")["settings"]
    assert (settings["sampler"], settings["sigmas"], settings["spacing"]) == ("dpm++2m", "karras", "default")
    again = gen(stocked, "a", "--sampler", "dpm++2m", "--sigmas", "karras", "-o", tmp_path / "b.png")
    assert "sampler" not in again.err


@pytest.mark.parametrize(("size", "sides"), [("64x32", (64, 32)), ("64", (64, 64)), ("64X32", (64, 32))])
def test_a_size_is_width_and_height(stocked, tmp_path, size, sides):
    assert gen(stocked, "a", "--size", size, "-o", tmp_path / "a.png").code == 0
    assert size_of(tmp_path / "a.png") == sides
    assert {k: made(tmp_path / "a.png")["settings"][k] for k in ("width", "height")} == dict(
        zip(("width", "height"), sides, strict=True)
    )


def test_seed_minus_one_is_a_random_seed(stocked, tmp_path):
    done = gen(stocked, "a", "--seed", -1, "-o", tmp_path / "a.png")
    assert done.code == 0, done.err
    seed = made(tmp_path / "a.png")["seed"]
    assert seed >= 0
    assert f"seed {seed}\n" in done.err


@pytest.fixture(scope="module")
def odd_store(tiny_folder, tmp_path_factory):
    """A store on a base model that was saved after Textual Inversion, with the scheduler PNDM and its Runge-Kutta start."""
    import shutil

    from transformers import CLIPTextModel, CLIPTokenizer

    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("odd") / "base"))
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer.add_tokens(["<cat-toy>"])
    text.resize_token_embeddings(len(tokenizer))
    tokenizer.save_pretrained(folder / "tokenizer")
    text.save_pretrained(folder / "text_encoder")
    for file, changes in (
        ("scheduler/scheduler_config.json", {"_class_name": "PNDMScheduler", "skip_prk_steps": False}),
        ("model_index.json", {"scheduler": ["diffusers", "PNDMScheduler"]}),
    ):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    store = folder.with_name("store")
    assert cnsctl("init", "--base", folder, *at(store)).code == 0
    return store


def test_a_token_of_the_base_models_own_is_used(odd_store, tmp_path):
    done = gen(odd_store, "a <cat-toy> on a beach", "--sampler", "euler", "-o", tmp_path / "a.png")
    assert done.code == 0, done.err
    assert gen(odd_store, "a <dog-toy>", "--sampler", "euler").code == 4


def test_steps_that_the_base_models_scheduler_cannot_run_are_refused_before_anything_is_trained(
    odd_store, tmp_path, images_of_two
):
    refused = gen(odd_store, "a", "--steps", 3, "-o", tmp_path)
    assert refused.code == 2
    assert "sampler base cannot run 3 steps" in refused.err
    assert "hint: use --steps 4" in refused.err
    assert gen(odd_store, "a", "--steps", 4, "-o", tmp_path).code == 0
    added = cnsctl("add", "dog", images_of_two / "dog", *at(odd_store))  # its preview takes 3 steps
    assert added.code == 2
    assert "cannot run 3 steps" in added.err
    assert "neurons" not in added.err
    assert cnsctl("ls", "--json", *at(odd_store)).json["unfinished"] == []
