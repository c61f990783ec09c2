"""Rules of folders of images as the tools of the field leave them. The files are made here; none is anybody's."""

import json
import os
import zlib

import numpy as np
import pytest
from image_files import NOISE, refused, saved
from PIL import Image

from cnsctl.data import image_kinds
from cnsctl.data.buckets import bucket_sizes
from cnsctl.data.concept_lists import class_word_of, read_concepts_list
from cnsctl.data.images import read_images
from cnsctl.errors import ImageError


def read(source, **options):
    return read_images(source, sizes=bucket_sizes(32, 4), **options)


def with_images(folder, *names):
    """A folder with different images of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        noise = np.random.default_rng(zlib.crc32(f"{folder.name}/{name}".encode()))
        saved(folder / name, Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)), format="PNG")
    return folder


def captions(found):
    return {image.name: image.caption for image in found.images}


# captions


@pytest.mark.parametrize("name", ["a.txt", "a.caption", "a.png.txt", "a.TXT", "A.txt", "a.png.caption"])
def test_a_text_file_of_the_images_name_is_its_caption(tmp_path, name):
    with_images(tmp_path, "a.png", "b.png")
    (tmp_path / name).write_text("a dog\r\non a sofa\n")
    found = read(tmp_path)
    assert captions(found) == {"a.png": "a dog on a sofa", "b.png": None}
    assert found.notes == ()


def test_a_text_file_of_no_image_is_named(tmp_path):
    with_images(tmp_path, "a.png")
    (tmp_path / "c.txt").write_text("a dog")
    assert read(tmp_path).notes == (f"1 text file in '{tmp_path.name}' without an image: c.txt",)


def test_captions_of_metadata_jsonl_are_read_also_for_images_in_subfolders(tmp_path):
    with_images(tmp_path, "a.png", "b.png")
    with_images(tmp_path / "sub", "c.png")
    lines = [
        {"file_name": "a.png", "text": "one\ntwo"},
        {"file_name": "sub/c.png", "caption": "three"},
        {"file_name": "gone.png", "text": "four"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = read(tmp_path, recursive=True)
    assert captions(found) == {"a.png": "one two", "b.png": None, "c.png": "three"}
    assert found.notes == ("metadata.jsonl: 1 line for other files",)


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "a"}', "3"])
def test_a_line_of_metadata_jsonl_that_is_not_one_is_refused_with_its_number(tmp_path, line):
    with_images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n' + line)
    refused(tmp_path, "line 2 of '.*metadata.jsonl'")


def test_images_that_are_named_one_by_one_keep_their_captions_and_the_class_of_their_folder(tmp_path):
    folder = with_images(tmp_path / "4_sks red fox", "a.png", "b.png")
    (folder / "b.txt").write_text("a red fox")
    found = read([folder / "b.png", folder / "a.png"])
    assert list(captions(found).items()) == [("b.png", "a red fox"), ("a.png", None)]
    assert found.class_word == "red fox"


# class words


@pytest.mark.parametrize(
    ("name", "word"),
    [("10_sks dog", "dog"), ("1_ohwx top hat", "top hat"), ("10_dog", None), ("dog6", None), ("2024_my trip", None)],
)
def test_the_name_of_kohyas_folder_gives_the_class_word(tmp_path, name, word):
    found = read(with_images(tmp_path / name, "a.png"))
    assert found.class_word == word
    assert found.source == ("" if word is None else f"the folder {name!r}")


def test_kohyas_folder_above_is_read_and_its_repeats_are_mentioned(tmp_path):
    with_images(tmp_path / "img" / "10_sks dog", "a.png")
    with_images(tmp_path / "img" / "5_sks dog", "b.png")
    found = read(tmp_path / "img")
    assert [image.name for image in found.images] == ["a.png", "b.png"]
    assert found.class_word == "dog"
    assert found.notes == (
        "10 repeats are not needed: all images count equally",
        "5 repeats are not needed: all images count equally",
    )


def test_the_class_of_a_dreambooth_subject_is_read_from_the_list_beside(tmp_path):
    folder = with_images(tmp_path / "dataset" / "grey_sloth_plushie", "00.png")
    (tmp_path / "dataset" / "prompts_and_classes.txt").write_text(
        "Classes\n\nsubject_name,class\nbackpack,backpack\ngrey_sloth_plushie,stuffed animal\n\nPrompts\n\n"
        "prompt_list = [\n'a {0} {1} in the jungle'.format(unique_token, class_token),\n]\n"
    )
    found = read(folder)
    assert (found.class_word, found.source) == ("stuffed animal", "'prompts_and_classes.txt'")


@pytest.mark.parametrize("name", ["dataset.json", "concepts_list.json"])
def test_the_class_of_a_listed_folder_is_read_from_the_list_near_it(tmp_path, name):
    folder = with_images(tmp_path / "benchmark_dataset" / "barn_2", "1.png")
    entries = [
        {"instance_prompt": "photo of a <new1> toy", "class_prompt": "toy", "instance_data_dir": "./other/toy"},
        {"instance_prompt": "photo of a <new1> barn", "class_prompt": "barn", "instance_data_dir": "./x/barn_2"},
    ]
    (tmp_path / name).write_text(json.dumps(entries))
    found = read(folder)
    assert (found.class_word, found.source) == ("barn", f"'{name}'")


def test_folders_that_disagree_about_the_class_word_give_none(tmp_path):
    one, other = (with_images(tmp_path / name, "a.png") for name in ("1_x dog", "1_x cat toy"))
    assert read([one, other]).class_word is None
    assert read([one]).class_word == "dog"


# which files


def test_what_is_not_an_image_is_counted_once_by_suffix(tmp_path):
    with_images(tmp_path, "a.png", "b.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):  # systems write them
        (tmp_path / name).write_text("x")
    assert read(tmp_path).notes == ()
    for name in ("a.xmp", "film.mov", "a.MOV", "README"):
        (tmp_path / name).write_text("x")
    assert read(tmp_path).notes == (f"left out in '{tmp_path.name}': 2 .mov, 1 .xmp, 1 without suffix",)


def test_an_image_is_known_by_its_content_whatever_its_suffix(tmp_path):
    with_images(tmp_path, "a.png", "b.jfif", "c.dat", "d")
    assert [image.name for image in read(tmp_path).images] == ["a.png", "b.jfif", "c.dat", "d"]


def test_a_raw_file_of_a_camera_is_not_taken_for_a_tiff(tmp_path):
    with_images(tmp_path, "a.png")
    saved(tmp_path / "b.nef", Image.fromarray(NOISE), format="TIFF")
    found = read(tmp_path)
    assert [image.name for image in found.images] == ["a.png"]
    assert found.notes == (f"left out in '{tmp_path.name}': 1 .nef",)


def test_subfolders_are_read_if_asked_without_hidden_ones_and_without_loops(tmp_path):
    with_images(tmp_path, "a.png")
    with_images(tmp_path / "s" / "t", "a.png")
    with_images(tmp_path / ".hidden", "b.png")
    (tmp_path / "s" / "loop").symlink_to(tmp_path)
    assert len(read(tmp_path).images) == 1
    assert [image.name for image in read(tmp_path, recursive=True).images] == [f"{tmp_path.name}/a.png", "t/a.png"]


@pytest.fixture
def without_heic(monkeypatch):
    monkeypatch.setattr(image_kinds, "_heif_is_ready", lambda: False)


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(200)


@pytest.mark.usefixtures("without_heic")
def test_heic_files_that_cannot_be_read_are_warned_of_with_what_to_install(tmp_path):
    with_images(tmp_path, "a.png")
    for name in ("b.HEIC", "c.heic", "d.jpg"):
        (tmp_path / name).write_bytes(HEIC)
    found = read(tmp_path)
    assert [image.name for image in found.images] == ["a.png"]
    assert found.warnings == ("not read: 2 .heic, 1 .jpg; to read HEIC: pip install 'cnsctl[heic]'",)


@pytest.mark.usefixtures("without_heic")
def test_a_folder_of_heic_files_alone_is_refused_with_what_to_install(tmp_path):
    (tmp_path / "b.heic").write_bytes(HEIC)
    assert refused(tmp_path, "1 .heic").hint == "pip install 'cnsctl[heic]'"
    assert refused(tmp_path / "b.heic", "HEIC needs an optional package").hint == "pip install 'cnsctl[heic]'"


# lists of concepts


def listed(path, *entries):
    path.write_text(json.dumps(entries))
    return read_concepts_list(path)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("dog", "dog"),
        ("a photo of a dog", "dog"),
        ("photo of an old  barn.", "old barn"),
        ("A photograph of the top hat", "top hat"),
        ("", None),
        ("./captions.txt", None),
        (None, None),
        ("a <new1> dog", None),
    ],
)
def test_the_class_word_is_what_the_prompt_shows(prompt, word):
    assert class_word_of({"class_prompt": prompt}) == word


def test_a_concept_is_named_by_its_token_or_else_by_its_folder(tmp_path):
    found = listed(
        tmp_path / "list.json",
        {"instance_prompt": "photo of a <new1> barn", "instance_data_dir": "./data/Barn 2"},
        {"instance_prompt": "a <cat-toy>", "instance_data_dir": "x"},
        {"instance_prompt": "a photo of <TOK>", "instance_data_dir": "y/10_sks dog"},
        {"instance_data_dir": "z/barn-2/"},
    )
    assert [concept.name for concept in found] == ["barn-2", "cat-toy", "sks-dog", "barn-2-2"]


def test_folders_are_beside_the_list_or_else_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "lists" / "a").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path)
    found = listed(
        tmp_path / "lists" / "l.json",
        *({"instance_data_dir": name} for name in ("./a", "./b", "./c", os.fspath(tmp_path / "b"))),
    )
    beside = tmp_path / "lists"
    assert [c.folder.resolve() for c in found] == [beside / "a", tmp_path / "b", beside / "c", tmp_path / "b"]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "[3]", '[{"class_prompt": "x"}]', '[[{"instance_data_dir": "a"}]]']
)
def test_a_file_that_is_not_a_list_of_concepts_is_refused(tmp_path, text):
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(ImageError) as failure:
        read_concepts_list(tmp_path / "l.json")
    assert failure.value.hint
