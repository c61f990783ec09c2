"""Rules of reading images: which files count, their pixels and their captions."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import NOISE, images, one, refused, saved
from PIL import Image

from cnsctl.data import images as module
from cnsctl.data.buckets import bucket_sizes
from cnsctl.data.images import read_images
from cnsctl.errors import ImageError

# which files


def test_the_images_of_a_folder_are_read_by_name_and_other_files_ignored(tmp_path):
    for level, name in enumerate(["b.JPG", "a.png", "c.webp", "d.jpeg"]):
        saved(tmp_path / name, Image.new("RGB", (64, 64), (level * 60, 0, 0)))
    saved(tmp_path / ".hidden.png")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub.png").mkdir()
    saved(tmp_path / "sub.png" / "z.png")
    assert [p.name for p in images(tmp_path, 32)] == ["a.png", "b.JPG", "c.webp", "d.jpeg"]


def test_files_and_folders_are_read_in_the_order_given(tmp_path):
    (tmp_path / "f").mkdir()
    saved(tmp_path / "f" / "2.png", Image.new("RGB", (64, 64), "red"))
    saved(tmp_path / "1.png")
    named = saved(tmp_path / "image", Image.new("RGB", (64, 64), "blue"), format="PNG")
    names = [p.name for p in images([tmp_path / "f", named, tmp_path / "1.png"])]
    assert names == ["2.png", "image", "1.png"]


def test_the_content_determines_the_format_and_not_the_suffix(tmp_path):
    assert (
        one(saved(tmp_path / "a.png", Image.fromarray(NOISE), format="WEBP", lossless=True)).pixels.tolist()
        == NOISE.tolist()
    )
    saved(tmp_path / "b.png", format="PPM")
    refused(tmp_path / "b.png", "not an image in PNG, JPEG, WEBP, AVIF, HEIF, GIF, BMP, TIFF format")


def test_a_folder_without_images_is_refused_with_its_files_and_the_suffixes(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.svg").write_text("x")
    problem = refused(tmp_path, r"2 other files: 1 \.svg, 1 \.txt; images end in \.png, \.jpg, \.jpeg, \.jfif, \.webp")
    assert "folder of images" in problem.hint
    (tmp_path / "inner").mkdir()
    saved(tmp_path / "inner" / "a.png")
    assert f"'{tmp_path / 'inner'}'" in refused(tmp_path, "no images").hint


def test_an_absent_file_or_another_kind_of_file_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "folder or file not found: '.*nowhere'")
    refused([], "no images given")
    (tmp_path / "text.md").write_text("not an image")
    refused(tmp_path / "text.md", "not an image in")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path, "not a regular file")
    (tmp_path / "pipe.png").unlink()
    (tmp_path / "gone.png").symlink_to(tmp_path / "missing")
    refused(tmp_path, "image not found: '.*gone.png'")
    (tmp_path / "gone.png").unlink()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path, "cannot read '.*loop.png'")
    refused(tmp_path / "loop.png", "cannot read '.*loop.png'")


@contextlib.contextmanager
def without_privileges():
    """File permissions do not bind the superuser, whom tests may run as."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that every user can open."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_missing_permissions_are_reported_with_the_file(open_folder):
    locked, plain, inner = open_folder / "locked.png", open_folder / "plain.png", open_folder / "inner"
    saved(locked).chmod(0)
    saved(plain, Image.fromarray(NOISE)).chmod(0o644)
    (open_folder / "plain.txt").write_text("x")
    (open_folder / "plain.txt").chmod(0)
    inner.mkdir(mode=0)
    with without_privileges():
        refused(locked, r"cannot read '.*locked.png': Permission denied")
        refused(open_folder, "cannot read the caption '.*plain.txt'")
        refused(inner, "cannot read '.*inner'")
        refused(inner / "a.png", "cannot read '.*a.png'")
        refused(plain, "cannot read the caption '.*plain.txt'")


