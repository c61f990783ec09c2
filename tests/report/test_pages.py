"""Pages: one file, no network, no script, nothing from a value becomes markup."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cnsctl.report.pages import Bar, Cell, Figure, HeatMap, Page, Section, Strip, html, picture, picture_of

HOSTILE = '"><script>alert(1)</script><img src="http://x.example/y.png" alt=\''
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def noise(seed=0, size=(40, 60)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def page(text="plain", image=None):
    shown = picture(noise() if image is None else image, alt=text, caption=text)
    section = Section(
        name="dog", subtitle=text, verdict=text, figures=[Figure(name=text, value=text, meaning=text)],
        strips=[Strip(title=text, pictures=[shown])], lines=[text], notes=[text],
    )  # fmt: skip
    heat = HeatMap(title=text, note=text, columns=[text], rows=[(text, [Cell(text=text, heat=0.5)])])
    bar = Bar(name=text, share=0.25, text=text)
    return Page(
        title=text, subtitle=text, figures=section.figures, sections=[section, section], maps=[heat], bars=[bar],
        bars_title=text, footer=text,
    )  # fmt: skip


class Seen(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.images, self.targets = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(found)
        self.targets += [found[key] for key in ("src", "href", "action") if key in found]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_well_formed_and_needs_no_network():
    seen = Seen(html(page()))
    assert not seen.open
    assert all(target.startswith(("data:image/", "#")) for target in seen.targets)
    assert "script" not in seen.tags
    assert all(image["alt"] for image in seen.images)


def test_values_never_become_markup():
    plain, hostile = Seen(html(page())), Seen(html(page(HOSTILE)))
    assert hostile.tags == plain.tags
    assert [t for t in hostile.targets if not t.startswith("data:")] == [t for t in plain.targets if t[0] == "#"]
    assert hostile.images[0]["alt"] == HOSTILE


def test_equal_pages_are_equal_texts():
    assert html(page()) == html(page())


def test_an_image_is_made_smaller_but_not_larger_and_keeps_its_shape():
    assert (picture(noise(size=(512, 256)), alt="x", side=128).width, 128) == (64, 128)
    small = picture(noise(size=(10, 20)), alt="x", side=128)
    assert (small.width, small.height) == (20, 10)


def test_a_file_that_is_not_png_is_refused(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "x.gif")
    with pytest.raises(OSError, match="identify"):
        picture_of((tmp_path / "x.gif").read_bytes(), alt="x")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("dark", [False, True])
def test_chromium_shows_the_images_and_the_right_colours(tmp_path, dark):
    """A picture of one unusual colour is on the screenshot, and the paper is light or dark as the system is."""
    pink = np.full((200, 200, 3), (255, 0, 200), np.uint8)
    (tmp_path / "page.html").write_text(html(page(HOSTILE, pink)))
    flags = [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,1400"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    shot = tmp_path / "shot.png"
    command = [CHROMIUM, *flags, f"--screenshot={shot}", (tmp_path / "page.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with Image.open(shot) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(seen - (255, 0, 200)).max(-1) < 8).sum() > 10_000
    assert (seen[2, 2].mean() < 60) == dark
