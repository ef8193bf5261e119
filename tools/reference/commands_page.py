"""``docs/reference/commands.md``, from the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from pixel_llm.cli.main import root
from tools.reference.markdown import bullet, fence, page, paragraph, written_by_make_docs

_EXIT_CODES = (
    (0, "fine"),
    (1, "problems were found, or an image got no caption"),
    (2, "wrong usage"),
    (130, "interrupted"),
)


def commands_page() -> str:
    """Every command with its arguments and options."""
    context = click.Context(root, info_name="pixel-llm")
    return page(
        written_by_make_docs("pixel_llm/cli/"),
        "# Commands",
        "Reports go to standard output, everything else to standard error. What the exit codes mean:",
        "\n".join(bullet(f"{code}: {meaning}") for code, meaning in _EXIT_CODES),
        (block for command in _commands(context, root) for block in command),
    )


def _commands(context: click.Context, group: click.Group) -> Iterator[list[str]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(below, command)
        else:
            yield _command(below, command)


def _command(context: click.Context, command: click.Command) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = [_option(context, param) for param in command.params if isinstance(param, click.Option)]
    return [
        f"## `{context.command_path}`",
        fence("text", usage),
        *_help(command),
        "\n".join(options),
    ]


def _help(command: click.Command) -> Iterator[str]:
    """The help text; what is indented in it is an example."""
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        yield fence("text", inspect.cleandoc(part)) if part.startswith("    ") else paragraph(part)


def _option(context: click.Context, option: click.Option) -> str:
    names, text = option.get_help_record(context) or ("", "")
    return bullet(f"`{names}`: {' '.join(text.split())}" if text else f"`{names}`")
