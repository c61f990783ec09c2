"""`show` and `ls`: how a concept was made and how to use it, training runs, and columns that fit."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import at, cnsctl
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnsctl import results
from cnsctl.app import arguments, unfinished
from cnsctl.app.requests import TrainRequest
from cnsctl.cli import details, preview
from cnsctl.cli.columns import Cell, table
from cnsctl.cli.command_lines import add_line
from cnsctl.cli.output import Output
from cnsctl.cli.viewer import open_image
from cnsctl.errors import UsageError
from cnsctl.settings import ComputeSettings, TrainSettings
from cnsctl.store import Store


def made_by(text: str) -> list[str]:
    """The words of the command in `show`."""
    found = re.search(r"made by: (.*)", text)
    assert found is not None, text
    return shlex.split(found[1])


def test_show_prints_the_command_that_made_the_concept_and_it_makes_it_again(empty, images, unmeasured):
    spaced = images.rename(images.with_name("my images"))
    given = ("--class", "dog", "--steps", 3, "--holdout", 1, "--no-preview", "--learning-rate", 0.004)
    assert cnsctl("add", "dog", spaced, *given, *at(empty)).code == 0
    program, *words = made_by(cnsctl("show", "dog", *at(empty)).out)
    assert program == "cnsctl"
    assert words[-2:] == ["--store", str(empty)]
    before = cnsctl("show", "dog", "--json", *at(empty)).json
    assert cnsctl("rm", "dog", "-y", *at(empty)).code == 0
    assert cnsctl(*words).code == 0
    after = cnsctl("show", "dog", "--json", *at(empty)).json
    assert (after["delta"], after["arguments"]) == (before["delta"], before["arguments"])
    assert after["arguments"]["settings"] == {"steps": 3, "learning_rate": 0.004}


def test_a_setting_that_is_equal_to_its_default_is_left_out(tiny_folder):
    from cnsctl.bases.base_folder import open_folder

    folder = open_folder(tiny_folder)
    default = folder.train["steps"]
    request = TrainRequest(
        name="dog", sources=["x"], settings={"steps": default, "seed": 0}, compute={"device": "auto"}
    )
    found = arguments.from_text(arguments.text_of(request, folder))
    assert found is not None
    assert found.settings == {}


values = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, categories=("L", "N", "P", "S", "Zs")), min_size=1
)


@given(images=st.lists(values, min_size=1, max_size=3), word=values, holdout=st.integers(0, 9), store=values)
def test_the_line_of_an_add_is_one_that_a_shell_reads_back(images, word, holdout, store):
    arguments = results.Arguments(
        images=tuple(images), class_word=word, holdout=holdout, recursive=True, masks=None, replace=False,
        allow_worse=True, allow_forgetting=False, preview=False, measure=True,
        settings={"steps": 3, "orthogonal": True, "policy": "exclusive"},
    )  # fmt: skip
    words = shlex.split(add_line("dog", arguments, Path(store)))
    held_out = ["--holdout", str(holdout)] if holdout else []
    assert words == [
        "cnsctl", "add", "dog", *images, "--class", word, *held_out, "--steps", "3", "--policy", "exclusive",
        "--recursive", "--no-preview", "--allow-worse", "--orthogonal", "--store", str(Path(store)),
    ]  # fmt: skip


def test_very_many_images_are_not_kept_in_the_record(tiny_folder):
    from cnsctl.bases.base_folder import open_folder

    request = TrainRequest(name="dog", sources=[f"image-{i}.png" for i in range(1000)])
    text = arguments.text_of(request, open_folder(tiny_folder))
    found = arguments.from_text(text)
    assert len(text) <= arguments.MOST
    assert found is not None
    assert add_line("dog", found, None) == "cnsctl add dog IMAGES"


@pytest.mark.parametrize("text", [None, 3, "", "[]", "{}", '{"images": 1}', json.dumps({"images": [], "settings": 3})])
def test_arguments_that_are_not_as_they_were_written_are_ignored(text):
    assert arguments.from_text(text) is None


def test_every_setting_of_add_is_in_the_line_if_it_was_given(tiny_folder):
    """So that no setting is added to the settings and forgotten here."""
    from cnsctl.bases.base_folder import open_folder
    from cnsctl.settings import settings_of

    odd = {"device": "cpu", "dtype": "bf16", "memory": "low", "policy": "exclusive", "select": "intersect"}
    for kind, field in ((TrainSettings, "settings"), (ComputeSettings, "compute")):
        for name, setting in settings_of(kind).items():
            value = odd.get(name, True if setting.kind is bool else setting.high)
            text = arguments.text_of(
                TrainRequest(name="x", sources=["y"], **{field: {name: value}}), open_folder(tiny_folder)
            )
            found = arguments.from_text(text)
            assert found is not None
            assert f"--{name.replace('_', '-')}" in add_line("x", found, None), name


def test_show_takes_several_names_as_prompts_write_them(shared_store):
    lines = cnsctl("show", "<dog>", "@hat", "dog", *at(shared_store)).out.splitlines()
    assert [line.split(">")[0] for line in lines if line.startswith("<")] == ["<dog", "<hat"]
    found = cnsctl("show", "dog", "hat", "--json", *at(shared_store)).lines
    assert [one["concept"]["name"] for one in found] == ["dog", "hat"]
    missing = cnsctl("show", "dog", "nope", *at(shared_store))
    assert (missing.code, missing.out) == (4, "")


def test_paths_of_files_are_only_printed_when_asked_for(shared_store):
    blobs = str(shared_store / "blobs")
    assert blobs not in cnsctl("show", "dog", *at(shared_store)).out
    assert cnsctl("show", "dog", "-v", *at(shared_store)).out.count(blobs) >= 3


def test_show_prints_a_day_that_a_person_reads_and_how_to_use_the_concept(shared_store):
    out = cnsctl("show", "dog", *at(shared_store)).out
    assert re.search(r"on \d{1,2} [A-Z][a-z]+ 20\d\d, \d\d:\d\d, \d+ KB", out)
    assert f'use it: cnsctl gen "<dog> on a beach" --store {shared_store}' in out
    assert details.day("not a time") == "not a time"


@pytest.mark.parametrize("verb", ["show", "ls", "eval", "verify", "export", "rm", "mv", "add", "score"])
def test_every_command_takes_a_name_as_prompts_write_it(shared_store, verb):
    """The message about a concept that does not exist has the bare name; that of a name that is taken too."""
    more = {"mv": ["x"], "rm": ["-y"], "add": ["x.png"], "score": ["x.png"]}.get(verb, [])
    for written in ("<nope>", "@nope"):
        said = cnsctl(verb, written, *more, *at(shared_store)).err
        assert "nope" in said or "x.png" in said
        assert written not in said


def test_ls_lists_the_concepts_that_are_named(shared_store):
    assert cnsctl("ls", "@hat", "-q", *at(shared_store)).out == "hat\n"
    assert cnsctl("ls", "hat", "nope", *at(shared_store)).code == 4


def test_ls_in_a_pipe_prints_raw_numbers_in_the_same_columns(shared_store):
    listed = cnsctl("ls", "--json", *at(shared_store)).json["concepts"]
    for line, concept in zip(cnsctl("ls", *at(shared_store)).out.splitlines(), listed, strict=True):
        name, class_word, tokens, neurons, share, size, removed, _, verdict, created, state = line.split("\t")
        assert (name, class_word, int(tokens), int(neurons)) == (
            concept["name"],
            concept["class_word"],
            1,
            concept["neurons"],
        )
        assert (float(share), int(size)) == (pytest.approx(concept["share"], rel=1e-6), concept["bytes"])
        assert float(removed) == pytest.approx(concept["scores"]["error_removed"], abs=1e-6)
        assert (verdict, created, state) == ("", concept["created"], "")  # the tiny base model is not calibrated


@pytest.fixture
def terminal(monkeypatch):
    def columns(number: int) -> None:
        monkeypatch.setenv("COLUMNS", str(number))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return columns


ROWS = [("dog", "a class", Cell("1,234", 1234), "x"), ("a-long-name", "", Cell("5", 5), "–")]
HEAD = ("name", "class", "count", "state")


@pytest.mark.parametrize(
    ("columns", "head"),
    [(80, HEAD), (34, HEAD), (33, HEAD[:1] + HEAD[2:]), (24, ("name", "state")), (17, ("name",)), (5, ("name",))],
)
def test_a_narrow_terminal_leaves_out_the_least_important_columns_and_folds_nothing(terminal, columns, head):
    terminal(columns)
    lines = list(table(ROWS, HEAD, least=("class", "count", "state")))
    assert tuple(lines[0].split()) == head
    assert len(lines) == 3
    assert max(map(len, lines)) <= max(columns, len("a-long-name"))


def test_in_a_pipe_no_column_is_left_out_and_a_missing_value_is_empty(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert list(table(ROWS, HEAD, least=("class",))) == ["dog\ta class\t1234\tx", "a-long-name\t\t5\t"]


@pytest.fixture
def interrupted(empty, images) -> Store:
    """A store with a training run of `cat` that was interrupted, as `add` leaves it."""
    from cnsctl.engine.training_state import TrainState, state_to_bytes

    store = Store.open(empty)
    request = TrainRequest(name="cat", sources=[images], class_word="tabby cat", settings={"seed": 3})
    from cnsctl.app.stores import open_base

    with store.work.reserve("cat") as folder:
        (folder / arguments.FILE).write_bytes(unfinished.started_text(arguments.text_of(request, open_base(store)), 40))
        state = TrainState(step=18, parts={}, losses=(), tensors={})
        (folder / unfinished.STATE_FILE).write_bytes(state_to_bytes(state))
    return store


def test_ls_prints_the_command_that_continues_an_interrupted_run(interrupted, images):
    done = cnsctl("ls", *at(interrupted.path))
    assert done.out == ""  # it is not a concept
    line = f"cnsctl add cat {images} --class 'tabby cat' --seed 3 --store {interrupted.path}"
    assert f"training of <cat> was interrupted at step 18 of 40; continue it: {line};" in done.err
    (run,) = cnsctl("ls", "cat", "--json", *at(interrupted.path)).json["runs"]
    assert (run["state"], run["pid"], run["step"], run["steps"]) == ("interrupted", None, 18, 40)


def test_ls_prints_the_process_of_a_run_that_goes_on(interrupted):
    import os

    with interrupted.work.reserve("cat"), interrupted.work.reserve("owl"):
        done = cnsctl("ls", *at(interrupted.path))
        found = cnsctl("ls", "--json", *at(interrupted.path)).json
    assert f"training of <cat> is running: process {os.getpid()} on " in done.err
    assert "saved at step 18 of 40" in done.err
    assert [(run["name"], run["state"], run["pid"]) for run in found["runs"]] == [
        ("cat", "running", os.getpid()),
        ("owl", "running", os.getpid()),
    ]


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\xff" * 9, (99).to_bytes(8, "little") + b'{"__metadata__": {}}'])
def test_a_training_state_that_cannot_be_read_is_at_step_0(interrupted, content):
    folder = interrupted.work.folder("cat")
    (folder / unfinished.STATE_FILE).write_bytes(content)
    (folder / arguments.FILE).write_bytes(content)
    (run,) = unfinished.unfinished_runs(interrupted)
    assert (run.step, run.steps, run.arguments) == (0, None, None)
    assert f"cnsctl add cat IMAGES --store {interrupted.path}" in cnsctl("ls", *at(interrupted.path)).err


def test_the_default_store_is_empty_until_it_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("CNSCTL_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert (cnsctl("ls").code, cnsctl("ls").out) == (0, "")
    found = cnsctl("ls", "--json").json
    assert (found["concepts"], found["base"]["name"], found["mode"]) == ([], "pocket", "token")
    assert list(tmp_path.iterdir()) == []
    assert cnsctl("ls", "dog").code == 10
    assert cnsctl("ls", *at(tmp_path / "elsewhere")).code == 10


def test_show_draws_the_preview_on_a_terminal_that_can(shared_store, monkeypatch, capsys):
    file = Path(cnsctl("show", "dog", "--json", *at(shared_store)).json["preview"])
    written: list[tuple[int, ...]] = []
    monkeypatch.setattr(preview, "preview_bytes", lambda pixels, **_: written.append(pixels.shape) or "[image]")
    monkeypatch.setattr(preview, "protocol_of", lambda _: "blocks")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def show(**how: bool) -> None:
        with Output(
            as_json=how.get("as_json", False), quiet=how.get("quiet", False), human=str, bare=str, previews=True
        ) as output:
            output.preview(file)

    show()
    show(quiet=True)
    show(as_json=True)
    with Image.open(file) as image:
        assert written == [(image.height, image.width, 3)]
    file = file.with_name("missing")
    show()
    assert len(written) == 1
    assert capsys.readouterr().err.count("[image]") == 1


@pytest.fixture
def viewer(tmp_path, monkeypatch):
    """A folder with an `xdg-open` that records what it opens, and a screen."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\nexit $STATUS\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("STATUS", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "opened"


def test_open_gives_the_viewer_a_copy_with_a_suffix(viewer, tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "blob", "PNG")
    open_image(tmp_path / "blob", "dog.png")
    opened = Path(viewer.read_text().strip())
    assert (opened.name, opened.read_bytes()) == ("dog.png", (tmp_path / "blob").read_bytes())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("STATUS", "3", "ended with status 3"),
        ("PATH", "/nowhere", "is not installed"),
        ("DISPLAY", "", "DISPLAY is not set"),
    ],
)
def test_open_says_why_it_cannot(viewer, tmp_path, monkeypatch, name, value, why):
    monkeypatch.setenv(name, value)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (tmp_path / "blob").touch()
    with pytest.raises(UsageError, match=why) as failed:
        open_image(tmp_path / "blob", "dog.png")
    assert str(tmp_path / "blob") in str(failed.value.note)
