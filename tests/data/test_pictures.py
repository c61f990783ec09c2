"""Rules of reading pictures, with files broken for real."""

import contextlib
import hashlib
import os
import shutil
import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from cnsctl.data import pictures as module
from cnsctl.data.decoding import decoded, opened
from cnsctl.data.pictures import peek_pictures, read_pictures
from cnsctl.errors import PictureProblem

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4)), np.full((64, 64), 90)], 2).astype(np.uint8)


def saved(path, image=None, **options):
    image = Image.fromarray(SMOOTH) if image is None else image
    image.save(path, **options)
    return path


def one(source, size=64):
    (picture,) = read_pictures(source, size=size)
    return picture


def refused(source, match):
    """Both the cheap check and the reading refuse, in the same words."""
    with pytest.raises(PictureProblem, match=match) as read:
        read_pictures(source, size=64)
    with pytest.raises(PictureProblem) as peeked:
        peek_pictures(source)
    assert str(peeked.value) == str(read.value)
    assert read.value.hint
    return read.value


def png(width, height, *, bits=1, colour=0, rows=b""):
    """A PNG by hand, with whatever its header claims."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


# which files


def test_a_folder_gives_its_pictures_by_name_and_passes_over_the_rest(tmp_path):
    for level, name in enumerate(["b.JPG", "a.png", "c.webp", "d.jpeg"]):
        saved(tmp_path / name, Image.new("RGB", (64, 64), (level * 60, 0, 0)))
    saved(tmp_path / ".hidden.png")
    saved(tmp_path / "e.gif")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub.png").mkdir()
    saved(tmp_path / "sub.png" / "z.png")
    assert [p.name for p in read_pictures(tmp_path, size=32)] == ["a.png", "b.JPG", "c.webp", "d.jpeg"]
    assert [p.name for p in peek_pictures(tmp_path)] == ["a.png", "b.JPG", "c.webp", "d.jpeg"]


def test_files_and_folders_are_read_in_the_order_given(tmp_path):
    (tmp_path / "f").mkdir()
    saved(tmp_path / "f" / "2.png", Image.new("RGB", (64, 64), "red"))
    saved(tmp_path / "1.png")
    named = saved(tmp_path / "picture", Image.new("RGB", (64, 64), "blue"), format="PNG")
    names = [p.name for p in read_pictures([tmp_path / "f", named, tmp_path / "1.png"], size=64)]
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
    with pytest.raises(PictureProblem, match="4 pictures, more than 3"):
        read_pictures(tmp_path, size=64, limit=3)


# broken files


@pytest.mark.parametrize(
    ("ending", "options"), [("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("webp", {})]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_file_cut_short_is_refused(tmp_path, ending, options, share):
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(NOISE), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tmp_path, "broken or cut short")


def test_an_empty_file_is_told_as_empty(tmp_path):
    (tmp_path / "a.png").touch()
    refused(tmp_path, "is empty")


def encoded(form):
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE[:24, :20]).save(file, form, exif=exif)
    return file.getvalue()


ENCODED = [encoded(form) for form in ("PNG", "JPEG", "WEBP")]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ENCODED),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_whatever_the_bytes_only_one_kind_of_failure_comes_out(content, changes, cut):
    damaged = bytearray(content[: cut if cut % 3 == 0 else None])
    for at, value in changes:
        if damaged:
            damaged[at % len(damaged)] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        with contextlib.suppress(PictureProblem):
            decoded(Path(file.name))


@pytest.mark.parametrize(
    "content",
    [
        png(9500, 9500, rows=b"\0" * (9500 * 1189)),
        png(12_000, 6_000, bits=8, rows=b"\0" * 100),
        png(16_385, 16),
        png(100_000, 100_000),
        png(2**31 - 1, 2**31 - 1),
    ],
    ids=["zeros", "72 megapixels", "long side", "bomb", "largest"],
)
def test_a_giant_is_refused_before_its_pixels_are_decoded(tmp_path, monkeypatch, content):
    (tmp_path / "a.png").write_bytes(content)
    assert len(content) < 20_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    refused(tmp_path, "too large")


def test_a_giant_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(300 << 20)
    refused(tmp_path, "has 300 MB, more than 256")


def test_pictures_with_a_side_below_sixteen_are_refused(tmp_path):
    saved(tmp_path / "a.png", Image.new("RGB", (400, 15)))
    refused(tmp_path, "400x15: too small")
    saved(tmp_path / "a.png", Image.new("RGB", (16, 16)))
    assert one(tmp_path).note == "upscaled from 16x16"


def test_the_library_s_leniency_stays_off():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_every_exif_orientation_is_turned_upright(tmp_path, orientation, ending):
    upright = Image.fromarray(SMOOTH)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}, "png": {}}[ending]
    saved(tmp_path / f"a.{ending}", stored, exif=exif, **options)
    assert np.abs(one(tmp_path).pixels.astype(int) - SMOOTH).max() <= (4 if ending == "jpg" else 0)


def test_transparency_becomes_white(tmp_path):
    clear = np.dstack([SMOOTH, np.zeros((64, 64), np.uint8)])
    clear[:, 32:, 3] = 255
    expected = SMOOTH.copy()
    expected[:, :32] = 255
    saved(tmp_path / "rgba.png", Image.fromarray(clear))
    saved(tmp_path / "rgba.webp", Image.fromarray(clear), lossless=True, exact=True)
    for name in ("rgba.png", "rgba.webp"):
        assert np.array_equal(one(tmp_path / name).pixels, expected)
    half = Image.new("LA", (64, 64), (0, 128))
    assert (one(saved(tmp_path / "la.png", half)).pixels == 127).all()
    keyed = Image.new("RGB", (64, 64), (1, 2, 3))
    assert (one(saved(tmp_path / "trns.png", keyed, transparency=(1, 2, 3))).pixels == 255).all()


def test_palettes_are_read_as_their_colours_also_with_a_transparent_one(tmp_path):
    image = Image.new("P", (64, 64), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert (one(saved(tmp_path / "a.png", image)).pixels == [40, 50, 60]).all()
    image.paste(0, (0, 0, 32, 64))
    pixels = one(saved(tmp_path / "b.png", image, transparency=0)).pixels
    assert (pixels[:, :32] == 255).all()
    assert (pixels[:, 32:] == [40, 50, 60]).all()


def test_sixteen_bit_grey_keeps_its_tones(tmp_path):
    levels = np.tile(np.arange(64, dtype=np.uint16) * 1024, (64, 1))
    pixels = one(saved(tmp_path / "a.png", Image.fromarray(levels))).pixels
    assert np.array_equal(pixels, np.repeat((levels >> 8)[..., None], 3, axis=2))


def test_sixteen_bit_colour_keeps_its_tones(tmp_path):
    row = b"\0" + b"".join(struct.pack(">HHH", n << 10, 65535, 257) for n in range(64))
    (tmp_path / "a.png").write_bytes(png(64, 64, bits=16, colour=2, rows=row * 64))
    assert one(tmp_path).pixels[0].tolist() == [[n << 2, 255, 1] for n in range(64)]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_black_and_white_become_three_equal_channels(tmp_path, mode):
    pixels = one(saved(tmp_path / "a.png", Image.new(mode, (64, 64), 255))).pixels
    assert pixels.shape == (64, 64, 3)
    assert (pixels == 255).all()


def test_cmyk_jpeg_has_its_colours_and_not_their_negative(tmp_path):
    saved(tmp_path / "a.jpg", Image.new("CMYK", (64, 64), (255, 0, 0, 0)), quality=100)
    assert np.abs(one(tmp_path).pixels.astype(int) - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_of_an_animation_the_first_frame_is_taken_and_noted(tmp_path, ending):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    saved(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    picture = one(tmp_path)
    assert picture.note == "first of 3 frames"
    assert (picture.pixels == [255, 0, 0]).all()


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
    first, other = read_pictures(tmp_path, size=64)
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


def test_a_failure_of_the_caller_inside_an_open_picture_is_not_dressed_as_damage():
    with pytest.raises(AttributeError), opened(ENCODED[0], "a"):
        raise AttributeError
