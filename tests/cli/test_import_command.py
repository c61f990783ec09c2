"""`cnsctl import` at the command line, and how other commands treat what it brought."""

from __future__ import annotations

import json

import pytest
import torch
from commands import at, cnsctl, tree
from safetensors.torch import save_file


@pytest.fixture
def toy(tmp_path):
    """A textual inversion."""
    save_file({"<cat-toy>": torch.full((40,), 0.1).half()}, tmp_path / "cat-toy.safetensors")
    return tmp_path / "cat-toy.safetensors"


@pytest.fixture
def with_toy(stocked, toy):
    """A store with two trained concepts and an imported one."""
    assert cnsctl("import", toy, *at(stocked)).code == 0
    return stocked


def lora(path, *, more=(), metadata=None):
    random = torch.Generator().manual_seed(0)
    site = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {}
    for stem, rows, columns in ((site, 16, 40), *more):
        tensors[f"{stem}.lora_down.weight"] = torch.randn(2, columns, generator=random)
        tensors[f"{stem}.lora_up.weight"] = torch.randn(rows, 2, generator=random)
    save_file(tensors, path, metadata=metadata)
    return path


def test_it_prints_the_concept_and_its_name_alone_when_quiet(stocked, toy):
    done = cnsctl("import", toy, *at(stocked))
    assert done.code == 0, done.err
    assert done.out.startswith("imported <cat-toy>: 1 token embedding, no weights")
    assert "embedding, 1 token embedding" in done.err
    assert cnsctl("import", toy, "--name", "toy", "-q", *at(stocked)).out == "toy\n"


def test_the_record_says_where_it_comes_from(with_toy, toy):
    import hashlib

    sha = hashlib.sha256(toy.read_bytes()).hexdigest()
    shown = cnsctl("show", "cat-toy", *at(with_toy)).out
    assert "<cat-toy>  no class word, imported on " in shown
    assert f"from: cat-toy.safetensors (SHA-256 {sha[:12]}), format embedding" in shown
    assert "not selected by scoring" not in shown  # it has no neurons
    origin = cnsctl("show", "cat-toy", "--json", *at(with_toy)).json["origin"]
    assert origin == {
        "format": "embedding", "files": [{"name": "cat-toy.safetensors", "sha256": sha}], "scored": False,
        "error": None, "lost": None,
    }  # fmt: skip
    assert cnsctl("show", "dog", "--json", *at(with_toy)).json["origin"] is None


def test_every_command_works_with_it(with_toy, images_of_two, tmp_path):
    rows = cnsctl("ls", "--json", *at(with_toy)).json["concepts"]
    assert [(row["name"], row["class_word"], row["images"]) for row in rows][-1] == ("cat-toy", "", 0)
    assert cnsctl("verify", *at(with_toy)).code == 0
    done = cnsctl("gen", "<dog> beside <cat-toy>", "--steps", 1, "-o", tmp_path / "a.png", *at(with_toy))
    assert done.code == 0, done.err
    assert cnsctl("mv", "cat-toy", "toy", *at(with_toy)).code == 0
    again = cnsctl("add", "toy", images_of_two / "dog", "--class", "dog", "--replace", "--steps", 4, *at(with_toy))
    assert again.code == 0, again.err
    assert cnsctl("show", "toy", "--json", *at(with_toy)).json["origin"] is None
    assert cnsctl("rm", "toy", "-y", *at(with_toy)).code == 0


def test_eval_measures_the_others_and_says_why_not_it(with_toy):
    done = cnsctl("eval", "--no-images", "--json", *at(with_toy))
    assert done.code == 0, done.err
    assert [row["name"] for row in done.json["concepts"]] == ["dog", "hat"]
    assert done.json["without_images"] == ["cat-toy"]
    assert "<cat-toy> is not measured: it has no images" in done.err
    alone = cnsctl("eval", "cat-toy", *at(with_toy))
    assert alone.code == 2
    assert "no images to measure with: cat-toy" in alone.err
    assert "cnsctl add cat-toy IMAGES --replace" in alone.err


def test_an_imported_concept_can_be_exported_as_a_fitted_lora_without_images(stocked, tmp_path):
    file = lora(tmp_path / "style.safetensors")
    assert cnsctl("import", file, "--class", "dog", *at(stocked)).code == 0
    done = cnsctl("export", "style", "-o", tmp_path / "out", "--json", *at(stocked))
    assert done.code == 0, done.err
    assert done.json["fidelity"][0]["error_removed"] is None


def test_a_concept_without_weights_is_exported_as_an_embedding_only(with_toy, tmp_path):
    for form in ("lora", "kv", "diff"):
        done = cnsctl("export", "cat-toy", "--format", form, "-o", tmp_path / "out", *at(with_toy))
        assert (done.code, (tmp_path / "out").exists()) == (2, False)
        assert "no weights to export: cat-toy" in done.err
        assert "use --format embedding" in done.err
    done = cnsctl("export", "cat-toy", "--format", "embedding", "-o", tmp_path / "out", *at(with_toy))
    assert done.code == 0, done.err


