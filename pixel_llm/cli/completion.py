"""``pixel-llm completion``"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """
    Print the script that completes commands, options, profiles and files in SHELL.

    Load it where your shell starts, such as ~/.bashrc or ~/.zshrc:

        eval "$(pixel-llm completion bash)"

    fish wants it in ~/.config/fish/completions/pixel-llm.fish.
    """
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 - click knows all of SHELLS
    source = completion(context.find_root().command, {}, "pixel-llm", "_PIXEL_LLM_COMPLETE")
    # Not source(), which starts the shell to ask for its version.
    click.echo(source.source_template % source.source_vars())
