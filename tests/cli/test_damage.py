"""A damaged concept harms itself alone; in merged mode, where all act, what cannot be done is refused before training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commands import at, cnsctl

from cnsctl.app import session
from cnsctl.engine import train
from cnsctl.store import Store


def blobs_of(store: Path, name: str) -> dict[str, list[Path]]:
    """The files of a concept by what they hold."""
    record = Store.open(store).concept(name)
    keys = {"delta": [record["delta"]], "probe": [record["probe"]], "images": record["references"]}
    return {kind: [store / "blobs" / sha for sha in names] for kind, names in keys.items()}


def assert_counted(path: Path) -> None:
    """The ownership index is what counting all deltas gives."""
    store = Store.open(path)
    kept, counted = store.index.kept(store.snapshot().state), store.index.rebuild(store.concepts())
    assert [plane.tobytes() for plane in kept] == [plane.tobytes() for plane in counted.planes]
    assert counted.uncounted == ()


def flip(path: Path) -> None:
    """Change one bit; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def wreck(store: Path, name: str) -> None:
    """Damage every file of a concept."""
    for path in {p for paths in blobs_of(store, name).values() for p in paths}:
        flip(path)


@pytest.fixture
def wrecked(stocked) -> Path:
    """A store with `dog`, and with `hat`, of which nothing can be read."""
    wreck(stocked, "hat")
    return stocked


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the files that are opened from now on."""
    found: list[str] = []
    honest = os.open

    def noted(path, *args, **kwargs):
        found.append(Path(path).name)
        return honest(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noted)
    return found


LINES = {
    "gen": ["gen", "<dog>", "--steps", 2, "-o", "OUT"],
    "add": ["add", "cat", "IMAGES", "--class", "cat", "--steps", 3],
    "add --replace": ["add", "dog", "IMAGES", "--class", "dog", "--replace", "--steps", 3],
    "score": ["score", "cat", "IMAGES", "--class", "cat"],
    "score of one that is there": ["score", "dog", "IMAGES", "--class", "dog"],
    "show": ["show", "dog"],
    "mv": ["mv", "dog", "rex"],
    "mv of the damaged": ["mv", "hat", "cap"],
    "rm": ["rm", "dog", "-y"],
    "verify": ["verify", "dog"],
    "eval": ["eval", "dog", "--no-images"],
    "ls": ["ls"],
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_in_token_mode_no_command_reads_another_concepts_bytes(wrecked, images_of_two, tmp_path, opened, line):
    """Not one file of it is opened, and none of them could be read."""
    places = {"OUT": tmp_path / "out.png", "IMAGES": images_of_two / "dog"}
    others = {path.name for paths in blobs_of(wrecked, "hat").values() for path in paths}
    opened.clear()
    done = cnsctl(*(places.get(word, word) if isinstance(word, str) else word for word in line), *at(wrecked))
    assert done.code == 0, done.err
    assert "catalogue.json" in opened
    assert not others & set(opened)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    "line", [["rm", "hat", "-y"], ["add", "hat", "IMAGES", "--class", "hat", "--steps", 3, "--replace"]]
)
def test_a_damaged_concept_can_be_removed_or_replaced(wrecked, images_of_two, line):
    done = cnsctl(*(images_of_two / "hat" if word == "IMAGES" else word for word in line), *at(wrecked))
    assert done.code == 0, done.err
    assert cnsctl("verify", *at(wrecked)).code == 0
    assert_counted(wrecked)


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_ls_and_show_mark_a_delta_that_is_missing_or_cut(stocked, how):
    (path,) = blobs_of(stocked, "hat")["delta"]
    path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:-1])
    listed = cnsctl("ls", "--json", *at(stocked))
    assert {c["name"]: c["damaged"] for c in listed.json["concepts"]} == {"dog": False, "hat": True}
    assert cnsctl("show", "hat", "--json", *at(stocked)).json["concept"]["damaged"] is True
    human = cnsctl("ls", *at(stocked))
    assert [line.split("\t")[-1] for line in human.out.splitlines()] == ["", "damaged"]
    assert "<hat> is damaged" in human.err
    assert "damaged" in cnsctl("show", "hat", *at(stocked)).out


@pytest.mark.parametrize("kind", ["delta", "probe"])
def test_verify_names_what_is_damaged_and_proves_the_others(stocked, kind):
    flip(blobs_of(stocked, "hat")[kind][0])
    assert cnsctl("ls", "--json", *at(stocked)).json["concepts"][1]["damaged"] is False, "a flipped bit needs reading"
    done = cnsctl("verify", "--json", *at(stocked))
    dog, hat = done.json["concepts"]
    assert (done.code, "cannot read: hat" in done.err) == (6, True)
    assert (dog["damaged"], dog["unchanged"], hat["damaged"], hat["unchanged"]) == (False, True, True, False)
    assert blobs_of(stocked, "hat")[kind][0].name in hat["reasons"][0]
    assert "damaged" in cnsctl("verify", *at(stocked)).out


def test_eval_measures_the_others_and_names_what_is_damaged(wrecked):
    done = cnsctl("eval", "--no-images", "--json", *at(wrecked))
    assert (done.code, [row["name"] for row in done.json["concepts"]]) == (6, ["dog"])
    assert "cannot read: hat" in done.err


@pytest.mark.parametrize("line", [["gen", "<hat>", "-o", "-"], ["eval", "hat"], ["verify", "hat"]])
def test_a_command_that_needs_the_damaged_bytes_names_the_concept(wrecked, line):
    done = cnsctl(*line, *at(wrecked))
    assert (done.code, "hat" in done.err) == (6, True)


def test_overlaps_are_shown_when_they_are_asked_for(stocked):
    assert cnsctl("show", "dog", "--json", *at(stocked)).json["overlaps"] is None
    shared = cnsctl("show", "dog", "--overlaps", "--json", *at(stocked)).json["overlaps"]
    scored = cnsctl("show", "hat", "--overlaps", "--json", *at(stocked)).json["overlaps"]
    assert shared["hat"] == scored["dog"] > 0
    assert f"shares {shared['hat']:,} neurons with <hat>" in cnsctl("show", "dog", "--overlaps", *at(stocked)).out
    wreck(stocked, "hat")
    assert cnsctl("show", "dog", "--overlaps", "--json", *at(stocked)).json["overlaps"] == {"hat": None}
    assert "shares ? neurons with <hat>" in cnsctl("show", "dog", "--overlaps", *at(stocked)).out


def test_the_number_shared_with_all_others_is_that_of_the_masks(stocked, images_of_two):
    """`score` of a concept in the store does not count its own neurons."""
    scored = cnsctl("score", "dog", images_of_two / "dog", "--class", "dog", "--json", *at(stocked)).json
    shown = cnsctl("show", "dog", "--overlaps", "--json", *at(stocked)).json
    assert scored["shared"] == shown["overlaps"]["hat"]


def test_a_command_reads_and_checks_the_catalogue_once(stocked, tmp_path, opened, monkeypatch):
    from cnsctl.store import catalogue

    checked, honest = [], catalogue.unseal
    monkeypatch.setattr(catalogue, "unseal", lambda *args: checked.append(1) or honest(*args))
    for line in (
        ["gen", "-", "-o", tmp_path / "out"],
        ["eval", "--no-images"],
        ["verify"],
        ["ls"],
        ["mv", "hat", "cap"],
    ):
        checked.clear()
        opened.clear()
        assert cnsctl(*line, *at(stocked), stdin="<dog>\n@hat\n<dog> <hat>\n").code == 0
        assert len(checked) == 1, line
        assert opened.count("catalogue.json") <= 4, (
            "the second is under the lock; mv compares it twice before it writes"
        )


# merged


@pytest.fixture(scope="module")
def _merged(shared_merged, images_of_two, tmp_path_factory) -> Path:
    store = Path(shutil.copytree(shared_merged, tmp_path_factory.mktemp("stores") / "merged"))
    line = ("add", "hat", images_of_two / "hat", "--class", "hat", "--steps", 3, "--allow-forgetting")
    assert cnsctl(*line, *at(store)).code == 0
    return store


@pytest.fixture
def merged(_merged, tmp_path) -> Path:
    """A merged store with `dog` and `hat`, for this test alone."""
    return Path(shutil.copytree(_merged, tmp_path / "merged"))


@pytest.fixture
def forbidden(monkeypatch) -> None:
    """No step may be trained."""

    def refuse(*_args, **_kwargs):
        pytest.fail("trained")

    monkeypatch.setattr(train, "train", refuse)
    monkeypatch.setattr(train, "score", refuse)


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("kind", ["delta", "probe", "images"])
def test_in_merged_training_on_top_of_damage_is_refused_before_it_begins(merged, images_of_two, kind):
    """Also if only the check after the training needs the damaged file."""
    flip(blobs_of(merged, "dog")[kind][0])
    done = cnsctl("add", "cat", images_of_two / "dog", "--class", "cat", *at(merged))
    assert (done.code, "dog" in done.err) == (6, True), done.err
    if kind == "delta":
        assert cnsctl("score", "cat", images_of_two / "dog", "--class", "cat", *at(merged)).code == 6


@pytest.mark.parametrize("verb", ["add", "score"])
def test_in_merged_a_missing_delta_is_refused_before_the_base_model_is_loaded(merged, images_of_two, monkeypatch, verb):
    blobs_of(merged, "dog")["delta"][0].unlink()
    monkeypatch.setattr(session, "start", lambda *_a, **_k: pytest.fail("loaded"))
    done = cnsctl(verb, "cat", images_of_two / "dog", "--class", "cat", *at(merged))
    assert (done.code, "<dog> is damaged" in done.err, "cnsctl check" in done.err) == (6, True, True)


@pytest.mark.usefixtures("unmeasured")
def test_in_merged_a_damaged_concept_can_be_replaced_or_removed(merged, images_of_two):
    wreck(merged, "dog")
    line = ("add", "dog", images_of_two / "dog", "--class", "dog", "--steps", 3, "--replace", "--allow-forgetting")
    assert cnsctl(*line, *at(merged)).code == 0
    assert cnsctl("ls", "-q", *at(merged)).out == "hat\ndog\n"
    wreck(merged, "hat")
    assert cnsctl("rm", "hat", "-y", *at(merged)).code == 0
    assert_counted(merged)


@pytest.mark.parametrize("names", [[], ["dog"]])
def test_in_merged_verify_names_the_damaged_concept_and_lists_the_others_as_not_checked(merged, names):
    flip(blobs_of(merged, "hat")["delta"][0])
    done = cnsctl("verify", *names, "--json", *at(merged))
    assert (done.code, "cannot read: hat" in done.err) == (6, True)
    rows = {row["name"]: row for row in done.json["concepts"]}
    assert (rows["dog"]["damaged"], rows["dog"]["unchanged"], rows["dog"]["forgotten"]) == (False, None, None)
    assert "damaged delta of hat" in rows["dog"]["reasons"][0]
    if not names:
        assert (rows["hat"]["damaged"], rows["hat"]["unchanged"]) == (True, False)
    assert "not checked" in cnsctl("verify", *names, *at(merged)).out


def test_in_merged_each_delta_is_read_once_by_add(merged, images_of_two, opened):
    deltas = {path.name for name in ("dog", "hat") for path in blobs_of(merged, name)["delta"]}
    opened.clear()
    line = ("add", "cat", images_of_two / "dog", "--class", "cat", "--steps", 3, "--allow-forgetting")
    assert cnsctl(*line, *at(merged)).code == 0
    assert {name: opened.count(name) for name in deltas} == dict.fromkeys(deltas, 1)
