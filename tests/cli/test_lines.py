"""Rules of `gen -`: lines share batches, fail alone, and what was computed for one is reused for the next."""

from __future__ import annotations

import gc
import json
import weakref
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import warm
from commands import at, cnsctl

from cnsctl.app import generate as app
from cnsctl.app.generate import generate
from cnsctl.app.generate_request import GenerateRequest
from cnsctl.bases.loaded import LoadedBase
from cnsctl.data.png import read_png_text
from cnsctl.engine import generate as engine
from cnsctl.errors import UsageError
from cnsctl.events import Ahead, Denoised, Failed, ImageReady, Phase
from cnsctl.store import Store

ONE_STEP = {"steps": 1}


def gen(store, stdin, *args):
    done = cnsctl("gen", "-", "--steps", 1, "--seed", 1, "--json", *args, *at(store), stdin=stdin)
    assert done.code in (0, 3), done.err
    return [line for line in done.lines if line["type"] not in ("phase", "step", "result")]


@pytest.fixture
def batches(monkeypatch):
    """The number of images of each batch."""
    seen = []
    honest = LoadedBase.sample

    def sample(self, settings, generators):
        seen.append(len(generators))
        return honest(self, settings, generators)

    monkeypatch.setattr(LoadedBase, "sample", sample)
    return seen


def streamed(store, lines, folder, **changes):
    """Events of a stream whose lines arrive one by one."""
    request = GenerateRequest(
        prompts=[], stream=([line] for line in lines), output=folder, settings=ONE_STEP, **changes
    )
    return generate(Store.open(store), request)


def images(events):
    return [event for event in events if isinstance(event, (ImageReady, Failed))]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], [1] * 5),
        (["--batch-size", 2], [2, 2, 1]),
        (["--batch-size", 8], [5]),
        (["-n", 3, "--batch-size", 4], [4, 4, 4, 3]),
    ],
)
def test_lines_that_have_arrived_share_batches_of_at_most_the_given_size(stocked, tmp_path, batches, args, expected):
    events = gen(stocked, "a\n<dog>\n\nb\n<hat>\nc\n", *args, "-o", tmp_path / "o")
    assert batches == expected
    each = 3 if "-n" in args else 1
    assert [line["prompt"] for line in events] == [p for p in ("a", "<dog>", "b", "<hat>", "c") for _ in range(each)]
    assert [line["seed"] for line in events] == [1 + k for _ in range(5) for k in range(each)]


@pytest.mark.slow
def test_a_line_is_generated_without_waiting_for_more(stocked, tmp_path):
    line = ("gen", "-", "--batch-size", 4, "--steps", 1, "--seed", 1, "-o", tmp_path / "o", *at(stocked))
    started = warm.start(warm.cnsctl, *line)
    for prompt in ("a", "b"):
        started.stdin.write(f"{prompt}\n")
        assert Path(started.stdout.readline().strip()).name == f"{prompt}-1.png"
    code, _, err = started.finish()
    assert code == 0, err


def test_a_line_that_fails_in_a_batch_is_reported_in_its_turn_and_the_others_are_generated(stocked, tmp_path, batches):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "taken-1.png").write_bytes(b"mine")
    long = "word " * 40 + "<dog>"
    events = gen(stocked, f"a\n<dgo>\nb\n{long}\n<dog:9>\ntaken\nc\n", "--batch-size", 8, "-o", tmp_path / "o")
    types = [line["type"] for line in events]
    assert types == ["image", "failed", "image", "failed", "failed", "failed", "image"]
    assert [line["prompt"] for line in events if line["type"] == "image"] == ["a", "b", "c"]
    assert batches == [3]
    assert (tmp_path / "o" / "taken-1.png").read_bytes() == b"mine"


def test_a_damaged_concept_in_a_batch_fails_its_own_line(stocked, tmp_path):
    delta = Store.open(stocked).concept("dog")["delta"]
    (stocked / "blobs" / delta).chmod(0o644)
    (stocked / "blobs" / delta).write_bytes(b"x")
    events = gen(stocked, "<hat>\n<dog>\n<hat> and <dog>\na\n", "--batch-size", 8, "-o", tmp_path / "o")
    assert [line["type"] for line in events] == ["image", "failed", "failed", "image"]
    assert {line["code"] for line in events if line["type"] == "failed"} == {"store-damaged"}


def test_an_image_without_finite_latents_fails_its_own_line(stocked, tmp_path, monkeypatch):
    honest = LoadedBase.sample

    def sample(self, settings, generators):
        for done in honest(self, settings, generators):
            done.latents[1] = torch.nan
            yield done

    monkeypatch.setattr(LoadedBase, "sample", sample)
    events = gen(stocked, "a\nb\nc\n", "--batch-size", 8, "-o", tmp_path / "o")
    assert [line["type"] for line in events] == ["image", "failed", "image"]
    assert "NaN or Inf" in events[1]["message"]


def test_keys_and_values_outlive_a_line_those_of_the_negative_prompt_too(stocked, tmp_path, monkeypatch):
    made = []
    honest = engine.text_keys_values
    monkeypatch.setattr(engine, "text_keys_values", lambda *a: made.append(a[2].prompt.text) or honest(*a))
    gen(stocked, "a\n<dog>\na\nb\n<dog>\n", "--negative-prompt", "<hat>", "-o", tmp_path / "o")
    assert sorted(made) == ["<dog>", "<hat>", "a", "b"]


