"""Rules of progress: every count reaches its total, the time left follows from the steps so far, a log is short."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from itertools import pairwise

import pytest
import torch
from commands import at, cnsctl

import cnsctl as package
from cnsctl.app import base, demo, evaluate, generate, score, stores, train, verify
from cnsctl.app.measuring import FULL, plan_again
from cnsctl.app.requests import TrainRequest
from cnsctl.app.session import started
from cnsctl.bases import registry
from cnsctl.bases.base_folder import open_folder
from cnsctl.cli import tables
from cnsctl.cli.progress import Log, Pace, clock_time
from cnsctl.events import Denoised, ImageReady, Phase, Step
from cnsctl.results import EvaluateResult
from cnsctl.store import Store


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(work):
    """The last count of each phase that has a total. Every step belongs to the phase that began last, and counts up."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    current = None
    for event in work:
        match event:
            case Phase(name=name, total=total):
                current, found[name] = name, [0, total]
            case Step(phase=name, step=step, total=total):
                assert (name, total) == (current, found[name][1])
                assert step > found[name][0]
                found[name][0] = step
            case ImageReady():
                found[current][0] += 1
            case Denoised(step=step, total=total):
                assert 1 <= step <= total
                assert found[current][0] < found[current][1], "a part of a step that is not to come"
    return {name: tuple(counts) for name, counts in found.items()}


def assert_whole(counts, *expected):
    assert set(expected) <= set(counts)
    assert {n: c for n, c in counts.items() if c[0] != c[1]} == {}


CHOOSE = "select the neurons"


def request(folder, name="cat", **changes):
    return TrainRequest(name=name, sources=[folder], class_word=name, **changes)


@pytest.mark.parametrize("holdout", [0, 2])
def test_the_counts_of_add_and_score_reach_their_totals(empty, images_of_two, holdout):
    asked = request(images_of_two / "dog", holdout=holdout, settings={"steps": 3, "warmup": 0.4})
    begin = ("load the base model", "encode the images", "find general neurons", "train the token embedding", CHOOSE)
    counts = followed(train.train(Store.open(empty), asked))
    assert_whole(counts, *begin, "train the neurons", "measure error removed", "generate", "save the concept")
    assert counts["encode the images"] == (5 - holdout,) * 2
    assert counts["measure error removed"] == ((3 if holdout else 2) * (holdout or 5),) * 2
    assert counts[CHOOSE] == (2 * len(Store.open(empty).base.sites),) * 2  # of the concept, and of a random mask
    scored = followed(score.score(Store.open(empty), asked))
    assert_whole(scored, *(name for name in begin if name != "find general neurons"))  # which are cached


def test_the_counts_of_eval_verify_and_gen_reach_their_totals(stocked, tmp_path, monkeypatch):
    store = Store.open(stocked)
    monkeypatch.setattr(evaluate, "base_probe_texts", lambda: ("a cat",))
    counts = followed(evaluate.evaluate(store, []))
    assert_whole(counts, "measure error removed", "generate", "generate without a concept")
    assert counts["measure error removed"] == (2 * 5 * 7,) * 2
    assert_whole(followed(verify.verify(store, [])), "prove")
    asked = generate.GenerateRequest(prompts=["<dog>", "a cat"], count=2, batch_size=3, output=tmp_path / "o")
    assert_whole(followed(generate.generate(store, asked)), "generate")


@pytest.mark.parametrize("copy", [False, True])
def test_init_and_base_count_while_they_read_a_base_model(tiny_folder, tmp_path, copy):
    created = stores.create(tmp_path / "s", base=tiny_folder, copy=copy)
    assert followed(created)["read the base model"] == (100, 100)
    store = Store.open(tmp_path / "s")
    for hash_weights in (True, False):  # the second time the files are known
        loaded = followed(started(store, {}, None, hash_weights=hash_weights))
        assert loaded == {"load the base model": (100, 100)}
    if not copy:
        moved = shutil.copytree(tiny_folder, tmp_path / "moved")
        assert followed(base.changed(store, at=moved))["read the base model"] == (100, 100)


