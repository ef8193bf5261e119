"""The command line's entrance: the command tree, and errors as people read them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

import click

from pixel_llm.cli.lazy import LazyGroup
from pixel_llm.cli.records import show_warnings
from pixel_llm.cli.terminal import prepare_streams, printable
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


def run() -> None:
    """Run the command line. Exit 0: fine; 1: problems found; 2: wrong usage; 130: interrupted."""
    prepare_streams()
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
    except OSError as error:  # with a file's name, or of our output: nobody reads on, as with `| head`
        if not isinstance(error, BrokenPipeError):
            where = printable(os.fsdecode(error.filename)) if error.filename else "cannot write"
            click.echo(f"error: {where}: {error.strerror or error}", err=True)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - or the interpreter complains at exit
        code = 1
    leave(code if isinstance(code, int) else 0)


def leave(code: int) -> NoReturn:
    """
    End the process.

    A thread that was left behind in the middle of something, such as loading torch, does not survive the end of the
    interpreter: it would take the process down with a signal. So the process ends before.
    """
    daemons = sum(thread.daemon and thread.is_alive() for thread in threading.enumerate())
    if daemons:
        from pixel_llm.resilience.threads.pool import WORKERS

        if daemons > WORKERS.idle:
            atexit._run_exitfuncs()  # logs are written to their ends
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            os._exit(code)
    sys.exit(code)


def show_error(error: PixelLMError, *, about: str = "") -> None:
    """Write *error* to standard error: what and where in one line, what to do in a second."""
    text = printable(str(error), keep_lines=True)
    prefix = f"{printable(about)}: " if about and printable(about) not in text else ""
    if isinstance(error, PolicyError):
        click.echo(text, err=True)
        return
    click.echo(f"error: {prefix}{text} [{error.error_code}]", err=True)
    for name, what in error.details.get("endpoints", {}).items():
        click.echo(f"  {printable(str(name))}: {printable(str(what))}", err=True)
    hint = error.info.suggestion
    # Messages about what was passed in say what was wanted; others may have given their own advice already.
    says_it = error.info.family is ErrorFamily.VALIDATION or error.error_code is ErrorCode.ERR_ENC_INVALID_INPUT
    if not (says_it or error.advice or hint[:20] in text):
        click.echo(f"  → {hint}", err=True)
