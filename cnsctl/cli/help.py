"""Help in groups: commands by what they are for, options by how often they are needed.

Owns the layout of help texts; must not know what they say.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class GroupedCommand(TyperCommand):
    """A command whose help lists common options first, then each group under its heading."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options, and the groups of options."""
        parts: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            argument = parameter.param_type_name == "argument"
            title = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
            parts.setdefault(title, []).append(record)
        order = ["Arguments", "Options", *(title for title in parts if title not in ("Arguments", "Options"))]
        for title in order:
            if title in parts:
                with formatter.section(title):
                    formatter.write_dl(parts[title])


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
