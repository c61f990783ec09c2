"""Rules of the list of interchange formats and of version numbers."""

import re
from pathlib import Path

import pytest
from store_samples import make_delta, same_delta

from cnsctl import formats
from cnsctl.errors import DamagedFileError, FormatTooNewError, UnknownFormatError
from cnsctl.formats import delta
from cnsctl.formats.versions import check_version


def test_a_delta_file_is_detected_and_read_unchanged(tmp_path):
    path = tmp_path / "dog.safetensors"
    path.write_bytes(delta.write(make_delta(1)))
    assert formats.detect(path) is delta
    with formats.opened(path, {}) as found:
        assert same_delta(found, make_delta(1))


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4 and more", b"GIF89a", b"{}", b"version https://git-lfs.github.com/spec/v1"]
)
def test_a_file_of_no_format_is_unknown_and_not_damaged(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UnknownFormatError, match="unknown format"):
        formats.detect(tmp_path / "x")


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"version https://git-lfs.github.com/spec/v1", "pointer"), (b"<!DOCTYPE html><title>Sign in", "web page")],
)
def test_what_people_have_instead_of_a_file_is_named(tmp_path, data, what):
    (tmp_path / "dog.safetensors").write_bytes(data)
    with pytest.raises(UnknownFormatError) as caught:
        formats.detect(tmp_path / "dog.safetensors")
    assert what in caught.value.note


@pytest.mark.parametrize("data", [b"\x80\x02}q\x00.", b"PK\3\4" + b"\0" * 26 + b"archive/data.pkl"])
def test_a_pickle_is_refused_by_its_contents(tmp_path, data):
    (tmp_path / "dog.safetensors").write_bytes(data)
    with pytest.raises(UnknownFormatError, match="pickle") as caught:
        formats.detect(tmp_path / "dog.safetensors")
    assert caught.value.reason == "pickle"


@pytest.mark.parametrize("cut", [1, 9, 500])
def test_a_delta_that_is_cut_short_is_damaged_and_not_unknown(tmp_path, cut):
    (tmp_path / "x").write_bytes(delta.write(make_delta(1))[:-cut])
    with pytest.raises(DamagedFileError, match="damaged"):
        formats.detect(tmp_path / "x")


def test_a_version_is_accepted_up_to_the_newest_and_a_newer_one_refused_by_name():
    check_version(1, 2, "x")
    check_version(2, 2, "x")
    with pytest.raises(FormatTooNewError, match="x has format 3") as caught:
        check_version(3, 2, "x")
    assert (caught.value.note, caught.value.reason) == ("written by a newer cnsctl; this one reads up to 2", "upgrade")


@pytest.mark.parametrize("found", [0, -1, True, "1", None, 1.0])
def test_another_value_is_not_a_version(found):
    with pytest.raises(ValueError, match="not a format version"):
        check_version(found, 1, "x")


OWNERS = [
    "app/made.py",
    "engine/proof.py",
    "engine/training_state.py",
    "formats/bundle.py",
    "formats/delta.py",
    "results/json_object.py",
    "store/backup_file.py",
    "store/catalogue.py",
    "store/index.py",
    "store/manifest.py",
]
"""Modules of the formats: PNG text, probe record, training state, bundle, delta, JSON result, backup, catalogue, index, store manifest."""


def test_each_format_has_a_version_of_its_own():
    root = Path(formats.__file__).parents[1]
    found = [path for path in root.rglob("*.py") if re.search(r"^FORMAT = \d+$", path.read_text(), re.MULTILINE)]
    assert sorted(path.relative_to(root).as_posix() for path in found) == OWNERS
