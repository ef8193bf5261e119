"""The command line's entrance: the command tree, and errors as people read them."""

from __future__ import annotations

import os
import sys

import click

from pixel_llm.cli.lazy import LazyGroup
from pixel_llm.cli.records import show_warnings
from pixel_llm.cli.terminal import printable
from pixel_llm.errors import ErrorCode, ErrorFamily, PixelLMError, PolicyError

#: Commands are imported when they are called: checking a policy must load neither httpx nor torch.
COMMANDS = {
    "caption": ("pixel_llm.cli.caption:caption_command", "Caption images through a policy."),
    "completion": (
        "pixel_llm.cli.completion:completion_command",
        "Print the script that completes commands in your shell.",
    ),
    "demo": ("pixel_llm.cli.demo:demo_command", "Watch a policy carry captions through a failing server."),
    "doctor": ("pixel_llm.cli.doctor:doctor_command", "Check whether captions can be had, and say what to do if not."),
    "lm-studio-stub": (
        "pixel_llm.cli.lm_studio_stub:lm_studio_stub_command",
        "Run a scripted LM Studio that misbehaves as told.",
    ),
    "metrics": (
        "pixel_llm.cli.metrics:metrics_command",
        "Print the metrics of a running process, or serve them on.",
    ),
    "policy": ("pixel_llm.cli.policy:policy_group", "Check policies, look into them, compare them."),
    "top": ("pixel_llm.cli.top:top_command", "Watch the targets of a running process."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pixel-llm", prog_name="pixel-llm")
def root() -> None:
    """Dependable image captions from LM Studio: resilience policies in YAML, compiled into wrapper stacks."""


def main() -> None:
    """Run the command line. Exit 0: fine; 1: problems found; 2: wrong usage; 130: interrupted."""
    show_warnings()
    try:
        code = root.main(prog_name="pixel-llm", standalone_mode=False)
    except PixelLMError as error:
        show_error(error)
        code = 1
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except OSError as error:  # our output can't be written: nobody reads on, as with `| head`, or the disk is full
        if not isinstance(error, BrokenPipeError):
            click.echo(f"error: cannot write: {error.strerror}", err=True)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - or the interpreter complains at exit
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def show_error(error: PixelLMError, *, about: str = "") -> None:
    """Write *error* to standard error: what and where in one line, what to do in a second."""
    text = printable(str(error), keep_lines=True)
    prefix = f"{printable(about)}: " if about and printable(about) not in text else ""
    if isinstance(error, PolicyError):
        click.echo(text, err=True)
        return
    click.echo(f"error: {prefix}{text} [{error.error_code}]", err=True)
    hint = error.info.suggestion
    # Messages about what was passed in say what was wanted; others may have given the hint already.
    says_it = error.info.family is ErrorFamily.VALIDATION or error.error_code is ErrorCode.ERR_ENC_INVALID_INPUT
    if not says_it and hint[:20] not in text:
        click.echo(f"  → {hint}", err=True)
