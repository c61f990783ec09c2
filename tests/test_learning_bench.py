"""The benchmark of training: controls have equal size, results are kept, and training shows on held-out scenes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learning import bench as bench_module
from benchmarks.learning.bench import Bench, Variant, said, training_pixels, varied
from benchmarks.learning.images import halves, in_place
from benchmarks.learning.plots import write_plots
from benchmarks.learning.questions import FIVE, QUESTIONS, SWEEP
from benchmarks.learning.rows import Row, Shown, free_after, in_order, one_after_another, shown_of
from benchmarks.learning.selections import SELECTIONS
from benchmarks.learning.sheets import sheet
from cnsctl.bases import base_folder
from cnsctl.bases.clip import towers
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.data.prompt_grammar import parse
from cnsctl.engine.denoising_error import TIMES
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.overlay import EMPTY
from cnsctl.settings import Policy
from pocket import examples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tiny):
    """A tiny base model, on which every image is shrunk to its size."""
    base = copy.copy(tiny)
    base.encode_images = lambda pixels: tiny.encode_images(pixels[:, ::4, ::4])
    return base


@pytest.fixture(scope="module")
def bench(small, tmp_path_factory) -> Bench:
    return Bench(small, tmp_path_factory.mktemp("bench"), steps=4, noises=(1, 2))


@pytest.fixture(scope="module")
def on_pocket(pocket, tmp_path_factory) -> Bench:
    """With two scenes, for what a tiny base with random weights cannot show."""
    bench = Bench(pocket, tmp_path_factory.mktemp("bench"), steps=12, noises=(1, 2))
    bench.listed = [one for one in bench.listed if list(one["concepts"]) == ["blue-fox"]][::3]
    return bench


@pytest.mark.parametrize("selection", sorted(set(SELECTIONS) - {"V* alone", "all K/V", "intersect"}))
def test_every_selection_is_as_large_as_that_of_the_score(bench, selection):
    """Within rounding, site by site: what differs in a table is which neurons, not how many."""
    eighth = varied(Variant(), budget=1 / 8)  # of the tiny base's sites: whole rows and whole columns
    n = bench.trained("blue-fox", replace(eighth, selection=selection)).n_neurons
    assert n == pytest.approx(bench.trained("blue-fox", eighth).n_neurons, rel=0.02)


def test_the_strict_mask_stays_below_the_budget(bench):
    n = bench.trained("blue-fox", Variant(selection="intersect")).n_neurons
    assert 0 < n < bench.trained("blue-fox", Variant()).n_neurons


def test_a_selection_without_neurons_changes_no_weight(bench):
    """V* alone: the delta has one entry per site, with the base model's value."""
    delta = bench.trained("blue-fox", varied(Variant(selection="V* alone"), warmup=1.0))
    for site, flat in delta.indices.items():
        base = bench.base.sites[site].reshape(-1)[flat].numpy()
        assert np.abs(delta.values[site].astype(np.float32) - base).max() <= 1e-3 * np.abs(base).max()


def test_deltas_and_errors_of_an_earlier_run_are_read(bench, small, monkeypatch):
    """An interrupted run continues; nothing is trained twice."""
    trained = [("blue-fox", bench.trained("blue-fox", Variant()))]
    scenes = bench.scenes_of("blue-fox")[:1]
    found = bench.removed(trained, DEFAULT_MODE, scenes)
    monkeypatch.setattr(bench_module.train, "train", None)
    monkeypatch.setattr(bench_module, "denoising_errors", None)
    again = Bench(small, bench.out, steps=4, noises=(1, 2))
    read = again.removed([("blue-fox", again.trained("blue-fox", Variant()))], DEFAULT_MODE, scenes)
    assert (read.by_noise, read.by_level) == (found.by_noise, found.by_level)


def test_an_image_is_generated_once(bench, small, monkeypatch):
    """One more seed costs one more image; another delta has its own images."""
    trained = [("blue-fox", bench.trained("blue-fox", Variant()))]
    overlay, prompt = bench.overlay(trained, DEFAULT_MODE), parse("a <blue-fox> on a beach", {"blue-fox"})
    requests = [Request(prompt=prompt, seed=seed) for seed in (0, 1)]
    (first,) = bench.images(overlay, requests[:1])
    asked: list[int] = []

    def counted(base, overlay, requests, settings, *, batch):
        asked.append(len(requests))
        return generate_images(base, overlay, requests, settings, batch=batch)

    monkeypatch.setattr(bench_module, "generate_images", counted)
    again = Bench(small, bench.out, steps=4, noises=(1, 2))
    same, other = again.images(again.overlay(trained, DEFAULT_MODE), requests)
    assert (same == first).all()
    assert (other != first).any()
    longer = bench.trained("blue-fox", varied(Variant(), steps=6))
    (not_it,) = again.images(again.overlay([("blue-fox", longer)], DEFAULT_MODE), requests[:1])
    assert (not_it != first).any()
    assert asked == [1, 1]


