"""Completion works in real shells, on a store in use, and the committed scripts are up to date."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer
from commands import at, cnsctl, environment, needs

from cnsctl.cli.main import make_app

ROOT = Path(__file__).parents[2]
FILES = {"bash": "cnsctl.bash", "zsh": "_cnsctl", "fish": "cnsctl.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_committed_scripts_are_up_to_date(shell):
    """`make completions` writes them."""
    assert (ROOT / "completions" / FILES[shell]).read_text() == cnsctl("completion", shell).out


def test_an_unknown_shell_is_refused():
    done = cnsctl("completion", "tcsh")
    assert (done.code, "bash|zsh|fish" in done.err) == (2, True)


def bash(line: str, typed: str | None = None, **env: str) -> list[str]:
    """What Tab offers at the end of a line, as readline would insert it in place of `typed`, by default the last word."""
    code = (
        f'source {ROOT}/completions/cnsctl.bash; COMP_LINE=$1; COMP_POINT=${{#1}}; _cnsctl cnsctl "$2"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    last = line.rpartition(" ")[2] if typed is None else typed
    done = subprocess.run(
        ["bash", "-c", code, "bash", line, last], capture_output=True, text=True, env=environment(**env)
    )
    assert done.returncode == 0, done.stderr
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.fixture
def here(stocked) -> dict[str, str]:
    """An environment with a store that has the concepts dog and hat, and an unfinished training run of owl."""
    (stocked / "work" / "owl").mkdir(parents=True)
    (stocked / "work" / "owl" / "state.safetensors").touch()
    (stocked / "work" / "done").mkdir()
    (stocked / "work" / "done" / "lock").touch()
    return {"CNSCTL_STORE": str(stocked)}


def test_bash_completes_what_a_prompt_a_value_and_a_name_can_be(here):
    rows = {
        "cnsctl s": ["score", "show"],
        "cnsctl rm ": ["dog", "hat"],
        "cnsctl show @d": ["@dog"],
        "cnsctl show dog ": ["hat"],
        "cnsctl --store /nowhere rm ": [],
        "cnsctl gen @d": ["@dog"],
        "cnsctl gen @dog --steps ": [],
        "cnsctl gen x --device c": ["cpu", "cuda"],
        "cnsctl init --mode m": ["merged"],
        "cnsctl add ": [],
        "cnsctl add rex x --class ": [],
        "cnsctl mv dog ": [],
        "cnsctl rm --unfinished ": ["owl"],
        "cnsctl mv --unfinished ": ["owl"],
        "cnsctl undo ": [],
        "cnsctl completion ": ["bash", "fish", "zsh"],
        "cnsctl --s": ["--store"],
        "cnsctl gen x -": sorted(flags("gen")),
    }
    assert {line: bash(line, **here) for line in rows} == rows


def flags(verb: str) -> list[str]:
    """The options of a verb, short ones too."""
    program = typer.main.get_command(make_app())
    names = [name for p in program.commands[verb].params if p.param_type_name == "option" for name in p.opts]
    return [*names, "-h", "--help"]


@pytest.mark.parametrize("head", ["", "a photo of ", "<hat> & a "])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_bash_completes_names_inside_quotes_and_does_not_close_them(here, quote, head):
    for typed, found in ((f"{head}<d", f"{head}<dog>"), (f"{head}@d", f"{head}@dog")):
        assert bash(f"cnsctl gen {quote}{typed}", typed, **here) == [found, f"{found} "]
    assert bash(f"cnsctl gen {quote}{head}<dog> on", f"{head}<dog> on", **here) == []


def test_bash_completes_a_value_after_an_equals_sign(here):
    assert bash("cnsctl gen x --sampler=eu", "eu", **here) == ["euler", "euler-a"]
    assert bash("cnsctl show --store=/nowhere ", **here) == []


def test_bash_completes_files_where_files_are_meant_and_folders_where_folders_are(here, tmp_path):
    place = tmp_path / "place"
    (place / "a folder").mkdir(parents=True)
    for name in ("a.png", "a.safetensors"):
        (place / name).touch()
    folders, everything = [f"{place}/a folder"], [f"{place}/{n}" for n in ("a folder", "a.png", "a.safetensors")]
    for line in ("cnsctl ls --store", "cnsctl add rex x --masks", "cnsctl base --clip"):
        assert bash(f"{line} {place}/", **here) == folders
    assert bash(f"cnsctl init --base {place}/", **here) == [*folders, f"{place}/a.safetensors"]
    for line in (
        "cnsctl add rex",
        "cnsctl import",
        "cnsctl gen x -o",
        "cnsctl gen - <",
        "cnsctl gen --like",
        "cnsctl gen x --sheet",
        "cnsctl info",
    ):
        assert bash(f"{line} {place}/", **here) == everything


def test_bash_finds_the_store_of_the_line(stocked):
    assert bash(f"cnsctl show --store {stocked} h", CNSCTL_STORE="/nowhere") == ["hat"]
    assert bash(f"cnsctl show --store={stocked} h", CNSCTL_STORE="/nowhere") == ["hat"]
    assert bash("cnsctl show --store ~/store h", HOME=str(stocked.parent)) == ["hat"]
    assert bash("cnsctl rm ", CNSCTL_STORE="/nowhere") == []


def test_completion_follows_the_store(stocked):
    here = {"CNSCTL_STORE": str(stocked)}
    cnsctl("mv", "dog", "rex", *at(stocked))
    assert bash("cnsctl show ", **here) == ["hat", "rex"]


@needs("fish")
def test_fish_completes_what_a_prompt_a_value_and_a_name_can_be(here):
    rows = {
        "cnsctl s": ["score", "show"],
        "cnsctl rm ": ["dog", "hat"],
        "cnsctl show dog ": ["hat"],
        'cnsctl gen "a photo of <d': ["a photo of <dog>"],
        "cnsctl gen @d": ["@dog"],
        "cnsctl gen @dog --steps ": [],
        "cnsctl gen x --sampler=eu": ["--sampler=euler", "--sampler=euler-a"],
        "cnsctl add ": [],
        "cnsctl mv dog ": [],
        "cnsctl rm --unfinished ": ["owl"],
    }
    code = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo; end"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code, str(ROOT / "completions/cnsctl.fish"), *rows],
        capture_output=True,
        text=True,
        env=environment(**here),
    )
    assert done.stderr == ""
    found, at = {}, iter(done.stdout.splitlines())
    for line in rows:
        found[line] = sorted(word.split("\t")[0] for word in iter(lambda: next(at), ""))
    assert found == rows


@needs("zsh")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("cnsctl show ha", "cnsctl show hat"),
        ('cnsctl gen "a photo of <do', 'cnsctl gen "a photo of <dog>'),
        ("cnsctl init --mode=me", "cnsctl init --mode=merged"),
    ],
)
def test_zsh_completes_names_and_values(here, typed, completed):
    code = (
        "zmodload zsh/zpty; zpty z zsh -f -i; "
        f"zpty -w z 'fpath=({ROOT}/completions $fpath); autoload -Uz compinit; compinit -u -D; PS1=; echo rea''dy'; "
        'zpty -r -m z out \'*ready*\'; zpty -w -n z "$1\t"; zpty -r -m z out "*$2*"; print -r -- done'
    )
    done = subprocess.run(
        ["zsh", "-f", "-c", code, "zsh", typed, completed.replace("[", "\\[")],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**here),
    )
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr


def install(shell: str, monkeypatch, tmp_path, *more: str):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    return cnsctl("completion", "--install", *more)


PLACES = {
    "bash": ".local/share/bash-completion/completions/cnsctl",
    "zsh": ".local/share/zsh/site-functions/_cnsctl",
    "fish": ".local/share/fish/vendor_completions.d/cnsctl.fish",
}


@pytest.mark.parametrize("shell", PLACES)
def test_install_writes_the_script_of_the_users_shell_where_that_looks_for_it_and_nothing_else(
    shell, monkeypatch, tmp_path
):
    done = install(shell, monkeypatch, tmp_path)
    file = tmp_path / PLACES[shell]
    assert (done.code, done.out.splitlines()[0]) == (0, f"wrote {file}")
    assert file.read_text() == (ROOT / "completions" / FILES[shell]).read_text()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [file]
    assert install(shell, monkeypatch, tmp_path).code == 0  # again, for a newer version
    assert cnsctl("completion", "--uninstall").code == 0
    assert not file.exists()


def test_install_prints_the_line_that_zsh_needs_until_it_is_there(monkeypatch, tmp_path):
    line = install("zsh", monkeypatch, tmp_path).out.splitlines()[2].strip()
    assert line.startswith(f"fpath=({tmp_path}/.local/share/zsh/site-functions $fpath)")
    (tmp_path / ".zshrc").write_text(line)
    assert "add this line" not in install("zsh", monkeypatch, tmp_path).out


def test_install_does_not_replace_the_file_of_another_program(monkeypatch, tmp_path):
    file = tmp_path / PLACES["fish"]
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    for more in ([], ["fish"]):
        assert install("fish", monkeypatch, tmp_path, *more).code == 2
    assert cnsctl("completion", "--uninstall").code == 2
    assert file.read_text() == "mine"


@pytest.mark.parametrize("shell", ["tcsh", ""])
def test_install_asks_for_the_shell_if_it_does_not_know_it(shell, monkeypatch, tmp_path):
    done = install(shell, monkeypatch, tmp_path)
    assert (done.code, "cnsctl completion bash|zsh|fish" in done.err) == (2, True)
