"""A command group that imports a command when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from pixel_llm.policy.suggestions import suggestion


class LazyGroup(click.Group):
    """
    A group whose commands are named, not imported.

    Args:
        commands_by_name: For each command ``module:attribute`` and the line that the help shows.
    """

    def __init__(self, *args: Any, commands_by_name: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return sorted(self._commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command *cmd_name*, or say what it might have been."""
        if cmd_name not in self._commands_by_name:
            if ctx.resilient_parsing:  # the shell asks what could follow: nothing
                return None
            hint = suggestion(cmd_name, self._commands_by_name)
            raise click.UsageError(f"there is no command {cmd_name!r}{hint}", ctx)
        module, attribute = self._commands_by_name[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above names commands
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, from the table, and the group's options."""
        commands = [
            CompletionItem(name, help=text)
            for name, (_, text) in sorted(self._commands_by_name.items())
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help from the table, so that it loads no command."""
        rows = [(name, text) for name, (_, text) in sorted(self._commands_by_name.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