def test_an_incomplete_line_is_measured_again(bench, small, tmp_path):
    scenes, file = bench.scenes_of("dog")[:1], tmp_path / "figures.jsonl"
    found = Bench(small, tmp_path, steps=4, noises=(1,)).prompt_only(scenes)
    whole = file.read_text()
    file.write_text(whole[:-9])
    assert Bench(small, tmp_path, steps=4, noises=(1,)).prompt_only(scenes).by_noise == found.by_noise
    assert file.read_text().splitlines()[-1] == whole.splitlines()[-1]


def test_other_settings_are_another_result_and_other_defaults_are_not(bench, small):
    """A run with earlier defaults as explicit settings is the earlier run."""

    def path(bench, name, variant):
        return bench._path(bench._job(name, variant, []), variant)

    here = path(bench, "dog", Variant())
    longer = Bench(small, bench.out, steps=5, noises=(3,))
    assert path(longer, "dog", Variant()) != here
    assert path(longer, "dog", varied(Variant(), steps=4)) == here
    assert path(bench, "dog", varied(Variant(), learning_rate=1e-4)) != here
    assert path(bench, "cat", Variant()) != here
    assert path(bench, "dog", varied(Variant(), lambda_base=1.0)) == here  # it acts in merged mode only
    merged = Variant(mode=Mode.MERGED)
    assert path(bench, "dog", varied(merged, lambda_base=1.0)) != path(bench, "dog", merged)


def test_in_merged_mode_training_starts_from_the_earlier_concepts(bench):
    variant = Variant(mode=Mode.MERGED)
    (_, alone), (_, after) = in_order(bench, ["dog", "cat"], variant)
    assert bench.trained("dog", variant).n_neurons == alone.n_neurons
    first = bench.trained("cat", variant)
    assert any(
        (first.values[s] != after.values[s]).any() for s in first.values if len(first.values[s]) == len(after.values[s])
    )


def test_the_last_concept_has_forgotten_nothing(bench):
    _, after, end = one_after_another(
        bench, ["dog", "cat"], Variant(mode=Mode.MERGED), lambda name: bench.scenes_of(name)[:2]
    )
    assert after["cat"].by_noise == end["cat"].by_noise
    assert after["dog"].by_noise != end["dog"].by_noise


def test_free_weights_have_no_owner(bench):
    trained = in_order(bench, ["dog", "cat"], varied(Variant(mode=Mode.MERGED), policy=Policy.EXCLUSIVE, budget=0.1))
    assert free_after(trained) == pytest.approx({"dog": 90, "cat": 80}, abs=0.1)
    trained = in_order(bench, ["dog", "cat"], varied(Variant(mode=Mode.MERGED), budget=0.1))
    assert 80.5 < free_after(trained)["cat"] < 90


def test_the_five_are_trained_on_the_individuals_of_their_held_out_scenes():
    """The package's dog and hat are others: the figures of the five must not be measured with them."""
    for example in examples.FIVE:
        rendered = np.stack([np.asarray(image) for image in examples.images(example)])
        assert np.abs(training_pixels(example.name) - rendered.astype(float)).mean() <= 1


def test_every_individual_has_held_out_scenes(bench):
    for name in (*FIVE, *SWEEP):
        assert len(bench.scenes_of(name)) == 6
        assert bench.class_words[name]
    assert len([s for s in bench.scenes if s.kind == "pair"]) == 20
    assert len([s for s in bench.scenes if s.kind == "hat"]) == 9
    assert len([s for s in bench.scenes if s.kind == "sweep-pair"]) == 12


def test_the_prompt_only_baseline_removes_error_without_training(on_pocket):
    """With the colours in the prompt, the error on an individual is lower than with the class word alone."""
    assert on_pocket.described["blue-fox"] == "a blue and orange fox"
    assert on_pocket.prompt_only(on_pocket.scenes_of("blue-fox")).mean > 1


