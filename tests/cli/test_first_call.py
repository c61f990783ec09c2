"""A call with wrong arguments does not leave a store behind: it is made when everything else is right."""

from __future__ import annotations

import pytest
from commands import cnsctl


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """The place of a store that does not exist, in a folder with images, and with other files."""
    from tiny import EXAMPLES

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path / "store"))
    (tmp_path / "images").symlink_to(EXAMPLES / "dog")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("{}")
    return tmp_path / "store"


@pytest.mark.parametrize(
    "line",
    [
        ["add", "./images", "dog"],
        ["add", "my dog", "images"],
        ["add", "dog", "nothing"],
        ["add", "dog", "empty"],
        ["add", "zorblax", "images"],
        ["add", "dog", "images", "--class", "<x>"],
        ["add", "dog", "images", "--steps", 1],
        ["add", "dog", "images", "--holdout", 5],
        ["add", "dog", "images", "--resolution", 100],
        ["add", "--from", "nothing.json"],
        ["add", "--from", "list.json"],
        ["import", "nothing.safetensors"],
        ["import", "list.json", "--name", "My Dog"],
        ["import", "empty"],
        ["rm", "dog", "-y"],
        ["show", "dog"],
    ],
    ids=lambda line: " ".join(map(str, line)),
)
def test_a_refused_call_makes_no_store(nowhere, line):
    done = cnsctl(*line)
    assert done.code != 0
    assert "error[" in done.err
    assert not nowhere.exists()
