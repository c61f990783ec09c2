"""Help in groups: commands by purpose, options by how often they are needed.

Owns the layout of help texts; must not know their content.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable


def help_of(command: Callable[..., None]) -> str:
    """A command's docstring; its first line is a title, without a full stop."""
    title, _, rest = (inspect.getdoc(command) or "").partition("\n")
    return f"{title.rstrip('.')}\n{rest}"


class GroupedCommand(TyperCommand):
    """A command whose help lists common options first, then each group under its heading."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Required arguments without typer's braces, which are left for choices."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.strip("{}") if "|" not in piece else piece for piece in pieces]

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
