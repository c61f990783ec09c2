"""Rules of terminal previews."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cnsctl.cli import preview
from cnsctl.cli.preview import preview_bytes, protocol_of

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({}, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "linux"}, None),
        ({"TERM": "xterm"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "kitty"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "TMUX": "1"}, "blocks"),
        ({"TERM": "screen", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
        ({"TERM": "xterm-256color", "STY": "1.x", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
    ],
)
def test_the_environment_alone_decides_the_protocol(environ, protocol):
    assert protocol_of(environ) == protocol


def test_half_blocks_show_two_rows_of_pixels_a_line():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]], dtype=np.uint8)
    text = preview_bytes(pixels, protocol="blocks", width_cells=2)
    assert text == "\x1b[38;2;1;2;3;48;2;7;8;9m▀\x1b[38;2;4;5;6;48;2;10;11;12m▀\x1b[0m\n"


def test_the_lower_half_of_an_odd_last_row_is_the_terminal_s_own():
    pixel = np.array([[[1, 2, 3]]], dtype=np.uint8)
    assert preview_bytes(pixel, protocol="blocks", width_cells=1) == "\x1b[38;2;1;2;3;49m▀\x1b[0m\n"


@pytest.mark.parametrize("width", [1, 7, 30])
def test_half_blocks_fill_the_width_and_leave_no_colour_behind(width):
    lines = preview_bytes(NOISE, protocol="blocks", width_cells=width).splitlines()
    assert [line.count("▀") for line in lines] == [width] * len(lines)
    assert len(lines) == (round(width * 96 / 128) + 1) // 2
    assert all(line.endswith("\x1b[0m") for line in lines)


def test_kitty_gets_a_png_in_small_chunks_and_must_not_answer():
    text = preview_bytes(NOISE, protocol="kitty", width_cells=10)
    chunks = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert text == "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) + "\n"
    assert len(chunks) > 2
    assert max(len(data) for _, data in chunks) <= 4096
    assert chunks[0][0] == "a=T,f=100,q=2,c=10,m=1"
    assert {keys for keys, _ in chunks[1:-1]} == {"m=1"}
    assert chunks[-1][0] == "m=0"
    image = Image.open(BytesIO(base64.b64decode("".join(data for _, data in chunks), validate=True)))
    assert np.array_equal(np.array(image), NOISE)


def test_the_last_chunk_for_kitty_is_marked_also_if_it_is_full(monkeypatch):
    data = preview_bytes(NOISE, protocol="iterm2", width_cells=10).partition(":")[2][:-2]
    monkeypatch.setattr(preview, "_CHUNK", len(data))
    assert preview_bytes(NOISE, protocol="kitty", width_cells=10) == f"\x1b_Ga=T,f=100,q=2,c=10,m=0;{data}\x1b\\\n"


def test_iterm2_gets_a_png_in_one_sequence():
    text = preview_bytes(NOISE, protocol="iterm2", width_cells=10)
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;width=10;preserveAspectRatio=1:([A-Za-z0-9+/=]+)\a\n", text)
    assert np.array_equal(np.array(Image.open(BytesIO(base64.b64decode(found[1])))), NOISE)


def test_a_large_image_is_sent_no_larger_than_it_is_shown():
    big = np.zeros((600, 1200, 3), dtype=np.uint8)
    data = preview_bytes(big, protocol="iterm2", width_cells=10).partition(":")[2]
    assert Image.open(BytesIO(base64.b64decode(data))).size == (200, 100)


@pytest.mark.parametrize("width", [0, -1, 501])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ValueError, match="columns"):
        preview_bytes(NOISE, protocol="blocks", width_cells=width)