def test_each_tensor_moves_the_count_of_loading(tiny_folder):
    """Hashing and checking gigabytes takes most of the time; each part of it has its share."""
    options = {"device": torch.device("cpu"), "dtype": torch.float32, "hash_weights": True}
    shares = list(registry.loading(open_folder(tiny_folder), **options))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2
    assert len(shares) > 100
    assert max(b - a for a, b in pairwise([*shares, 1.0])) < 0.35  # placing it where it computes is the largest


@pytest.mark.parametrize("events", [1, 4, 8])
def test_a_count_that_is_stopped_early_leaves_no_store(tiny_folder, tmp_path, events, monkeypatch):
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))
    work = stores.create(tmp_path / "s", base=tiny_folder, copy=True)
    for _ in range(events):
        next(work)
    work.close()
    assert [*tmp_path.iterdir()] == [left]
    assert not [*left.iterdir()]


def test_a_concept_that_cannot_be_read_counts_too(stocked, monkeypatch):
    from pathlib import Path

    monkeypatch.setattr(evaluate, "base_probe_texts", lambda: ("a cat",))
    Path(cnsctl("show", "dog", "--json", *at(stocked)).json["delta"]).unlink()
    assert_whole(followed(evaluate.evaluate(Store.open(stocked), [])), "measure error removed", "generate")


def test_in_merged_mode_the_check_of_the_others_counts_concepts_and_their_parts(tiny_folder, tmp_path, images_of_two):
    store = tmp_path / "merged"
    cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store))
    assert cnsctl("add", "dog", images_of_two / "dog", "--class", "dog", *at(store)).code == 0
    asked = request(images_of_two / "hat", "hat", allow_forgetting=True)
    events = list(train.train(Store.open(store), asked))
    assert followed(iter(events))["check that nothing was forgotten"] == (1, 1)
    began = events.index(Phase(name="check that nothing was forgotten", total=1))
    assert [e.step for e in events[began + 1 : began + 16]] == list(range(1, 16))  # 5 images: encoded, and two passes
    assert_whole(followed(verify.verify(Store.open(store), [])), "prove")


def test_the_counts_of_the_demo_reach_their_totals(package, tmp_path):
    assert_whole(followed(demo.demo(tmp_path / "d", {"steps": 3}, {})), "generate")


def test_the_time_left_follows_from_the_steps_so_far():
    clock = Clock()
    pace = Pace(Phase(name="generate", total=10), clock)
    assert pace.left_s is None
    clock.now = 4.0
    pace.take(Denoised(step=1, total=5, images=2))  # 0.4 of 10 images
    assert pace.left_s == pytest.approx(96)
    clock.now = 20.0
    pace.take(Step(phase="generate", step=2, total=10))
    assert pace.left_s == pytest.approx(80)
    clock.now = 25.0  # nothing happened since: it counts down, and not below zero
    assert pace.left_s == pytest.approx(75)
    clock.now = 1000.0
    assert pace.left_s == 0
    assert [clock_time(s) for s in (7, 61, 3900)] == ["0:07", "1:01", "1:05:00"]


def test_a_log_has_a_line_per_phase_and_one_a_minute():
    lines, clock = [], Clock()
    log = Log(lines.append, clock)
    log.update(Phase(name="load the base model", total=100, unit="%"))
    clock.now = 300.0
    log.update(Phase(name="train the neurons", total=120))
    for step in range(1, 121):
        clock.now += 1.0
        log.update(Step(phase="train the neurons", step=step, total=120, loss=0.5))
    log.update(Phase(name="generate", total=2))
    assert lines == [
        "load the base model: 0/100 %",
        "train the neurons: 0/120",
        "train the neurons: 60/120, loss 0.500, 1:00 left",
        "train the neurons: 120/120, loss 0.500, 0:00 left",
        "generate: 0/2",
    ]


def test_a_stream_of_prompts_is_logged_once_a_minute():
    lines, clock = [], Clock()
    log = Log(lines.append, clock)
    for _ in range(100):
        log.update(Phase(name="generate", total=1))
        clock.now += 1.0
        log.update(ImageReady(path="a.png", seed=0, prompt="a", concepts=(), pixels=None, png=b""))
    assert lines == ["generate: 0/1", "generate: 1/1, 0:00 left"]


