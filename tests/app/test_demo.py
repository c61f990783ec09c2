"""`demo`: two concepts, one sheet, and the same again without training."""

from __future__ import annotations

from commands import cnsctl
from PIL import Image


def test_the_demo_makes_a_sheet_and_trains_once(package, tmp_path):
    line = ("demo", "-o", tmp_path / "d", "--steps", 3, "--json")
    first = cnsctl(*line)
    assert first.code == 0, first.err
    result = first.lines[-1]
    assert set(result) == {"format", "type", "store", "sheet", "concepts"}
    assert (result["type"], result["concepts"]) == ("result", ["dog", "hat"])
    assert [one["type"] for one in first.lines].count("selected") == 2
    with Image.open(result["sheet"]) as sheet:
        assert sheet.format == "PNG"
        before = sheet.tobytes()
    again = cnsctl(*line)
    assert again.code == 0, again.err
    assert "selected" not in [one["type"] for one in again.lines]
    with Image.open(result["sheet"]) as sheet:
        assert sheet.tobytes() == before