def test_a_taken_name_is_refused_with_the_ways_out(with_toy, toy):
    before = tree(with_toy)
    done = cnsctl("import", toy, "--name", "dog", *at(with_toy))
    assert (done.code, done.out) == (1, "")
    assert "use --name NEW, or --replace" in done.err
    assert tree(with_toy) == before
    assert cnsctl("import", toy, "--name", "dog", "--replace", *at(with_toy)).out.startswith("replaced <dog>")


def test_a_lora_of_more_layers_is_refused_and_kv_only_takes_its_part(stocked, tmp_path):
    more = [("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 40, 40)]
    file = lora(tmp_path / "style.safetensors", more=more, metadata={"ss_output_name": "\x1b[31mred"})
    refused = cnsctl("import", file, "--class", "dog", *at(stocked))
    assert refused.code == 2
    assert "it also changes text encoder (1)" in refused.err
    assert "add --kv-only" in refused.err
    done = cnsctl("import", file, "--class", "dog", "--kv-only", *at(stocked))
    assert done.code == 0, done.err
    assert "% of the norm of its changes" in done.err
    assert "keys and values of its own tokens differ from the file's by" in done.err
    shown = cnsctl("show", "style", *at(stocked)).out
    assert "not selected by scoring" in shown
    assert "left out of the file:" in shown
    assert "\x1b" not in refused.err + done.err + shown


def test_each_file_that_cannot_be_imported_gets_its_own_reason(stocked, toy, tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "bad.pt")
    (tmp_path / "cut.safetensors").write_bytes(toy.read_bytes()[:-1])
    (tmp_path / "text.safetensors").write_bytes(b"not a file of tensors")
    (tmp_path / "empty.safetensors").touch()
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "model.safetensors"
    )
    (tmp_path / "a\x1b[2Jb.safetensors").write_bytes(toy.read_bytes())
    before = tree(stocked)
    for name, code, words in (
        ("bad.pt", 2, "a pickle can run a program"),
        ("cut.safetensors", 1, "is damaged: length"),
        ("text.safetensors", 2, "neither a safetensors file nor a bundle"),
        ("empty.safetensors", 2, "the file is empty"),
        ("model.safetensors", 2, "a whole model"),
        ("none.safetensors", 2, "file not found"),
        (".", 2, "not a file"),
        ("a\x1b[2Jb.safetensors", 2, "control characters"),
    ):
        done = cnsctl("import", tmp_path / name, *at(stocked))
        assert (done.code, done.out) == (code, ""), done.err
        assert words in done.err
        assert "Traceback" not in done.err
        assert "\x1b" not in done.err
    assert tree(stocked) == before


def test_names_and_choices_that_mean_nothing_are_refused(stocked, toy):
    for flags, words in (
        (("--rename", "a=b"), "only a bundle"),
        (("--rename", "a"), "not two names: 'a'"),
        (("--rename", "a=b", "--rename", "a=c"), "two new names for 'a'"),
        (("--name", "A B"), "invalid name"),
        (("--class", "<x>"), "class word is not usable"),
        (("--budget", 2), "budget is out of range"),
    ):
        done = cnsctl("import", toy, *flags, *at(stocked))
        assert done.code == 2
        assert words in done.err


def test_weights_without_token_embeddings_name_their_file_when_a_class_word_is_missing(stocked, tmp_path):
    done = cnsctl("import", lora(tmp_path / "style.safetensors"), *at(stocked))
    assert done.code == 2
    assert "style.safetensors has no token embeddings" in done.err


def test_a_delta_under_the_name_that_export_gave_it_is_the_same_concept(stocked, tmp_path):
    assert cnsctl("export", "dog", "--format", "native", "-o", tmp_path / "out", *at(stocked)).code == 0
    done = cnsctl("import", tmp_path / "out" / "dog.delta.safetensors", *at(stocked))
    assert done.out.startswith("unchanged <dog>"), done.err


def test_json_has_the_concepts_and_errors_are_json_too(stocked, toy):
    last = cnsctl("import", toy, "--class", "toy", "--json", *at(stocked)).lines[-1]
    (row,) = last["concepts"]
    assert (last["type"], row["state"], row["concept"]["class_word"]) == ("result", "imported", "toy")
    assert row["origin"]["files"][0]["name"] == "cat-toy.safetensors"
    failed = json.loads(cnsctl("import", toy, "--json", *at(stocked)).err)
    assert (failed["code"], failed["exit"]) == ("name-taken", 1)


def test_a_store_in_merged_mode_takes_no_import(tiny_folder, toy, tmp_path):
    assert cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(tmp_path / "m")).code == 0
    done = cnsctl("import", toy, *at(tmp_path / "m"))
    assert done.code == 2
    assert "cannot import into a store in merged mode" in done.err