def test_a_pipe_gets_a_log_and_the_other_forms_of_output_do_not(stocked):
    assert cnsctl("verify", *at(stocked)).err == "load the base model: 0/100 %\nprove: 0/2\n"
    assert [cnsctl("verify", flag, *at(stocked)).err for flag in ("-q", "--json")] == ["", ""]


@pytest.mark.parametrize(("flag", "level", "removed"), [("preview", "none", float), ("measure", None, type(None))])
def test_a_concept_without_images_or_scores_is_listed_shown_and_measured(empty, images, flag, level, removed):
    done = cnsctl("add", "dog", images, "--class", "dog", f"--no-{flag}", "--steps", 3, *at(empty))
    assert done.code == 0, done.err
    assert "generate: " not in done.err
    assert ("not measured" in done.out, "measure error removed" in done.err) == (level is None, level is not None)
    shown = cnsctl("show", "dog", "--json", *at(empty)).json
    scores = shown["concept"]["scores"]
    assert (shown["preview"], scores["level"], scores["clip_i"]) == (None, level, None)
    assert isinstance(scores["error_removed"], removed)
    assert ("not measured" in cnsctl("show", "dog", *at(empty)).out) == (level is None)
    assert cnsctl("ls", *at(empty)).out.split("\t")[6] == (
        "" if level is None else str(round(scores["error_removed"], 6))
    )
    with package.open_store(empty).load() as session:
        (row,) = session.evaluate(images=False).concepts
        assert not any(concept.forgotten for concept in session.verify().concepts)
        options = {"class_word": "dog", "replace": True, "steps": 3, flag: False}
        assert session.train("dog", images, **options).result().concept.scores == package.results.Scores(**scores)
    assert row.forgetting.error_removed == (None if level is None else 0.0)
    plan = plan_again(row.trained, 3)
    assert plan.level is FULL
    by_clip = evaluate._ByClip(now=row.forgetting, plain=row.forgetting, real=None, judge=None)
    full = evaluate._evaluated(None, Store.open(empty).concept("dog"), plan, (1.0, 0.1), by_clip)
    assert (full.level, full.forgetting.clip_i, full.forgetting.clip_t) == ("full", None, None)
    assert list(tables.evaluated(EvaluateResult(**EMPTY_RESULT, concepts=(full,))))


EMPTY_RESULT = {
    "store": "s", "base": None, "mode": "token", "device": "cpu", "dtype": "fp32", "damaged": (), "drift": None, "without_images": (),
}  # fmt: skip


def test_scores_of_another_level_are_not_compared(empty, images_of_two, monkeypatch):
    from cnsctl.app import measuring

    quick = measuring.Plan(rows=measuring.sample(5, 2), level=measuring.QUICK)
    monkeypatch.setattr(measuring, "plan", lambda *_args, **_options: quick)
    monkeypatch.setattr(evaluate, "base_probe_texts", lambda: ("a cat",))
    done = cnsctl("add", "dog", images_of_two / "dog", "--class", "dog", "--steps", 3, *at(empty))
    assert "measuring on 2 of 5 images" in done.err
    assert "generating 2 images with 12 inference steps" in done.err
    (same,) = cnsctl("eval", "--json", *at(empty)).json["concepts"]
    assert (same["level"], same["measured_on"], same["forgetting"]["error_removed"]) == ("quick", 2, 0.0)
    (full,) = cnsctl("eval", "--full", "--json", *at(empty)).json["concepts"]
    assert (full["level"], full["measured_on"], full["forgetting"]["error_removed"]) == ("full", 5, None)
    assert full["error_removed"] != same["error_removed"]


def test_merged_mode_refuses_a_concept_that_later_training_could_not_compare_with(tiny_folder, tmp_path, images_of_two):
    store = tmp_path / "merged"
    cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store))
    done = cnsctl("add", "dog", images_of_two / "dog", "--class", "dog", "--no-measure", *at(store))
    assert (done.code, "--no-preview" in done.err) == (2, True)
