"""Rules of bundles."""

from __future__ import annotations

import dataclasses
import io
import json
import stat
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import make_delta

from cnsctl import formats
from cnsctl.concept import Mode
from cnsctl.errors import CnsctlError, DamagedFileError, FormatTooNewError
from cnsctl.formats import bundle, delta
from cnsctl.formats.bundle import MANIFEST, BaseReference, BundledConcept, member, open_bundle, write_bundle
from cnsctl.formats.canonical import sha256

BASE = BaseReference(
    name="sd15", family="sd1", fingerprint="f" * 64, origin="stable-diffusion-v1-5/stable-diffusion-v1-5"
)
DELTAS = {name: delta.write(make_delta(i)) for i, name in enumerate(("dog", "top-hat"))}


def listed(name, data, **changes):
    fields = {
        "name": name,
        "class_word": "dog",
        "mode": Mode.TOKEN,
        "neurons": 7,
        "created": "2026-11-24T10:00:00Z",
        "sha256": sha256(data),
        "bytes": len(data),
    }
    return BundledConcept(**{**fields, **changes})


CONCEPTS = [listed(name, data) for name, data in DELTAS.items()]


def written(concepts=CONCEPTS, deltas=DELTAS):
    stream = io.BytesIO()
    write_bundle(stream, BASE, concepts, deltas.__getitem__)
    return stream.getvalue()


GOOD = written()


def opened(tmp_path, data):
    path = tmp_path / "b.zip"
    path.write_bytes(data)
    with open_bundle(path) as found:
        return found, {concept.name: found.read(concept.name) for concept in found.concepts}


def test_each_concept_is_read_byte_by_byte_with_what_the_manifest_says(tmp_path):
    found, deltas = opened(tmp_path, GOOD)
    assert found.base == BASE
    assert found.concepts == tuple(CONCEPTS)
    assert deltas == DELTAS
    assert formats.detect(tmp_path / "b.zip") is bundle
    with formats.opened(tmp_path / "b.zip", {}) as again:
        assert again.concepts == found.concepts


def test_equal_concepts_give_equal_bytes():
    assert written() == GOOD
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        assert archive.namelist() == [MANIFEST, member("dog"), member("top-hat")]
        assert archive.testzip() is None, "any program reads it"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_concept_without_a_date_is_kept(tmp_path):
    found, _ = opened(tmp_path, written([listed("dog", DELTAS["dog"], created=None)]))
    assert found.concepts[0].created is None


def test_more_bytes_than_32_bits_count_are_written_and_read(tmp_path, monkeypatch):
    """The limits of zip files, made small: the place of the last member and of the table do not fit."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1500)
    many = {f"c{i}": DELTAS["dog"] for i in range(4)}
    data = written([listed(name, d) for name, d in many.items()], many)
    assert b"PK\6\6" in data
    assert opened(tmp_path, data)[1] == many


@pytest.mark.parametrize(
    "concept",
    [
        listed("../dog", b""),
        listed("Dog", b""),
        listed("dog", b"", class_word="a\nb"),
        listed("dog", b"", bytes=-1),
        listed("dog", b"", sha256="x"),
        listed("dog", b"other"),
    ],
)
def test_a_concept_that_could_not_be_read_again_is_not_written(concept):
    with pytest.raises(ValueError):
        written([concept], {concept.name: b""})


def test_a_bundle_contains_a_concept_and_each_once():
    with pytest.raises(ValueError, match="1 to"):
        written([])
    with pytest.raises(ValueError, match="twice"):
        written([CONCEPTS[0], CONCEPTS[0]])


def info_of(name, **changes):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def manifest(change=lambda found: None):
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        found = json.loads(archive.read(MANIFEST))
    change(found)
    return json.dumps(found).encode()


def made(members, comment=b""):
    """A zip file of other members than `write_bundle` writes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for info, data in members:
            archive.writestr(info, data)
        archive.comment = comment
    return stream.getvalue()


def standard(**changes):
    """The members of the good bundle, some of them changed or left out."""
    own = {MANIFEST: (info_of(MANIFEST), manifest())}
    own |= {member(name): (info_of(member(name)), data) for name, data in DELTAS.items()}
    own |= changes
    return [pair for pair in own.values() if pair]


def test_the_bundle_that_is_made_by_hand_is_read(tmp_path):
    """Otherwise the refusals below would prove nothing."""
    assert opened(tmp_path, made(standard()))[1] == DELTAS


