"""Rules of the list of interchange formats and of version numbers."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from store_samples import make_delta, same_delta

from cnsctl import formats
from cnsctl.errors import FormatTooNewError, StoreDamagedError, UsageError
from cnsctl.formats.safetensors_file import pack, read_json
from cnsctl.formats.versions import check_version

OTHER = pack({"kind": "other"}, {})


@pytest.fixture
def dummy(monkeypatch):
    """A format that is added to the list for one test."""
    module = ModuleType("dummy_format")
    module.matches = lambda header: '"kind":"other"' in str(header.get("__metadata__"))
    module.read = lambda data: make_delta(0)
    module.write = lambda delta: OTHER
    monkeypatch.setitem(sys.modules, "dummy_format", module)
    monkeypatch.setattr(formats, "FORMATS", [*formats.FORMATS, "dummy_format"])
    return module


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_file_that_a_format_wrote_is_of_that_format_alone_and_is_read_unchanged(name, dummy):
    module = import_module(name)
    data = module.write(make_delta(1))
    assert formats.detect(data) is module
    assert [other for other in formats.FORMATS if import_module(other).matches(read_json(data)[0])] == [name]
    assert same_delta(module.read(data), make_delta(1))


def test_a_format_that_is_added_to_the_list_is_detected(dummy):
    assert formats.detect(OTHER) is dummy


def test_a_file_of_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="unknown format") as caught:
        formats.detect(OTHER)
    assert caught.value.note == "known formats: delta"


@pytest.mark.parametrize("data", [b"", b"PK\3\4 and more", OTHER[:-9]])
def test_a_file_that_is_not_safetensors_is_refused(data):
    with pytest.raises(StoreDamagedError, match="not a safetensors file"):
        formats.detect(data)


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
    "app/generate.py",
    "engine/proof.py",
    "engine/training_state.py",
    "formats/delta.py",
    "results.py",
    "store/catalogue.py",
    "store/index.py",
    "store/manifest.py",
]
"""Modules of the formats: PNG text, probe record, training state, delta, JSON result, catalogue, index, store manifest."""


def test_each_format_has_a_version_of_its_own():
    root = Path(formats.__file__).parents[1]
    found = [path for path in root.rglob("*.py") if re.search(r"^FORMAT = \d+$", path.read_text(), re.MULTILINE)]
    assert sorted(path.relative_to(root).as_posix() for path in found) == OWNERS