def test_too_many_images_are_refused_before_one_is_decoded(tmp_path, monkeypatch):
    for n in range(4):
        saved(tmp_path / f"{n}.png")
    monkeypatch.setattr(module, "decode", None)
    with pytest.raises(ImageError, match=r"too many images: .*: 4 \(at most 3\)"):
        read_images(tmp_path, sizes=bucket_sizes(64, 8), limit=3)


# pixels


@pytest.mark.parametrize("wide", [True, False])
def test_an_image_that_is_longer_than_all_buckets_is_cropped_to_its_middle(tmp_path, wide):
    pixels = np.full((32, 256, 3), 255, np.uint8)
    pixels[:, 64:192] = NOISE[:32, :32].repeat(4, axis=1)
    image = Image.fromarray(pixels)
    saved(tmp_path / "a.png", image if wide else image.transpose(Image.Transpose.TRANSPOSE))
    expected = pixels[:, 64:192] if wide else pixels[:, 64:192].transpose(1, 0, 2)
    found = one(tmp_path)
    assert np.array_equal(found.pixels, expected)
    assert found.cut == 0.5
    assert found.note == f"50 % of it is cut off, to fit {'128x32' if wide else '32x128'}"


@pytest.mark.parametrize(
    ("given_size", "size", "shape", "note"),
    [
        ((64, 48), 128, (112, 144), "upscaled from 64x48"),
        ((300, 200), 128, (96, 160), None),
        ((64, 64), 64, (64, 64), None),
    ],
)
def test_an_image_has_the_size_of_its_bucket_and_a_note_if_it_was_upscaled(tmp_path, given_size, size, shape, note):
    saved(tmp_path / "a.png", Image.new("RGB", given_size, "red"))
    found = one(tmp_path, size)
    assert found.pixels.shape == (*shape, 3)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable
    assert found.note == note


@settings(max_examples=20)
@given(st.integers(64, 300))
def test_a_square_image_is_resized_whole_as_before_there_were_buckets(side):
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        found = one(saved(Path(folder) / "a.png", Image.fromarray(pixels)))
    expected = Image.fromarray(pixels).crop((0, 0, side, side)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(found.pixels, np.asarray(expected))


def test_a_duplicate_image_is_ignored_and_noted(tmp_path):
    saved(tmp_path / "a.png")
    saved(tmp_path / "b.webp", lossless=True)
    saved(tmp_path / "c.png", Image.fromarray(NOISE))
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    first, other = images(tmp_path)
    assert first.note == "b.webp is a duplicate and was ignored; d.png is a duplicate and was ignored"
    assert (other.name, other.note) == ("c.png", None)


def test_the_hash_is_that_of_the_file(tmp_path):
    path = saved(tmp_path / "a.png")
    assert one(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_name_that_is_not_utf_8_is_replaced(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    saved(path)
    assert one(tmp_path).name == "?.png"


# captions


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b"a dog", "a dog"),
        (b"  a dog\r\n", "a dog"),
        (b"\xef\xbb\xbfun \xc3\xa9l\xc3\xa8ve\n", "un élève"),
        (b"a\tdog", "a dog"),
        (b"", None),
        (b" \n\n", None),
        (b"a cat on a sofa.\r\nThe light is soft.\r\n", "a cat on a sofa. The light is soft."),
        (b"x" * 5000, "x" * 1000),
    ],
)
def test_a_caption_is_the_trimmed_text_of_the_file_beside(tmp_path, content, caption):
    saved(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_text("without an image")
    assert one(tmp_path).caption == caption


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"\xff\xfea", "not UTF-8"), (b"Zo\xeb", "not UTF-8"), (b"a\x1b[31m", r"U\+001B"), (b"a\0", r"U\+0000")],
)
def test_a_caption_that_is_not_text_is_refused(tmp_path, content, match):
    saved(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    refused(tmp_path, match)


def test_an_image_without_a_caption_file_has_no_caption(tmp_path):
    assert one(saved(tmp_path / "a.png")).caption is None
