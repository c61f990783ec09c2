"""Rules of the streams: a terminal, a file, a pipe, a full one, a closed one."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest
import warm
from commands import at, cnsctl, environment

from cnsctl.cli.streams import fitted, json_line, terminal_size
from cnsctl.store import Store

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "cnsctl"]


OF_TERMINALS = ("TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "NO_COLOR")
"""Variables of the terminal in which the tests run."""


def in_terminal(
    *args: object, stdout: int | None = None, columns: int = 80, typed: bytes = b"", **changes: str
) -> tuple[int, str]:
    """Run a command whose stdin and stderr, and stdout unless another is given, are one terminal: status and screen."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS=str(columns), LINES="24", **changes)
    env = {key: value for key, value in env.items() if key not in OF_TERMINALS or key in changes}
    streams = {"stdin": theirs, "stdout": theirs if stdout is None else stdout, "stderr": theirs}
    started = warm.start(warm.cnsctl, *args, env=env, **streams)
    os.close(theirs)
    os.write(ours, typed)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # on Linux, after the last writer has closed it
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return started.finish()[0], seen.decode(errors="replace")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """As a user's shell runs it: streams are buffered, whatever the environment of this process."""
    return subprocess.run(
        ["bash", "-c", line.replace("cnsctl", f"{sys.executable} -m cnsctl", 1)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_result_goes_to_stdout_while_progress_is_on_a_terminal(stocked, tmp_path):
    """The progress line continues under each path and preview, and is removed at the end."""
    answer = tmp_path / "answer"
    with answer.open("wb") as file:
        status, screen = in_terminal(
            "gen", "<dog>", "-n", 2, "--seed", 1, "--steps", 2, "-o", tmp_path / "o", *at(stocked), stdout=file.fileno()
        )
    assert status == 0, screen
    assert answer.read_text().splitlines() == [str(tmp_path / "o" / f"_dog_-{s}.png") for s in (1, 2)]
    first = screen.index("▀")  # a preview
    assert "0/2" in screen[:first]
    assert "1/2" in screen[first:]
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")  # the cursor is visible again


def test_lines_fit_the_terminal_of_stderr_also_if_stdout_is_a_pipe(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 33))
    with os.fdopen(theirs, "w") as screen:
        assert terminal_size(screen).columns == 33
        assert max(map(len, fitted("two words " * 9, screen).splitlines())) <= 33
        monkeypatch.setenv("COLUMNS", "44")
        assert terminal_size(screen).columns == 44
    os.close(ours)
    monkeypatch.delenv("COLUMNS")
    assert terminal_size(io.StringIO()) == (80, 24)


@pytest.mark.parametrize(("typed", "left"), [(b"\x04", "dog\nhat\n"), (b"\n", "dog\nhat\n"), (b"y\n", "hat\n")])
def test_rm_removes_only_after_a_yes(stocked, typed, left):
    status, screen = in_terminal("rm", "dog", *at(stocked), typed=typed)
    assert ("[y/N]" in screen, status) == (True, 0 if left == "hat\n" else 1)
    if typed == b"\x04":  # nothing ends the line of the question
        assert "[y/N] \r\nnothing was removed" in screen
    assert cnsctl("ls", "-q", *at(stocked)).out == left


def test_an_image_is_not_written_into_a_terminal(stocked):
    status, screen = in_terminal("gen", "<dog>", "-o", "-", *at(stocked))
    assert (status, "> FILE.png" in screen) == (2, True)


def test_on_a_terminal_a_column_without_values_is_left_out(stocked, empty):
    _, screen = in_terminal("ls", *at(stocked))
    assert screen.split()[:3] == ["name", "class", "tokens"]
    assert "CLIP-I" not in screen
    assert "no concepts yet: cnsctl add NAME IMAGES" in in_terminal("ls", *at(empty))[1]


def test_lines_are_broken_between_words_on_a_terminal_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    text = "  a long line with /a/very/long/path/in/it"
    assert fitted(text, io.StringIO()) == text
    broken = fitted(text, Screen())
    assert " ".join(broken.split()) == text.strip()
    assert broken.splitlines()[1:] == ["    /a/very/long/path/in/it"]


def test_json_is_valid_in_every_encoding_of_the_stream():
    path = "\udcff–é.png"  # a file name of other bytes, and letters beyond ASCII
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        assert json.loads(json_line({"path": path}, stream).encode(encoding)) == {"path": path}
    assert "é" in json_line({"path": "é"}, io.TextIOWrapper(io.BytesIO(), "utf-8"))


def test_an_ascii_stream_gets_the_result(stocked):
    done = subprocess.run(
        [*PROGRAM, "ls", *at(stocked)], capture_output=True, text=True, env=environment(PYTHONIOENCODING="ascii")
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["dog", "hat"]


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_not_a_failure(stocked, stream):
    done = shell(f"cnsctl ls --store {stocked} {stream}")
    assert done.returncode == 0, done.stderr


def test_rm_refuses_to_ask_if_stdin_is_closed(stocked):
    done = shell(f"cnsctl rm dog --store {stocked} <&-")
    assert (done.returncode, "rm dog -y" in done.stderr) == (2, True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("line", ["ls", "ls --json", "--help", "--version", "completion bash"])
def test_a_full_stdout_is_an_error_without_a_traceback(stocked, line):
    done = shell(f"CNSCTL_STORE={stocked} cnsctl {line} > /dev/full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_a_full_stderr_takes_the_message_and_not_the_exit_status(stocked):
    assert shell(f"cnsctl show cat --store {stocked} 2> /dev/full").returncode == 4
    with Store.open(stocked).work.reserve("owl") as work:
        (work / "state").write_bytes(b"half")
    listed = shell(f"cnsctl ls --store {stocked} 2> /dev/full")  # it has a note to print
    assert (listed.returncode, [line.split("\t")[0] for line in listed.stdout.splitlines()]) == (0, ["dog", "hat"])


def test_the_version_is_printed_also_into_a_closed_stream():
    assert shell("cnsctl --version").stdout.startswith("cnsctl ")
    assert shell("cnsctl --version >&-").returncode == 0
    gone = shell("cnsctl --version | true; exit ${PIPESTATUS[0]}")
    assert gone.returncode in (0, 141)
    assert "Traceback" not in gone.stderr


def test_a_line_that_is_not_text_fails_alone(stocked, tmp_path):
    done = cnsctl("gen", "-", "--json", "-o", tmp_path, *at(stocked), stdin=b"a cat\n\xff caf\xe9\n<dog>\n")
    assert done.code == 3, done.err
    kinds = [line["type"] for line in done.lines]
    assert [kind for kind in kinds if kind not in ("phase", "step")] == ["image", "failed", "image", "result"]


@pytest.mark.parametrize(
    "line", [["ls", "--nope"], ["nope"], ["add"], ["add", "x", "y", "--steps", "many"], ["mv", "a"]]
)
def test_a_wrong_call_is_reported_like_every_other_failure(line):
    done = cnsctl(*line)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error[usage]: ")
    assert "--help" in done.err
    error = json.loads(cnsctl(*line, "--json").err)
    assert (error["code"], error["exit"]) == ("usage", 2)


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_an_interrupted_command_leaves_with_130(stocked, tmp_path, flag):
    started = warm.start(warm.cnsctl, "gen", "-", "a", "-o", tmp_path, *flag, *at(stocked))
    while flag and json.loads(started.stdout.readline())["type"] != "image":
        pass  # imports swallow interrupts
    if not flag:
        started.stdout.readline()  # the path of a image: now it waits for more prompts
    started.send_signal(signal.SIGINT)
    code, _, err = started.finish()
    assert code == 130, err
    assert "Traceback" not in err
    if flag:
        assert json.loads(err)["code"] == "interrupted"
