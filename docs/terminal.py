"""Record commands in a terminal and write its screen to `docs/terminal.svg`: `python docs/terminal.py`.

The commands run in a real terminal of 100 columns, with an empty home folder, on pocket: some minutes on two CPU cores.
Needs pyte, which reads the terminal's control sequences: `pip install -e '.[docs]'`.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "terminal.svg"

COMMANDS = (
    "cnsctl add dog ./examples/dog",
    'cnsctl add hat ./examples/hat --class "top hat"',
    'cnsctl gen "<dog> wearing <hat> in the snow" --seed 1 -o two.png',
    "cnsctl verify",
    "cnsctl ls",
)
"""What the image shows, in a new store."""

COLUMNS, ROWS = 100, 400
"""Of the terminal: everything stays on its screen."""

FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def recorded() -> Iterator[bytes]:
    """What a terminal gets: prompts, commands, and what they print while they run."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        shutil.copytree(ROOT / "cnsctl" / "examples", home / "examples")
        program = home / ".bin" / "cnsctl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cnsctl "$@"\n')
        program.chmod(0o755)
        for command in COMMANDS:
            yield f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n".encode()
            yield output_of(command, home).replace(str(home).encode(), b"~")
            yield b"\r\n"


def output_of(command: str, home: Path) -> bytes:
    """What a command prints to a terminal in its home folder.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    keep = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LANG") if key in os.environ}
    env = {
        **keep, "PATH": f"{home}/.bin:{keep['PATH']}", "HOME": str(home), "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }  # fmt: skip
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
    with subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, env=env, start_new_session=True
    ) as process:  # fmt: skip
        os.close(theirs)
        found = b"".join(_read(ours))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, found)
    return found


def _read(terminal: int) -> Iterator[bytes]:
    """The bytes until the last program has closed the terminal, which Linux reports as an error."""
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        while True:
            try:
                data = stream.read(1 << 16)
            except OSError:
                return
            if not data:
                return
            yield data


def screen_of(content: bytes) -> list[Text]:
    """The lines that are on the screen in the end."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(content)
    lines = []
    for y in range(screen.cursor.y):
        line = Text(no_wrap=True)
        for x in range(COLUMNS):
            cell = screen.buffer[y][x]
            line.append(cell.data, _style(cell))
        line.rstrip()
        lines.append(line)
    while not lines[-1].plain:
        lines.pop()
    return lines


def _style(cell: pyte.screens.Char) -> Style:
    return Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold, italic=cell.italics)


def _colour(name: str) -> str | None:
    """Rich's name of a colour of pyte, which is a name or six hexadecimal digits."""
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    name = name.replace("brown", "yellow")
    return f"bright_{name.removeprefix('bright')}" if name.startswith("bright") else name


def svg(lines: list[Text]) -> str:
    """The lines as an image, in fonts that every system has: a page's image cannot load any."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO())
    for line in lines:
        console.print(line)
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = re.sub(r"font-family: Fira Code, monospace", f"font-family: {FONTS}", form)
    return console.export_svg(title="cnsctl", theme=MONOKAI, code_format=form, unique_id="cnsctl")


if __name__ == "__main__":
    TARGET.write_text(svg(screen_of(b"".join(recorded()))), encoding="utf-8")
