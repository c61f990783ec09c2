"""`add` on images as people have them: shapes, masks, layouts, lists; each is said before training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import at, cnsctl, tree
from PIL import Image

import cnsctl as package
from cnsctl.app import judging
from cnsctl.app.understood import out_of_place
from cnsctl.data.images import read_images
from cnsctl.data.png import png_pixels
from cnsctl.results import as_json
from cnsctl.store import Store

SHAPES = {"a.png": (64, 64), "b.png": (64, 48), "c.jpg": (48, 64), "d.webp": (400, 60), "e.png": (64, 64)}
"""Width and height."""


def picture(name: str, size: tuple[int, int]) -> Image.Image:
    cells = np.random.default_rng(len(name) + sum(name.encode())).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def with_images(folder: Path, shapes=SHAPES) -> Path:
    folder.mkdir(parents=True)
    for name, size in shapes.items():
        picture(name, size).save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    return folder


QUICK = ("--steps", 3, "--batch-size", 2)


def test_the_whole_job_runs_on_images_of_several_shapes(empty, tmp_path):
    folder = with_images(tmp_path / "photos")
    (folder / "a.txt").write_text("a dog")
    done = cnsctl("add", "rex", folder, "--class", "dog", "--holdout", 2, *QUICK, *at(empty))
    assert done.code == 0, done.err
    assert "followed by the class word 'dog', as given" in done.err
    assert "5 images: 2 of 32x32, 1 of 28x36, 1 of 36x28, 1 of 64x16; " in done.err
    assert "1 of 5 have a caption" in done.err
    assert "d.webp: 40 % of it is cut off, to fit 64x16" in done.err
    store = Store.open(empty)
    stored = [png_pixels(store.blob(sha)).shape[:2] for sha in store.concept("rex")["references"]]
    assert stored == [(32, 32), (28, 36), (36, 28), (16, 64), (32, 32)]
    measured = cnsctl("eval", "rex", "--no-images", "--json", *at(empty))
    assert measured.code == 0, measured.err
    assert measured.json["concepts"][0]["forgetting"]["error_removed"] == 0
    assert cnsctl("verify", *at(empty)).code == 0
    assert cnsctl("gen", "<rex>", "--steps", 2, "-o", tmp_path / "x.png", *at(empty)).code == 0


@pytest.mark.usefixtures("unmeasured")
def test_the_resolution_changes_the_area_and_is_in_the_recipe(empty, tmp_path):
    folder = with_images(tmp_path / "photos", {"a.png": (64, 64), "b.png": (64, 48)})
    done = cnsctl("add", "rex", folder, "--class", "dog", "--resolution", 48, *QUICK, "--json", *at(empty))
    assert done.code == 0, done.err
    assert Store.open(empty).concept("rex")["recipe"]["resolution"] == 48
    sizes = [line["text"] for line in done.lines if line["type"] == "note" and "caption" in line["text"]]
    assert sizes[0].startswith("2 images: 1 of 48x48, 1 of 56x40;")


def test_a_resolution_that_the_base_cannot_see_is_refused_before_anything_happens(empty, images, monkeypatch):
    from cnsctl.bases.base_folder import BaseFolder

    monkeypatch.setattr(BaseFolder, "coarsest", 64)
    before = tree(empty)
    done = cnsctl("add", "rex", images, "--class", "dog", "--resolution", 48, *at(empty))
    assert (done.code, "multiples of 64 on this base model" in done.err) == (2, True), done.err
    assert "change --resolution" in done.err
    assert tree(empty) == before


def test_a_family_with_published_sizes_is_trained_on_them_at_its_own_resolution(tiny_folder):
    from dataclasses import replace

    from cnsctl.app.requests import image_sizes
    from cnsctl.bases.base_folder import open_folder
    from cnsctl.bases.sdxl.image_sizes import IMAGE_SIZES

    folder = open_folder(tiny_folder)
    folder = replace(folder, family=replace(folder.family, image_sizes=IMAGE_SIZES))
    assert image_sizes(folder, {"resolution": 1024}) == IMAGE_SIZES
    assert (768, 768) in image_sizes(folder, {"resolution": 768})
    assert (28, 36) in image_sizes(folder, {})


@pytest.mark.usefixtures("unmeasured")
def test_masks_change_the_delta_and_images_without_one_are_named(empty, tmp_path):
    folder = with_images(tmp_path / "photos", {"a.png": (64, 64), "b.png": (64, 48)})
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 20, 64))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "a.png")
    line = (folder, "--class", "dog", *QUICK, *at(empty))
    done = cnsctl("add", "rex", *line, "--masks", tmp_path / "masks")
    assert done.code == 0, done.err
    assert "1 of 2 have a mask" in done.err
    assert "without a mask, trained whole: b.png (1 of 2 images)" in done.err
    assert cnsctl("add", "max", *line).code == 0
    store = Store.open(empty)
    with_mask, whole = (store.delta(store.concept(name)) for name in ("rex", "max"))
    assert any((with_mask.vectors[e] != whole.vectors[e]).any() for e in whole.vectors)
    mask.resize((64, 32)).save(tmp_path / "masks" / "a.png")
    refused = cnsctl("add", "rex", *line, "--masks", tmp_path / "masks", "--replace")
    assert (refused.code, "another shape than its image" in refused.err) == (1, True)


@pytest.mark.usefixtures("unmeasured")
def test_the_class_word_is_that_of_the_folder_unless_given(empty, tmp_path):
    folder = with_images(tmp_path / "3_sks top hat", {"a.png": (64, 64)})
    done = cnsctl("add", "sks", folder, *QUICK, *at(empty))
    assert done.code == 0, done.err
    assert "the class word 'top hat', from the folder '3_sks top hat'" in done.err
    assert Store.open(empty).concept("sks")["class_word"] == "top hat"
    assert cnsctl("add", "sks", folder, "--class", "dog", "--replace", *QUICK, *at(empty)).code == 0
    assert Store.open(empty).concept("sks")["class_word"] == "dog"


@pytest.mark.usefixtures("unmeasured")
def test_what_looks_wrong_is_warned_of_and_trained(empty, tmp_path):
    folder = with_images(tmp_path / "photos", {"a.png": (64, 64)})
    Image.new("RGBA", (64, 64), (3, 3, 3, 0)).save(folder / "clear.png")
    picture("a.png", (60, 60)).save(folder / "copy.png")
    done = cnsctl("add", "rex", folder, "--class", "dog", *QUICK, "--json", *at(empty))
    assert done.code == 0, done.err
    assert [line["text"] for line in done.lines if line["type"] == "warning"] == [
        "copy.png is nearly equal to a.png: what they show counts twice",
        "clear.png: the image is fully transparent, so it is trained as white",
    ]


@pytest.mark.usefixtures("unmeasured")
def test_an_image_unlike_all_others_is_warned_of_where_there_is_a_clip(empty, tmp_path, monkeypatch):
    from cnsctl.app.session import Session

    monkeypatch.setattr(Session, "clip", lambda _self: MeanColours())
    done = cnsctl("add", "red", reds(tmp_path / "photos", blue=True), "--class", "dog", *QUICK, *at(empty))
    assert "warning: blue.png is unlike all other images: does it show the concept?" in done.err


class MeanColours:
    """In place of a CLIP."""

    backbone = "means"

    def images(self, pixels):
        return np.stack([image.astype(np.float64).mean((0, 1)) + 1 for image in pixels])

    def texts(self, texts):
        return np.ones((len(texts), 3))


def reds(folder: Path, *, blue: bool = False) -> Path:
    """Five red images, and a blue one."""
    folder.mkdir()
    for i in range(5):
        red = np.random.default_rng(i).integers(0, 40, (40, 40, 3), dtype=np.uint8) + np.array([200, 0, 0], np.uint8)
        Image.fromarray(red).save(folder / f"{i}.png")
    if blue:
        Image.fromarray(red[..., ::-1]).save(folder / "blue.png")
    return folder


def test_images_of_one_kind_and_an_image_that_is_nearly_equal_to_another_are_not_called_unlike_the_others(
    tmp_path, monkeypatch
):
    """A green one with the lightness of a red one: CLIP and the comparison of thumbnails disagree."""
    folder = reds(tmp_path / "photos")
    lightness = np.asarray(Image.open(folder / "4.png").convert("L"))
    session = SimpleNamespace(clip=MeanColours)
    monkeypatch.setattr(judging, "alike", lambda *_: iter(()))
    assert list(out_of_place(session, "dog", read_images(folder, sizes=[(40, 40)]).images)) == []
    green = np.stack([0 * lightness, (lightness / 0.587).astype(np.uint8), 0 * lightness], axis=-1)
    Image.fromarray(green).save(folder / "green.png")
    found = read_images(folder, sizes=[(40, 40)])
    assert found.warnings == ("green.png is nearly equal to 4.png: what they show counts twice",)
    assert list(out_of_place(session, "dog", found.images)) == []


def test_subfolders_are_named_in_the_hint_and_read_with_the_flag(empty, tmp_path):
    with_images(tmp_path / "photos" / "inner", {"a.png": (64, 64)})
    done = cnsctl("add", "rex", tmp_path / "photos", "--class", "dog", *at(empty))
    assert (done.code, "--recursive" in done.err) == (1, True)
    assert cnsctl("score", "rex", tmp_path / "photos", "--class", "dog", "--recursive", *at(empty)).code == 0


# lists


@pytest.fixture
def listed(tmp_path):
    with_images(tmp_path / "data" / "barn", {"a.png": (64, 64), "b.png": (48, 64)})
    with_images(tmp_path / "data" / "Cat Toy", {"c.png": (64, 64)})
    (tmp_path / "data" / "bad").mkdir()
    entries = [
        {"instance_prompt": "photo of a <new1> barn", "class_prompt": "barn", "instance_data_dir": "data/barn"},
        {"instance_prompt": "a <new1> toy", "class_prompt": "a photo of a toy", "instance_data_dir": "data/Cat Toy"},
    ]
    bad = {"instance_prompt": "x", "class_prompt": "dog", "instance_data_dir": "data/bad"}
    (tmp_path / "two.json").write_text(json.dumps(entries))
    (tmp_path / "three.json").write_text(json.dumps([entries[0], bad, entries[1]]))
    return tmp_path


def rows(result):
    return [(row["name"], row["class_word"], row["state"], row["exit"]) for row in result["concepts"]]


@pytest.mark.usefixtures("unmeasured")
def test_a_list_is_trained_and_what_failed_is_trained_by_the_same_call_again(empty, listed):
    line = ("add", "--from", listed / "three.json", *QUICK, "--json", *at(empty))
    done = cnsctl(*line)
    assert done.code == 1
    assert rows(done.lines[-1]) == [
        ("barn", "barn", "trained", 0),
        ("bad", "dog", "failed", 1),
        ("cat-toy", "toy", "trained", 0),
    ]
    assert "no images in the folder" in done.lines[-1]["concepts"][1]["message"]
    problem = json.loads(done.err.splitlines()[-1])
    assert (problem["code"], problem["message"]) == ("image", "1 of 3 concepts failed: bad")
    before = tree(empty)
    picture("x", (64, 64)).save(listed / "data" / "bad" / "x.png")
    again = cnsctl(*line)
    assert again.code == 0, again.err
    assert [row[2] for row in rows(again.lines[-1])] == ["skipped", "trained", "skipped"]
    assert {name: before[name] for name in before if name.startswith("blobs")}.items() <= tree(empty).items()
    assert [c["name"] for c in cnsctl("ls", "--json", *at(empty)).json["concepts"]] == ["barn", "cat-toy", "bad"]


@pytest.mark.usefixtures("unmeasured")
def test_the_table_of_a_list_has_a_row_per_concept(empty, listed):
    done = cnsctl("add", "--from", listed / "two.json", *QUICK, *at(empty))
    assert done.code == 0, done.err
    assert [line.split("\t")[:4] for line in done.out.splitlines()] == [
        ["barn", "barn", "trained", "2"],
        ["cat-toy", "toy", "trained", "1"],
    ]
    assert "training <cat-toy>, 2 of 2, on" in done.err
    assert cnsctl("add", "--from", listed / "two.json", "-q", *at(empty)).out == ""


@pytest.mark.slow
def test_python_trains_a_list_as_the_command_does_and_each_concept_as_add_does(empty, listed, tiny_folder):
    shell = listed / "shell"
    assert cnsctl("init", "--base", tiny_folder, *at(shell)).code == 0
    by_command = cnsctl("add", "--from", listed / "two.json", *QUICK, "--json", *at(shell)).lines[-1]
    with package.open_store(empty).load() as session:
        alone = session.train("cat-toy", listed / "data" / "Cat Toy", class_word="toy", steps=3, batch_size=2).result()
        by_python = as_json(session.train_list(listed / "two.json", steps=3, batch_size=2).result())
    one, other = by_command["concepts"], by_python["concepts"]
    assert (one[0], other[1]["state"]) == (json.loads(json.dumps(other[0])), "skipped")
    assert one[1]["error_removed"] == alone.concept.scores.error_removed
    assert len({Store.open(store).concept("cat-toy")["delta"] for store in (shell, empty)}) == 1


@pytest.mark.parametrize(
    "line",
    [("add",), ("add", "rex"), ("add", "rex", "x", "--from", "l.json"), ("add", "--from", "l.json", "--class", "dog")],
)
def test_a_list_and_a_concept_exclude_each_other(line):
    done = cnsctl(*line)
    assert done.code == 2
    assert done.err.startswith("error[usage]: ")
    assert "hint: " in done.err


@pytest.mark.parametrize(("line", "code"), [(("--resolution", 33), 2), (("--dtype", "fp16"), 2), (("--steps", 1), 2)])
def test_a_setting_that_is_wrong_for_all_is_refused_once(empty, listed, line, code):
    done = cnsctl("add", "--from", listed / "two.json", *line, *at(empty))
    assert (done.code, done.out) == (code, "")
    assert done.err.count("error[") == 1


# families


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("family", ["sdxl", "pixart"])
def test_other_families_train_on_several_shapes_and_know_which_part_of_an_image_they_see(family, tmp_path, monkeypatch):
    """SDXL's time ids: the original size, where the crop begins, and the size of the crop."""
    import tiny

    from cnsctl.bases.loaded import LoadedBase

    seen = set()
    denoise = LoadedBase.denoise

    def noting(self, noisy, times, frames=None):
        if frames is not None:  # None while it is measured
            seen.update((f.original, f.crop, f.target) for f in frames)
            assert len({f.target for f in frames}) == 1
        return denoise(self, noisy, times, frames)

    monkeypatch.setattr(LoadedBase, "denoise", noting)
    base = getattr(tiny, f"make_{family}")(tmp_path / family)
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", base, *store).code == 0
    folder = with_images(tmp_path / "photos", {"a.png": (64, 64), "b.png": (50, 100)})
    done = cnsctl("add", "rex", folder, "--class", "dog", "--steps", 4, "--batch-size", 2, *store)
    assert done.code == 0, done.err
    assert {original for original, _, _ in seen} == {(64, 64), (100, 50)}
    assert ((64, 64), (0, 0), (32, 32)) in seen
    cropped = next(f for f in seen if f[0] == (100, 50))
    assert cropped[1][0] > 0
    assert cropped[1][1] == 0
    assert cropped[2][0] > cropped[2][1]
    assert cnsctl("verify", *store).code == 0
