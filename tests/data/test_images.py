"""Rules of reading pictures: which files count, what they become, and their captions."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from picture_files import NOISE, one, refused, saved
from PIL import Image

from cnsctl.data import images as module
from cnsctl.data.images import read_images
from cnsctl.errors import ImageError

# which files


def test_a_folder_gives_its_pictures_by_name_and_passes_over_the_rest(tmp_path):
    for level, name in enumerate(["b.JPG", "a.png", "c.webp", "d.jpeg"]):
        saved(tmp_path / name, Image.new("RGB", (64, 64), (level * 60, 0, 0)))
    saved(tmp_path / ".hidden.png")
    saved(tmp_path / "e.gif")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub.png").mkdir()
    saved(tmp_path / "sub.png" / "z.png")
    assert [p.name for p in read_images(tmp_path, size=32)] == ["a.png", "b.JPG", "c.webp", "d.jpeg"]


def test_files_and_folders_are_read_in_the_order_given(tmp_path):
    (tmp_path / "f").mkdir()
    saved(tmp_path / "f" / "2.png", Image.new("RGB", (64, 64), "red"))
    saved(tmp_path / "1.png")
    named = saved(tmp_path / "picture", Image.new("RGB", (64, 64), "blue"), format="PNG")
    names = [p.name for p in read_images([tmp_path / "f", named, tmp_path / "1.png"], size=64)]
    assert names == ["2.png", "picture", "1.png"]


def test_content_decides_the_format_not_the_ending(tmp_path):
    assert (
        one(saved(tmp_path / "a.png", Image.fromarray(NOISE), format="WEBP", lossless=True)).pixels.tolist()
        == NOISE.tolist()
    )
    saved(tmp_path / "b.png", format="GIF")
    refused(tmp_path / "b.png", "no picture in the format PNG or JPEG or WEBP")


def test_a_folder_without_pictures_says_what_counts_and_what_it_saw(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.tiff").write_text("x")
    problem = refused(tmp_path, r"\.png, \.jpg, \.jpeg, \.webp count.*2 other files")
    assert "folder of pictures" in problem.hint
    (tmp_path / "inner").mkdir()
    saved(tmp_path / "inner" / "a.png")
    assert f"'{tmp_path / 'inner'}'" in refused(tmp_path, "no pictures").hint


def test_what_is_not_there_or_not_a_file_is_told(tmp_path):
    refused(tmp_path / "nowhere", "no folder or file '.*nowhere'")
    refused([], "no pictures were named")
    (tmp_path / "text.md").write_text("not a picture")
    refused(tmp_path / "text.md", "no picture in the format")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path, "not a regular file")
    (tmp_path / "pipe.png").unlink()
    (tmp_path / "gone.png").symlink_to(tmp_path / "missing")
    refused(tmp_path, "no file '.*gone.png'")
    (tmp_path / "gone.png").unlink()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path, "loop.png' cannot be read")
    refused(tmp_path / "loop.png", "loop.png' cannot be read")


@contextlib.contextmanager
def as_nobody():
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
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_missing_permissions_are_told_with_the_file(open_folder):
    locked, plain, inner = open_folder / "locked.png", open_folder / "plain.png", open_folder / "inner"
    saved(locked).chmod(0)
    saved(plain, Image.fromarray(NOISE)).chmod(0o644)
    (open_folder / "plain.txt").write_text("x")
    (open_folder / "plain.txt").chmod(0)
    inner.mkdir(mode=0)
    with as_nobody():
        refused(locked, r"locked.png' cannot be read \(Permission denied\)")
        refused(open_folder, "locked.png' cannot be read")
        refused(inner, "inner' cannot be read")
        refused(inner / "a.png", "a.png' cannot be read")
        refused(plain, "caption '.*plain.txt' cannot be read")


def test_too_many_pictures_are_refused_before_one_is_decoded(tmp_path, monkeypatch):
    for n in range(4):
        saved(tmp_path / f"{n}.png")
    monkeypatch.setattr(module, "decoded", None)
    with pytest.raises(ImageError, match="4 pictures, more than 3"):
        read_images(tmp_path, size=64, limit=3)


# pixels


@pytest.mark.parametrize("wide", [True, False])
def test_the_centre_square_is_cut_out(tmp_path, wide):
    pixels = np.full((64, 128, 3), 255, np.uint8)
    pixels[:, 32:96] = NOISE
    image = Image.fromarray(pixels)
    saved(tmp_path / "a.png", image if wide else image.transpose(Image.Transpose.TRANSPOSE))
    expected = NOISE if wide else NOISE.transpose(1, 0, 2)
    assert np.array_equal(one(tmp_path).pixels, expected)


@pytest.mark.parametrize(
    ("given_size", "size", "note"),
    [((64, 48), 128, "upscaled from 64x48"), ((300, 200), 128, None), ((64, 64), 64, None)],
)
def test_a_picture_has_the_size_wanted_and_tells_when_it_was_enlarged(tmp_path, given_size, size, note):
    saved(tmp_path / "a.png", Image.new("RGB", given_size, "red"))
    picture = one(tmp_path, size)
    assert picture.pixels.shape == (size, size, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    assert picture.note == note


def test_the_same_picture_twice_counts_once_and_is_noted(tmp_path):
    saved(tmp_path / "a.png")
    saved(tmp_path / "b.webp", lossless=True)
    saved(tmp_path / "c.png", Image.fromarray(NOISE))
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    first, other = read_images(tmp_path, size=64)
    assert first.note == "b.webp is the same and was left out; d.png is the same and was left out"
    assert (other.name, other.note) == ("c.png", None)


def test_the_hash_is_the_file_s(tmp_path):
    path = saved(tmp_path / "a.png")
    assert one(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_name_that_is_not_text_does_not_spread(tmp_path):
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
        (b"x" * 5000, "x" * 1000),
    ],
)
def test_a_caption_is_the_trimmed_text_of_the_file_beside(tmp_path, content, caption):
    saved(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_text("of no picture")
    assert one(tmp_path).caption == caption


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"\xff\xfea\0", "not UTF-8"), (b"a\x1b[31m", r"U\+001B"), (b"one\ntwo", r"U\+000A"), (b"a\0", r"U\+0000")],
)
def test_a_caption_that_is_no_line_of_text_is_refused(tmp_path, content, match):
    saved(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    refused(tmp_path, match)


def test_a_picture_without_a_caption_has_none(tmp_path):
    assert one(saved(tmp_path / "a.png")).caption is None
