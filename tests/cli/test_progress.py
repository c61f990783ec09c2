"""Rules of progress: every count reaches its total, the time left follows from the steps so far, a log is short."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections import defaultdict
from itertools import pairwise

import pytest
import torch
from commands import at, cnsctl
from rich.console import Console

import cnsctl as package
from cnsctl.app import base, demo, evaluate, generate, measuring, score, stores, train, verify
from cnsctl.app.generate_request import GenerateRequest
from cnsctl.app.measuring import plan_again
from cnsctl.app.requests import TrainRequest
from cnsctl.app.session import started
from cnsctl.bases import registry
from cnsctl.bases.base_folder import open_folder
from cnsctl.cli import tables
from cnsctl.cli.pace import Course
from cnsctl.cli.progress import Line, Log, clock_time
from cnsctl.events import Ahead, Denoised, ImageReady, Phase, Step
from cnsctl.results import EvaluateResult
from cnsctl.store import Store


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(work):
    """The last count of each phase that has a total. Every step belongs to the phase that began last, and counts up.

    What is said to be ahead comes in this order, but for phases that are not needed this time, and nothing else comes.
    """
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    current, ahead = None, None
    for event in work:
        match event:
            case Ahead(phases=phases):
                assert all(cost > 0 for _, cost in phases)
                ahead = [name for name, _ in phases]
            case Phase(name=name, total=total):
                current, found[name] = name, [0, total]
                if ahead is not None and name != evaluate.OF_CLASS:  # which only a bad result needs
                    assert name in ahead
                    del ahead[: ahead.index(name) + 1]
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
    assert counts["encode the images"] == (3 - holdout,) * 2
    assert counts["measure error removed"] == ((3 if holdout else 2) * (holdout or 3),) * 2
    assert counts[CHOOSE] == (2 * len(Store.open(empty).base.sites),) * 2  # of the concept, and of a random mask
    scored = followed(score.score(Store.open(empty), asked))
    assert_whole(scored, *(name for name in begin if name != "find general neurons"))  # which are cached


def test_the_counts_of_eval_verify_and_gen_reach_their_totals(stocked, tmp_path, monkeypatch):
    store = Store.open(stocked)
    monkeypatch.setattr(evaluate, "base_probe_texts", lambda: ("a cat",))
    counts = followed(evaluate.evaluate(store, []))
    assert_whole(counts, "measure error removed", "generate", "generate without a concept")
    assert counts["measure error removed"] == (2 * 3 * 7,) * 2
    assert_whole(followed(verify.verify(store, [])), "prove")
    asked = GenerateRequest(prompts=["<dog>", "a cat"], count=2, batch_size=3, output=tmp_path / "o")
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


@pytest.mark.usefixtures("really_loaded")
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


def test_in_merged_mode_the_check_of_the_others_counts_concepts_and_their_parts(merged, images_of_two):
    asked = request(images_of_two / "hat", "hat", allow_forgetting=True)
    events = list(train.train(Store.open(merged), asked))
    assert followed(iter(events))["check that nothing was forgotten"] == (1, 1)
    began = events.index(Phase(name="check that nothing was forgotten", total=1))
    assert [e.step for e in events[began + 1 : began + 10]] == list(range(1, 10))  # 3 images: encoded, and two passes
    assert_whole(followed(verify.verify(Store.open(merged), [])), "prove")


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_the_counts_of_the_demo_reach_their_totals(package, tmp_path):
    assert_whole(followed(demo.demo(tmp_path / "d", {"steps": 3}, {})), "generate")


def test_a_log_has_a_line_per_phase_and_one_every_30_seconds():
    lines, clock = [], Clock()
    log = Log(lines.append, clock)
    log.update(Ahead(phases=(("load the base model", 16), ("train the neurons", 120), ("generate", 40))))
    log.update(Phase(name="load the base model", total=100, unit="%"))
    clock.now = 40.0
    log.update(Phase(name="train the neurons", total=120))
    for step in range(1, 121):
        clock.now += 0.5
        losses = {"loss": 0.5, "loss_first": 0.284, "loss_now": None if step < 100 else 0.2216}
        log.update(Step(phase="train the neurons", step=step, total=120, **losses))
    log.update(Phase(name="generate", total=2))
    assert lines == [
        "load the base model: 0/100 %",
        "train the neurons: 0/120",
        "train the neurons: 60/120, 58 % of all, 0:50 left, loss 0.284",
        "train the neurons: 120/120, 83 % of all, 0:20 left, loss 0.284 → 0.222",
        "generate: 0/2",
    ]
    assert [clock_time(s) for s in (7, 61, 3900)] == ["0:07", "1:01", "1:05:00"]


def test_a_stream_of_prompts_is_logged_every_30_seconds():
    lines, clock = [], Clock()
    log = Log(lines.append, clock)
    for _ in range(70):
        log.update(Phase(name="generate", total=1))
        clock.now += 0.5
        log.update(Denoised(step=1, total=2))
        clock.now += 0.5
        log.update(ImageReady(path="a.png", seed=0, prompt="a", concepts=(), pixels=None, png=b""))
    assert lines == ["generate: 0/1", "generate: 1/1, 0:00 left", "generate: 1/1, 0:00 left"]


def shown(course, columns):
    """The line on a terminal of this width."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    console.print(Line(course))
    return console.file.getvalue().rstrip("\n")


