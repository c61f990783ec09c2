"""Rules of PNG files with texts."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnsctl.data.png import png_bytes, read_png_text
from cnsctl.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)


@given(
    st.dictionaries(
        st.text("abcdefgh -", min_size=1, max_size=79),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        max_size=4,
    )
)
def test_texts_are_read_as_they_were_written(text):
    assert read_png_text(png_bytes(PIXELS, text)) == text


def test_pixels_are_read_as_they_were_written():
    assert np.array_equal(np.array(Image.open(BytesIO(png_bytes(PIXELS)))), PIXELS)


def test_the_same_pixels_and_texts_give_the_same_bytes():
    one, other = {"seed": "1", "prompt": "a <dog>"}, {"prompt": "a <dog>", "seed": "1"}
    assert png_bytes(PIXELS, one) == png_bytes(PIXELS, other) == png_bytes(np.asfortranarray(PIXELS), one)
    assert png_bytes(PIXELS, one) != png_bytes(PIXELS, {**one, "seed": "2"})


def test_texts_are_read_from_files_too(tmp_path):
    (tmp_path / "a.png").write_bytes(png_bytes(PIXELS, {"prompt": "犬"}))
    assert read_png_text(tmp_path / "a.png") == {"prompt": "犬"}


def test_texts_after_the_pixels_are_read_too():
    chunk = b"tEXtlate\0words"
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = png_bytes(PIXELS, {"early": "x"})
    assert read_png_text(content[:-12] + chunk + content[-12:]) == {"early": "x", "late": "words"}


@pytest.mark.parametrize(
    "text", [{"": "x"}, {"k" * 80: "x"}, {"犬": "x"}, {"k\0": "x"}, {"k": "a\0b"}, {"k": "\ud800"}]
)
def test_texts_that_a_png_cannot_contain_are_refused(text):
    with pytest.raises(ValueError):
        png_bytes(PIXELS, text)


@pytest.mark.parametrize("pixels", [PIXELS[..., 0], PIXELS[..., :2], PIXELS.astype(np.float32), PIXELS[:0]])
def test_pixels_that_are_not_rgb_are_refused(pixels):
    with pytest.raises(ValueError, match="pixels must be uint8"):
        png_bytes(pixels)


def test_a_file_that_is_not_a_whole_png_is_refused(tmp_path):
    content = png_bytes(PIXELS, {"prompt": "x"})
    for bad in (b"", b"text", content[:60], content[:-30]):
        with pytest.raises(ImageError):
            read_png_text(bad)
    with pytest.raises(ImageError, match="cannot read"):
        read_png_text(tmp_path / "none.png")
    jpeg = BytesIO()
    Image.fromarray(PIXELS).save(jpeg, "JPEG")
    with pytest.raises(ImageError, match="PNG format"):
        read_png_text(jpeg.getvalue())
