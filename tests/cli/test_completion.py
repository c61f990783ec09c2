"""Completion works in real shells, on a store in use, and the committed scripts are up to date."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import at, cnsctl, environment, needs

ROOT = Path(__file__).parents[2]
FILES = {"bash": "cnsctl.bash", "zsh": "_cnsctl", "fish": "cnsctl.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_committed_scripts_are_up_to_date(shell):
    """`make completions` writes them."""
    assert (ROOT / "completions" / FILES[shell]).read_text() == cnsctl("completion", shell).out


def test_an_unknown_shell_is_refused():
    done = cnsctl("completion", "tcsh")
    assert (done.code, "bash, zsh, fish" in done.err) == (2, True)


def bash(words: list[str], **env: str) -> set[str]:
    quoted = " ".join(f"'{w}'" for w in words)
    code = (
        f"source {ROOT}/completions/cnsctl.bash; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _cnsctl; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env=environment(**env))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_bash_completes_verbs_flags_values_and_names(stocked):
    here = {"CNSCTL_STORE": str(stocked)}
    assert bash(["cnsctl", "s"], **here) == {"show", "score"}
    assert bash(["cnsctl", "rm", ""], **here) == {"dog", "hat"}
    assert bash(["cnsctl", "gen", "@d"], **here) == {"@dog"}
    assert bash(["cnsctl", "show", "--store", str(stocked), "h"], CNSCTL_STORE="/nowhere") == {"hat"}
    assert bash(["cnsctl", "show", "--store", "=", str(stocked), "h"], CNSCTL_STORE="/nowhere") == {"hat"}
    assert bash(["cnsctl", "show", "--store", "~/store", "h"], HOME=str(stocked.parent)) == {"hat"}
    assert bash(["cnsctl", "rm", ""], CNSCTL_STORE="/nowhere") == set()
    assert "--guidance-scale" in bash(["cnsctl", "gen", "--g"], **here)
    assert bash(["cnsctl", "init", "--mode", "m"], **here) == {"merged"}


def test_completion_follows_the_store(stocked):
    here = {"CNSCTL_STORE": str(stocked)}
    cnsctl("mv", "dog", "rex", *at(stocked))
    assert bash(["cnsctl", "show", ""], **here) == {"rex", "hat"}


@needs("fish")
def test_fish_completes_verbs_and_names(stocked):
    code = f"source {ROOT}/completions/cnsctl.fish; complete -C 'cnsctl sc'; complete -C 'cnsctl rm '"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, env=environment(CNSCTL_STORE=str(stocked))
    )
    words = {line.split("\t")[0] for line in done.stdout.splitlines()}
    assert words >= {"score", "dog", "hat"}, done.stderr


@needs("zsh")
def test_zsh_completes_names(stocked):
    code = (
        "zmodload zsh/zpty; zpty z zsh -f -i; "
        f"zpty -w z 'fpath=({ROOT}/completions $fpath); autoload -Uz compinit; compinit -u -D; PS1=; print REA\"\"DY'; "
        "zpty -r z out '*READY*'; zpty -w -n z 'cnsctl show ha\t'; zpty -r z out '*hat*'; print -r -- $out"
    )
    done = subprocess.run(
        ["zsh", "-f", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(CNSCTL_STORE=str(stocked)),
    )
    assert "cnsctl show hat" in done.stdout, done.stdout + done.stderr