def test_of_two_concepts_in_a_scene_one_can_be_described(bench):
    pair = [s for s in bench.scenes if s.kind == "sweep-pair"][:1]
    first, second = pair[0].concepts
    both, one = bench.prompt_only(pair), bench.prompt_only(pair, named=[first])
    assert both.by_noise == bench.prompt_only(pair, named=[first, second]).by_noise
    assert both.by_noise != one.by_noise


def test_the_errors_of_noise_levels_add_up_to_the_error_removed(bench):
    found = bench.prompt_only(bench.scenes_of("dog")[:1])
    assert len(found.by_level) == len(TIMES)
    assert found.bare.shape == (len(bench.noises), len(TIMES))
    assert 100 * (1 - found.said.sum() / found.bare.sum()) == pytest.approx(np.mean(found.by_noise), abs=1)


def test_halves_of_real_pairs_are_most_similar_to_their_own_concept(bench):
    """The measure works: on scenes that show the pair, most halves are nearer to their own concept."""
    pairs = [s for s in bench.scenes if s.kind == "pair"]
    assert halves(bench, {}, pairs, seeds=(0,))["held-out scenes"].right > 0.7


def test_clip_finds_the_place_of_real_scenes(bench, pocket):
    """The measure works, also with an individual's class word alone."""
    clip = towers(base_folder.POCKET, name=pocket.name, device=pocket.device)
    scenes = [s for name in FIVE for s in bench.scenes_of(name)]
    texts = clip.texts([said(s, bench.bare) for s in scenes[:6]])  # the six places of the first
    seen, places = clip.images(list(bench.pixels_of(scenes))), np.tile(np.arange(6), len(FIVE))
    assert in_place(seen, texts, places) > 0.8
    assert in_place(seen, texts, np.roll(places, 1)) < 0.2


def test_plots_show_the_rows(tmp_path):
    def plotted(folder: str, mean: float) -> dict[str, bytes]:
        rows = {
            "budgets": [Row(name=f"{who} {b:g} %", cells={"x": mean + b}) for who in ("CNS", "random") for b in (1, 5)],
            "steps": [Row(name=f"{n} steps", cells={"x": mean * n}, spread=0.5) for n in (40, 80)],
            "sequences": [Row(name=f"CNS: {when}", cells={"x": mean}) for when in ("right after", "at the end")],
        }
        return {path.name: path.read_bytes() for path in write_plots(rows, tmp_path / folder)}

    one, same, other = plotted("one", 3), plotted("same", 3), plotted("other", 4)
    assert one == same
    assert set(one) == {"budgets.png", "steps.png", "sequences.png"}
    assert all(one[name] != other[name] for name in one)


def test_a_sheet_has_a_strip_for_every_row_with_images(bench):
    shown = Shown(overlay=EMPTY, prompts=("a dog on a beach",))
    rows = [Row(name=name, cells={}, shown=shown) for name in ("one", "two")]
    one, two = sheet(bench, "x", rows[:1]), sheet(bench, "x", [*rows, Row(name="figures alone", cells={})])
    assert one is not None
    assert two is not None
    assert two.height > 1.5 * one.height
    assert sheet(bench, "x", []) is None


def test_a_sheet_of_concepts_shows_what_they_were_trained_on(bench):
    named = shown_of(bench, [("blue-fox", bench.trained("blue-fox", Variant()))], DEFAULT_MODE)
    bare = Shown(overlay=EMPTY, prompts=("a fox on a beach",))
    one = sheet(bench, "x", [Row(name="prompt only", cells={}, shown=bare)])
    two = sheet(bench, "x", [Row(name="CNS", cells={}, shown=replace(named, prompts=named.prompts[:1]))])
    assert one is not None
    assert two is not None
    assert two.height > 1.5 * one.height


def test_every_question_has_a_description():
    assert all(question.__doc__ for question in QUESTIONS.values())


def test_training_removes_error_on_scenes_that_it_does_not_contain(on_pocket):
    """After 12 steps: at every noise seed far more than an embedding after one step."""
    scenes = on_pocket.scenes_of("blue-fox")

    def removed(variant: Variant) -> tuple[float, ...]:
        trained = [("blue-fox", on_pocket.trained("blue-fox", variant))]
        return on_pocket.removed(trained, DEFAULT_MODE, scenes).by_noise

    trained = removed(Variant())
    started = removed(varied(Variant(selection="V* alone"), warmup=1.0, steps=1))
    assert min(trained) > 4
    assert min(trained) > 2 * max(started)
