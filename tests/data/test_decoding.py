"""Rules of decoding one image file, with damaged files."""

import contextlib
import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import NOISE, SMOOTH, one, refused, saved
from PIL import Image, ImageCms, ImageFile

from cnsctl.data.decoding import decode, open_image
from cnsctl.data.image_kinds import HEAD, can_read, kind_of
from cnsctl.errors import ImageError


def png(width, height, *, bits=1, colour=0, rows=b""):
    """A PNG with any header."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


# damaged files


@pytest.mark.parametrize(
    ("ending", "options"), [("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("webp", {})]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, ending, options, share):
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(NOISE), **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tmp_path, "image is damaged")


def test_an_empty_file_is_reported_as_empty(tmp_path):
    (tmp_path / "a.png").touch()
    refused(tmp_path, "image is empty")


def encoded(form):
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE[:24, :20]).save(file, form, exif=exif)
    return file.getvalue()


ENCODED = [encoded(form) for form in ("PNG", "JPEG", "WEBP")]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ENCODED),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
@example(next(c for c in ENCODED if b"Exif" in c), [(34, 1), (203, 1)], 1)  # corrupt EXIF, and no end
@example(next(c for c in ENCODED if b"Exif" in c), [(34, 1), (200, 0)], 1)
def test_damaged_bytes_raise_only_one_kind_of_error(content, changes, cut):
    damaged = bytearray(content[: cut if cut % 3 == 0 else None])
    for at, value in changes:
        if damaged:
            damaged[at % len(damaged)] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        with contextlib.suppress(ImageError):
            decode(Path(file.name))


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
def test_a_very_large_image_is_refused_before_its_pixels_are_decoded(tmp_path, monkeypatch, content):
    (tmp_path / "a.png").write_bytes(content)
    assert len(content) < 20_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    refused(tmp_path, "too large")


def test_a_very_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(300 << 20)
    refused(tmp_path, r"300 MB \(at most 256 MB\)")


def test_images_with_a_side_below_sixteen_pixels_are_refused(tmp_path):
    saved(tmp_path / "a.png", Image.new("RGB", (400, 15)))
    refused(tmp_path, r"too small: .*: 400x15 \(at least 16x16\)")
    saved(tmp_path / "a.png", Image.new("RGB", (16, 16)))
    assert one(tmp_path).note == "upscaled from 16x16"


def test_the_library_refuses_truncated_images():
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
def test_the_first_frame_of_an_animation_is_used_and_noted(tmp_path, ending):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    saved(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    found = one(tmp_path)
    assert found.note == "first of 3 frames"
    assert (found.pixels == [255, 0, 0]).all()


def test_an_error_of_the_caller_is_not_reported_as_a_damaged_image():
    with pytest.raises(AttributeError), open_image(ENCODED[0], "a"):
        raise AttributeError


# formats


@pytest.mark.parametrize("form", ["BMP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_other_formats_are_read_by_their_content(tmp_path, form):
    if not can_read(form):
        pytest.skip(f"this installation does not read {form}")
    path = saved(tmp_path / "a.png", Image.fromarray(SMOOTH), format=form)
    error = np.abs(one(path).pixels.astype(int) - SMOOTH).mean()
    assert error <= {"BMP": 0, "TIFF": 0, "GIF": 8}.get(form, 4)


def test_kinds_are_told_apart_by_the_first_bytes():
    for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", *(f for f in ("AVIF", "HEIF") if can_read(f))):
        file = BytesIO()
        Image.fromarray(NOISE).save(file, form)
        assert kind_of(file.getvalue()[:HEAD]) == form
    for text in (
        b"",
        b"B",
        b"BM is short for",
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"%PDF-1.7",
    ):
        assert kind_of(text) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_of_other_formats_raise_only_one_kind_of_error(data):
    form = data.draw(st.sampled_from([f for f in ("BMP", "GIF", "TIFF", "AVIF", "HEIF") if can_read(f)]))
    content = bytearray(OTHERS[form])
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile() as file:
        file.write(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 40]))])
        file.flush()
        with contextlib.suppress(ImageError):
            decode(Path(file.name))


def _other(form):
    file = BytesIO()
    Image.fromarray(NOISE[:24, :20]).save(file, form)
    return file.getvalue()


OTHERS = {form: _other(form) for form in ("BMP", "GIF", "TIFF", "AVIF", "HEIF") if can_read(form)}


@pytest.mark.parametrize("frames", [1, 3])
def test_of_an_animated_gif_the_first_frame_is_used_and_noted(tmp_path, frames):
    colours = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")[:frames]]
    found = one(saved(tmp_path / "a.gif", colours[0], save_all=True, append_images=colours[1:]))
    assert found.note == (None if frames == 1 else "first of 3 frames")
    assert (found.pixels == [255, 0, 0]).all()


def test_floating_point_pixels_are_refused_instead_of_clipped(tmp_path):
    refused(saved(tmp_path / "a.tiff", Image.fromarray(np.ones((64, 64), np.float32) / 2)), "floating-point")


# what is not the image


def with_exif(content, exif):
    """A JPEG with these bytes as its EXIF."""
    body = b"Exif\0\0" + exif
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def entry(tag, kind, count, value):
    return struct.pack("<HHI4s", tag, kind, count, value)


ODD_EXIF = {
    "GPS as text": [entry(0x0112, 3, 1, b"\6\0\0\0"), entry(0x8825, 2, 4, b"abc\0")],
    "resolution as text": [
        entry(0x0112, 3, 1, b"\6\0\0\0"),
        entry(0x011A, 2, 4, b"abc\0"),
        entry(0x011B, 2, 4, b"72\0\0"),
    ],
    "an unknown type": [entry(0x0112, 3, 1, b"\6\0\0\0"), entry(0x9003, 77, 9, b"\xff\xff\xff\xff")],
    "an offset outside": [entry(0x0112, 3, 1, b"\6\0\0\0"), entry(0x010F, 2, 5000, b"\xff\xff\xff\x7f")],
}


@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_neither_stops_an_image_nor_hides_its_orientation(tmp_path, name):
    file = BytesIO()
    Image.fromarray(SMOOTH).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=100, subsampling=0)
    entries = ODD_EXIF[name]
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    (tmp_path / "a.jpg").write_bytes(with_exif(file.getvalue(), exif))
    assert np.abs(one(tmp_path).pixels.astype(int) - SMOOTH).max() <= 4


@given(st.binary(max_size=120), st.booleans())
def test_no_exif_stops_an_image(exif, with_head):
    content = with_exif(ENCODED_SMOOTH, (b"II*\0\x08\0\0\0" if with_head else b"") + exif)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        assert decode(Path(file.name)).image.size == (64, 64)


def _smooth_jpeg():
    file = BytesIO()
    Image.fromarray(SMOOTH).save(file, "JPEG")
    return file.getvalue()


ENCODED_SMOOTH = _smooth_jpeg()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_megabytes_of_text_in_a_png_are_not_read(tmp_path, compressed, after):
    content = saved(tmp_path / "a.png").read_bytes()
    text = b"workflow\0" + (b"\0" + zlib.compress(b"x" * (3 << 20)) if compressed else b"y" * (3 << 20))
    kind = b"zTXt" if compressed else b"tEXt"
    chunk = struct.pack(">I", len(text)) + kind + text + struct.pack(">I", zlib.crc32(kind + text))
    at = len(content) - 12 if after else 33
    (tmp_path / "a.png").write_bytes(content[:at] + chunk + content[at:])
    assert np.array_equal(one(tmp_path).pixels, SMOOTH)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}])
@pytest.mark.parametrize("pixels", [NOISE[:40, :56], SMOOTH], ids=["noise", "smooth"])
def test_a_jpeg_is_read_without_its_end_marker_but_not_without_a_pixel(tmp_path, options, pixels):
    path = saved(tmp_path / "a.jpg", Image.fromarray(pixels), **options)
    whole, content = decode(path).image, path.read_bytes()
    for cut in (1, 2):
        path.write_bytes(content[:-cut])
        found = decode(path)
        assert found.image.tobytes() == whole.tobytes()
        assert found.notes == ("the end of the file is missing, but all pixels are there",)
    for cut in range(3, 120, 9):
        path.write_bytes(content[:-cut])
        refused(path, "image is damaged")


# colours


def swapped_profile():
    """A profile that takes red for blue: sRGB with its two columns exchanged."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(content[128:132], "big"), 12):
        swapped = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(content[at : at + 4]))
        content[at : at + 4] = swapped or content[at : at + 4]
    return bytes(content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_converted_to_srgb(tmp_path, mode):
    image = Image.new("RGB", (64, 64), (220, 40, 40))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    found = one(saved(tmp_path / "a.png", image, icc_profile=swapped_profile()))
    assert np.abs(found.pixels.astype(int) - [40, 40, 220]).max() <= 2


def test_an_srgb_profile_changes_no_pixel(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = one(saved(tmp_path / "a.png", Image.fromarray(NOISE), icc_profile=profile))
    assert np.array_equal(found.pixels, NOISE)


@pytest.mark.parametrize("profile", [b"not a profile", swapped_profile()[:200], bytes(600)])
def test_a_damaged_profile_is_ignored_with_a_note(tmp_path, profile):
    found = one(saved(tmp_path / "a.png", Image.fromarray(NOISE), icc_profile=profile))
    assert np.array_equal(found.pixels, NOISE)
    assert found.note.startswith("its colour profile is")


def test_a_profile_of_another_kind_of_pixels_is_ignored_with_a_note(tmp_path):
    grey = Image.fromarray(NOISE).convert("CMYK")
    found = one(saved(tmp_path / "a.tiff", grey, icc_profile=swapped_profile()))
    assert found.note == "its colour profile is of another kind than its pixels, and is ignored"


# what is probably not meant


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        (Image.new("RGBA", (64, 64), (9, 9, 9, 0)), "fully transparent"),
        (Image.new("RGB", (64, 64), (9, 9, 9)), "one colour only"),
        (Image.new("L", (64, 64), 9), "one colour only"),
    ],
)
def test_an_image_of_nothing_is_warned_of(tmp_path, image, warning):
    assert warning in one(saved(tmp_path / "a.png", image)).warnings[0]


def test_an_image_of_something_is_not(tmp_path):
    assert one(saved(tmp_path / "a.png")).warnings == ()