@pytest.mark.parametrize(("room", "reads"), [(16, 2), (0, 4)])
def test_decoded_concepts_outlive_a_line_as_far_as_there_is_room(stocked, tmp_path, monkeypatch, room, reads):
    read = []
    honest = Store.delta
    monkeypatch.setattr(Store, "delta", lambda self, record: read.append(record["name"]) or honest(self, record))
    monkeypatch.setattr(app, "MAX_DECODED", room)  # beside one for each image of a batch
    gen(stocked, "<dog> 1\n<hat> 1\n<dog> 2\n<hat> 2\n", "-o", tmp_path / "o")
    assert len(read) == reads


def test_a_stream_of_new_names_keeps_only_the_last_few(stocked, tmp_path, monkeypatch):
    made = []
    honest = engine.text_keys_values

    def text_keys_values(*args):
        found = honest(*args)
        made.append(weakref.ref(found[0].x))
        return found

    monkeypatch.setattr(engine, "text_keys_values", text_keys_values)

    def lines():
        names = ["dog", *(f"dog{i}" for i in range(12))]
        for old, new in pairwise(names):
            assert cnsctl("mv", old, new, *at(stocked)).code == 0
            yield f"<{new}>"
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))

    alive = []
    gc.freeze()  # collecting what the libraries have made takes half a second each time
    try:
        assert len(images(streamed(stocked, lines(), tmp_path / "o"))) == 12
    finally:
        gc.unfreeze()
    assert len(made) == 13
    assert max(alive) == 8


def test_a_concept_is_what_its_name_means_when_the_line_comes(stocked, tmp_path):
    """Replaced, renamed or removed by another process: no cache serves the old one."""

    def lines():
        yield "<dog>"
        yield "<hat>"
        assert cnsctl("rm", "dog", "-y", *at(stocked)).code == 0
        assert cnsctl("mv", "hat", "dog", *at(stocked)).code == 0
        yield "<dog>"
        yield "<hat>"

    keys = {r["name"]: r["delta"] for r in Store.open(stocked).concepts()}
    first, second, renamed, gone = images(streamed(stocked, lines(), tmp_path / "o"))
    acted = [json.loads(read_png_text(image.png)["cnsctl"])["concepts"] for image in (first, second, renamed)]
    assert acted == [{"dog": keys["dog"]}, {"hat": keys["hat"]}, {"dog": keys["hat"]}]
    assert (renamed.pixels == second.pixels).all()
    assert not (renamed.pixels == first.pixels).all()
    assert gone.error.code == "concept-not-found"


def test_in_merged_mode_deltas_are_read_once(merged, tmp_path):
    read = []

    def lines():
        yield "a"
        yield "<dog>"
        read.append("change")
        assert cnsctl("mv", "dog", "rex", *at(merged)).code == 0
        yield "<rex>"
        yield "<dog>"

    with pytest.MonkeyPatch.context() as patch:
        honest = Store.delta
        patch.setattr(Store, "delta", lambda self, record: read.append(record["name"]) or honest(self, record))
        kinds = [type(event) for event in images(streamed(merged, lines(), tmp_path / "o"))]
    assert kinds == [ImageReady, ImageReady, ImageReady, Failed]
    assert read == ["dog", "change"]  # the delta of the renamed one is cached


def loaded(store, folder, **changes):
    """Events of one prompt whose file did not exist when the base model began to load."""
    request = GenerateRequest(prompts=["a"], seed=7, output=folder, settings=ONE_STEP, **changes)
    events = generate(Store.open(store), request)
    assert isinstance(next(events), Ahead)
    assert next(events) == Phase(name="load the base model", total=100, unit="%")
    return events


def test_two_that_write_into_one_folder_do_not_overwrite_each_others_files(stocked, tmp_path):
    first, second = loaded(stocked, tmp_path), loaded(stocked, tmp_path)
    paths = [Path(image.path) for events in (first, second) for image in images(events)]
    assert [path.name for path in paths] == ["a-7.png", "a-7-2.png"]
    assert all(path.read_bytes() for path in paths)


def test_a_requested_file_does_not_get_another_name(stocked, tmp_path):
    path = tmp_path / "one.png"
    events = loaded(stocked, path)
    path.write_bytes(b"theirs")
    with pytest.raises(UsageError, match="already exists"):
        list(events)
    assert [p.name for p in tmp_path.glob("*.png")] == ["one.png"]
    assert path.read_bytes() == b"theirs"
    forced = loaded(stocked, path, force=True)
    assert len(images(forced)) == 1
    assert path.read_bytes() != b"theirs"


def test_denoising_steps_are_events_and_lines_of_json_only_where_asked(stocked, tmp_path):
    request = GenerateRequest(prompts=["a", "b"], output=tmp_path / "o", settings={"steps": 2})
    steps = [e for e in generate(Store.open(stocked), request) if isinstance(e, Denoised)]
    assert [(e.step, e.total) for e in steps] == [(1, 2), (2, 2)] * 2
    done = cnsctl("gen", "a", "--steps", 2, "-o", tmp_path / "p", "--json", *at(stocked))
    assert {line["phase"] for line in done.lines if line["type"] == "step"} == {"load the base model"}
    assert "denoised" not in {line["type"] for line in done.lines}
    done = cnsctl("gen", "b", "--steps", 2, "-o", tmp_path / "p", "--json", "--json-steps", *at(stocked))
    steps = [line for line in done.lines if line["type"] == "denoised"]
    assert steps == [{"format": 1, "type": "denoised", "step": n, "total": 2, "images": 1} for n in (1, 2)]
    assert cnsctl("gen", "c", "--json-steps", *at(stocked)).code == 2
