"""Rules of contact sheets."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from cnsctl.report.contact_sheet import SheetGroup, SheetRow, _wrapped, contact_sheet

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 30, 200), (30, 200, 200)]


def flat(colour, size=128):
    return np.full((size, size, 3), colour, dtype=np.uint8)


def row(label, *counts, caption="caption"):
    groups = [SheetGroup(caption=caption, images=[flat(COLOURS[g])] * n) for g, n in enumerate(counts)]
    return SheetRow(label=label, groups=groups)


def boxes(sheet, colour):
    """Runs of columns and runs of rows that contain a colour."""
    hit = (np.array(sheet) == colour).all(axis=2)
    return runs(hit.any(axis=0)), runs(hit.any(axis=1))


def runs(line):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize("cell", [32, 128, 200])
def test_every_image_is_whole_and_apart_from_the_others(cell):
    sheet = contact_sheet([row("<dog>", 5, 4, 4), row("<cat>", 3, 4, 4)], cell=cell, title="Title")
    for group, count in enumerate([5, 4, 4]):
        across, down = boxes(sheet, COLOURS[group])
        assert [b - a for a, b in across] == [cell] * count
        assert [b - a for a, b in down] == [cell] * 2


def test_the_groups_of_all_rows_are_in_the_same_columns():
    one = contact_sheet([row("a", 5, 4, 4)])
    two = contact_sheet([row("a", 5, 4, 4), row("b", 0, 2, 4), row("c", 1)])
    assert one.width == two.width
    for colour in COLOURS[1:3]:
        assert boxes(one, colour)[0] == boxes(two, colour)[0]


def test_images_of_the_size_of_a_cell_are_not_resampled():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    bare = contact_sheet([SheetRow(label="", groups=[SheetGroup(caption="", images=[noise])])], cell=64)
    left, top = bare.width - 8 * 2 - 64, 8 * 2
    assert np.array_equal(np.array(bare)[top : top + 64, left : left + 64], noise)


def test_long_labels_and_captions_do_not_overlap_the_images():
    texts = "a label " * 40 + "W" * 400
    plain, full = (contact_sheet([row(t, 2, 2, caption=t)] * 2) for t in ("x", texts))
    for colour in COLOURS[:2]:
        assert boxes(plain, colour)[0] == boxes(full, colour)[0]
        assert [b - a for a, b in boxes(full, colour)[1]] == [128, 128]
    margin = np.array(full)[:, :32]
    assert (margin == margin[0, 0]).all()


def test_captions_of_one_and_two_lines_end_on_the_same_line():
    groups = [
        SheetGroup(caption=caption, images=[flat(colour)])
        for caption, colour in zip(["x", "xxxxxxxx xxxxxxxxxx"], COLOURS, strict=False)
    ]
    sheet = contact_sheet([SheetRow(label="", groups=groups)])
    pixels = np.array(sheet)
    top = boxes(sheet, COLOURS[0])[1][0][0]
    ends = []
    for colour in COLOURS[:2]:
        ((left, right),) = boxes(sheet, colour)[0]
        ink = (pixels[:top, left:right] != pixels[0, 0]).any(axis=(1, 2))
        ends.append((len(runs(ink)), runs(ink)[-1][1]))
    assert [n_lines for n_lines, _ in ends] == [1, 2]
    assert ends[0][1] == ends[1][1]


def test_a_text_is_wrapped_at_spaces_and_truncated_with_an_ellipsis():
    font = ImageFont.load_default(size=14)
    lines = _wrapped("one two three four five six seven", font, 80, 10)
    assert " ".join(lines) == "one two three four five six seven"
    assert all(font.getlength(line) <= 80 for line in lines)
    assert _wrapped("one two three four five six seven", font, 80, 2)[1].endswith("…")
    assert _wrapped("", font, 80, 2) == []
    assert "".join(_wrapped("W" * 30, font, 80, 10)) == "W" * 30


def test_images_that_are_not_square_are_shown_whole():
    wide = np.full((50, 100, 3), COLOURS[0], dtype=np.uint8)
    sheet = contact_sheet([SheetRow(label="", groups=[SheetGroup(caption="", images=[wide])])], cell=64)
    assert [[b - a for a, b in side] for side in boxes(sheet, COLOURS[0])] == [[64], [32]]


@pytest.mark.parametrize("labels_above", [False, True])
def test_a_text_below_an_image_touches_no_image_and_may_be_long(labels_above):
    groups = [
        SheetGroup(caption="caption", images=[flat(c)] * 2, texts=["a <dog> in a desert " * 4, "W" * 90])
        for c in COLOURS[:2]
    ]
    sheet = contact_sheet([SheetRow(label="<dog>", groups=groups)] * 2, labels_above=labels_above)
    pixels = np.array(sheet)
    for colour in COLOURS[:2]:
        across, down = boxes(sheet, colour)
        assert [[b - a for a, b in side] for side in (across, down)] == [[128] * 2] * 2
        for left, right in across:
            below = (pixels[down[0][1] : down[1][0], left:right] != pixels[0, 0]).any(axis=(1, 2))
            assert len(runs(below)) >= 2  # two lines of it, and the caption of the next row
    assert (pixels[:, :32] == pixels[0, 0]).all()
    assert (pixels[:, -31:] == pixels[0, 0]).all()


def test_labels_above_leave_their_column_to_the_images():
    rows = [row("<dog>: error removed 22.0 %", 2, 2, 2)] * 2
    beside, above = contact_sheet(rows), contact_sheet(rows, labels_above=True)
    assert above.width <= 880 < beside.width
    assert above.height > beside.height


def test_the_same_rows_give_the_same_sheet():
    rows = [row("<dog>", 2, 1), SheetRow(label="nothing", groups=[])]
    assert contact_sheet(rows, title="T").tobytes() == contact_sheet(rows, title="T").tobytes()
    assert isinstance(contact_sheet(rows), Image.Image)


def test_a_sheet_without_rows_is_refused():
    with pytest.raises(ValueError, match="rows"):
        contact_sheet([])