def in_training():
    clock = Clock()
    course = Course(clock)
    course.take(Ahead(phases=(("train the token embedding", 30), ("train the neurons", 120))))
    course.take(Phase(name="train the token embedding", total=30))
    for step in range(1, 16):
        clock.now += 1.0
        course.take(
            Step(phase="train the token embedding", step=step, total=30, loss=0.5, loss_first=0.28, loss_now=0.22)
        )
    return course


def test_a_narrow_terminal_keeps_the_numbers_and_drops_the_bar_which_comes_back_when_it_is_widened():
    course = in_training()
    wide = "train the token embedding ━━ 10 % 15/30 2:15 left loss 0.280 → 0.220"
    for columns, expected in (
        (100, wide),
        (24, "train the… 15/30 2:15"),
        (40, "train the token embe… 15/30 2:15 left"),
        (60, "train the token embed… 15/30 2:15 left loss 0.280 → 0.220"),
        (100, wide),
    ):
        line = shown(course, columns)
        assert len(line) < columns
        assert " ".join(re.sub("[━╸╺]+", "━━", line)[2:].split()) == expected


def test_a_single_image_is_counted_in_inference_steps():
    clock = Clock()
    course = Course(clock)
    course.take(Phase(name="generate", total=1))
    for step in range(1, 8):
        clock.now += 1.0
        course.take(Denoised(step=step, total=28))
    assert (course.share, course.left_s) == (pytest.approx(0.25), pytest.approx(21))
    assert "generate step 7/28 0:21 left" in shown(course, 40)
    assert "generate 7/28 0:21" in shown(course, 21)
    course.take(Phase(name="generate", total=4))  # one of several
    course.take(Denoised(step=7, total=28))
    assert "generate 0/4" in shown(course, 40)


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
        plan = plan_again(row.trained, 3)
        by_clip = evaluate._ByClip(now=row.forgetting, plain=row.forgetting, real=None, judge=None)
        errors = evaluate._Removed(mean=1.0, spread=0.1, known=None)
        record = Store.open(empty).concept("dog")
        full = evaluate._evaluated(session._loaded, record, plan, errors, by_clip)
    assert row.forgetting.error_removed == (None if level is None else 0.0)
    assert plan.level is measuring.FULL
    assert (full.level, full.forgetting.clip_i, full.forgetting.clip_t) == ("full", None, None)
    assert list(tables.evaluated(EvaluateResult(**EMPTY_RESULT, concepts=(full,))))


BASE = package.results.BaseModel(name="tiny", family="sd1", fingerprint="f", weights_kv=1, weights_denoiser=1)
EMPTY_RESULT = {
    "store": "s", "base": BASE, "mode": "token", "device": "cpu", "dtype": "fp32", "damaged": (), "drift": None, "without_images": (),
}  # fmt: skip


def test_scores_of_another_level_are_not_compared(empty, images_of_two, monkeypatch):

    quick = measuring.Plan(rows=measuring.sample(3, 2), level=measuring.QUICK)
    monkeypatch.setattr(measuring, "plan", lambda *_args, **_options: quick)
    monkeypatch.setattr(evaluate, "base_probe_texts", lambda: ("a cat",))
    done = cnsctl("add", "dog", images_of_two / "dog", "--class", "dog", "--steps", 3, "-v", *at(empty))
    assert "measuring on 2 of 3 images" in done.err
    assert "generating 2 images with 12 inference steps" in done.err
    (same,) = cnsctl("eval", "--json", *at(empty)).json["concepts"]
    assert (same["level"], same["measured_on"], same["forgetting"]["error_removed"]) == ("quick", 2, 0.0)
    (full,) = cnsctl("eval", "--full", "--json", *at(empty)).json["concepts"]
    assert (full["level"], full["measured_on"], full["forgetting"]["error_removed"]) == ("full", 3, None)
    assert full["error_removed"] != same["error_removed"]


def test_merged_mode_refuses_a_concept_that_later_training_could_not_compare_with(tiny_folder, tmp_path, images_of_two):
    store = tmp_path / "merged"
    cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store))
    done = cnsctl("add", "dog", images_of_two / "dog", "--class", "dog", "--no-measure", *at(store))
    assert (done.code, "--no-preview" in done.err) == (2, True)