DOG = member("dog")
HOSTILE = {
    "compressed": made(standard(**{DOG: (info_of(DOG, compress_type=zipfile.ZIP_DEFLATED), DELTAS["dog"])})),
    "a link": made(standard(**{DOG: (info_of(DOG, external_attr=(stat.S_IFLNK | 0o777) << 16), DELTAS["dog"])})),
    "a device": made(standard(**{DOG: (info_of(DOG, external_attr=stat.S_IFCHR << 16), DELTAS["dog"])})),
    "no permissions": made(standard(**{DOG: (info_of(DOG, external_attr=0), DELTAS["dog"])})),
    "a folder": made([*standard(), (info_of("concepts/"), b"")]),
    "a name above": made([*standard(), (info_of("../../x"), b"x")]),
    "an absolute name": made([*standard(), (info_of("/etc/x"), b"x")]),
    "one more": made([*standard(), (info_of(member("cat")), DELTAS["dog"])]),
    "one less": made(standard(**{DOG: None})),
    "the manifest last": made(standard()[::-1]),
    "no manifest": made(standard(**{MANIFEST: None})),
    "another delta": made(standard(**{DOG: (info_of(DOG), DELTAS["top-hat"])})),
    "a changed delta": made(standard(**{DOG: (info_of(DOG), b"x" * len(DELTAS["dog"]))})),
    "a comment": made(standard(), b"x"),
    "a comment of a member": made(standard(**{DOG: (info_of(DOG, comment=b"x"), DELTAS["dog"])})),
    "extra": made(standard(**{DOG: (info_of(DOG, extra=b"\2\0\1\0x"), DELTAS["dog"])})),
    "bytes before": b"PK\3\4" + GOOD,
    "bytes after": GOOD + b"x",
    "not a zip file": b"PK\3\4" + b"x" * 100,
    "cut": GOOD[: len(GOOD) // 2],
    "empty": b"",
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_bundle_with_one_wrong_member_is_refused(tmp_path, data):
    with pytest.raises(DamagedFileError, match="is damaged"):
        opened(tmp_path, data)


def test_a_member_that_another_program_added_is_named_for_what_it_is(tmp_path):
    stream = io.BytesIO(GOOD)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("notes.txt", "mine")
    with pytest.raises(DamagedFileError, match="'notes.txt' is encrypted, or was written by another program"):
        opened(tmp_path, stream.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_members_of_one_name_are_refused(tmp_path):
    twice = [*standard(), (info_of(DOG), DELTAS["dog"])]
    with pytest.raises(DamagedFileError, match="same name"):
        opened(tmp_path, made(twice))


MANIFESTS = {
    "kind": lambda m: m.update(kind="delta"),
    "less": lambda m: m.pop("base"),
    "format": lambda m: m.update(format=0),
    "no concepts": lambda m: m.update(concepts=[]),
    "concepts": lambda m: m.update(concepts={"dog": 1}),
    "a concept twice": lambda m: m["concepts"].append(m["concepts"][0]),
    "a name": lambda m: m["concepts"][0].update(name="../dog"),
    "a number": lambda m: m["concepts"][0].update(name=7),
    "mode": lambda m: m["concepts"][0].update(mode="blend"),
    "word": lambda m: m["concepts"][0].update(class_word="\x1b[2J"),
    "created": lambda m: m["concepts"][0].update(created=""),
    "length": lambda m: m["concepts"][0].update(bytes=10**30),
    "other length": lambda m: m["concepts"][0].update(bytes=1),
    "true": lambda m: m["concepts"][0].update(neurons=True),
    "sha": lambda m: m["concepts"][0].update(sha256="F" * 64),
    "other sha": lambda m: m["concepts"][0].update(sha256="0" * 64),
    "a key": lambda m: m["concepts"][0].pop("sha256"),
    "base": lambda m: m["base"].update(name=""),
    "base key": lambda m: m["base"].pop("origin"),
    "base text": lambda m: m["base"].update(origin=7),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_with_one_wrong_part_is_refused(tmp_path, change):
    data = made(standard(**{MANIFEST: (info_of(MANIFEST), manifest(change))}))
    with pytest.raises(DamagedFileError, match="is damaged"):
        opened(tmp_path, data)


def test_a_newer_bundle_is_refused_by_name(tmp_path):
    data = made(standard(**{MANIFEST: (info_of(MANIFEST), manifest(lambda m: (m.clear(), m.update(format=2))))}))
    with pytest.raises(FormatTooNewError, match="the bundle has format 2"):
        opened(tmp_path, data)


def test_a_large_table_of_contents_is_refused_before_it_is_read(tmp_path):
    end = bytearray(GOOD[-22:])
    end[12:16] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(DamagedFileError, match="table of contents has 2147483648 bytes"):
        opened(tmp_path, GOOD[:-22] + bytes(end))


def test_a_concept_is_read_by_a_name_of_the_manifest_only(tmp_path):
    (tmp_path / "b").write_bytes(GOOD)
    with open_bundle(tmp_path / "b") as found, pytest.raises(KeyError):
        found.read("../dog")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_mutated_bundle_raises_no_other_error(tmp_path_factory, data):
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        tail = data.draw(st.booleans())  # the table of contents is at the end
        at = data.draw(st.integers(len(raw) - 300, len(raw) - 1) if tail else st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[at] = data.draw(st.integers(0, 255))
        else:
            del raw[at]
    try:
        found, deltas = opened(tmp_path_factory.getbasetemp(), bytes(raw))
    except CnsctlError:
        return
    assert all(deltas[concept.name] in DELTAS.values() for concept in found.concepts)


def test_the_records_of_a_bundle_are_those_of_its_manifest():
    found = json.loads(manifest())
    assert set(found["base"]) == {field.name for field in dataclasses.fields(BaseReference)}
    assert set(found["concepts"][0]) == {field.name for field in dataclasses.fields(BundledConcept)}
