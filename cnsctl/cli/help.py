"""Help in groups: commands by purpose, options by how often they are needed, in lines that fit the terminal.

Owns the layout of help texts; must not know their content.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cnsctl.cli.streams import terminal_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MARGIN = 2
_LEAST, _MOST = 20, 120
"""Columns of a help text, whatever the terminal has."""

_BESIDE = 60
"""Columns below which a description is on the lines below its option, not beside it."""

_FIRST = 30
"""Most columns of the names of options beside their descriptions."""


def help_of(command: Callable[..., None]) -> str:
    """A command's docstring; its first line is a title, without a full stop."""
    title, _, rest = (inspect.getdoc(command) or "").partition("\n")
    return f"{title.rstrip('.')}\n{rest}"


class Formatter(typer.Context.formatter_class):  # type: ignore[misc,valid-type]  # typer does not export its class
    """Writes help texts. Unlike click's formatter it never splits a word, and follows the terminal from 22 to 120 columns."""

    def __init__(self, width: int | None) -> None:
        columns = terminal_size(sys.stdout).columns - _MARGIN
        super().__init__(width=max(_LEAST, min(columns, _MOST)) if width is None else width)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line that begins a help text."""
        self.write("\n".join(_wrapped(f"{prefix or 'Usage: '}{prog} {args}", self.width, after="    ")) + "\n")

    def write_text(self, text: str) -> None:
        """Paragraphs, wrapped; one after a line with a backspace, which typer uses as a sign, is left as it is."""
        parts = []
        for paragraph in re.split(r"\n[ \t]*\n", text.strip("\n")):
            first, *rest = paragraph.split("\n")
            if first.strip() == "\b":
                parts.append(textwrap.indent("\n".join(rest), self._indent))
            else:
                indent = self._indent + " " * (len(first) - len(first.lstrip()))
                words = " ".join(line.strip() for line in (first, *rest))
                parts.append("\n".join(_wrapped(indent + words, self.width, after=indent)))
        self.write("\n\n".join(parts) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = _FIRST, col_spacing: int = 2) -> None:
        """A list of names with descriptions: beside them, or below them if the terminal is narrow."""
        beside = self.width >= _BESIDE
        first = min(max(len(name) for name, _ in rows), col_max) + col_spacing if beside else 4
        for name, text in rows:
            names = list(_at_bars(self._indent + name, self.width))
            below = not beside or len(names) > 1 or len(name) > first - col_spacing
            after = self._indent + " " * first
            lines = _wrapped(after + " ".join(text.split(" ")), self.width, after=after) if text else []
            if lines and not below:
                lines[0] = names.pop().ljust(len(after)) + lines[0][len(after) :]
            self.write("\n".join(line.rstrip() for line in (*names, *lines)) + "\n")

    @property
    def _indent(self) -> str:
        return " " * int(self.current_indent)


def _wrapped(text: str, width: int, *, after: str) -> list[str]:
    """Lines of at most `width` columns; a longer word has a line of its own."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(), width, initial_indent=indent, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    ) or [""]  # fmt: skip


def _at_bars(text: str, width: int) -> Iterator[str]:
    """Lines of `--mode token|prompt|merged`, broken after a bar where it is too long."""
    line, indent = "", " " * (len(text) - len(text.lstrip()) + 4)
    for part in re.findall(r"[^|]+\|?", text):
        if line.strip() and len(line) + len(part) > width:
            yield line
            line = indent
        line += part
    yield line


def _help(command: Any, ctx: Any) -> str:
    formatter = Formatter(ctx.terminal_width)
    command.format_help(ctx, formatter)
    return str(formatter.getvalue()).rstrip("\n")


class GroupedCommand(TyperCommand):
    """A command whose help lists common options first, then each group under its heading."""

    def get_help(self, ctx: Any) -> str:
        """The help, in lines that fit the terminal."""
        return _help(self, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments, then options, as in the examples; required arguments without typer's braces, which mean choices."""
        options, *arguments = super().collect_usage_pieces(ctx)
        return [*(piece.strip("{}") if "|" not in piece else piece for piece in arguments), options]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options, and the groups of options."""
        parts: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            argument = parameter.param_type_name == "argument"
            title = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
            parts.setdefault(title, []).append((record[0], record[1].rstrip(".")))
        for title, records in parts.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class GroupedCommands(TyperGroup):
    """The program, whose help lists commands in groups."""

    def get_help(self, ctx: Any) -> str:
        """The help, in lines that fit the terminal."""
        return _help(self, ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each group of commands under its heading."""
        parts: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            parts.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(limit=80)))
        widest = max(len(name) for rows in parts.values() for name, _ in rows)
        for title, rows in parts.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), text) for name, text in rows])
