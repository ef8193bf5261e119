"""``pixel-llm lm-studio-stub``: an LM Studio that fails as its script says, to try a policy against."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixel_llm.errors import ValidationError

if TYPE_CHECKING:
    from pixel_llm.testing import RecordedRequest, ScriptedLMStudio


@click.command("lm-studio-stub")
@click.option(
    "--script",
    "script_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file that says what the server does, step by step.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="IPv4 address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.pass_context
def lm_studio_stub_command(context: click.Context, script_path: Path, host: str, port: int) -> None:
    """
    Serve a scripted LM Studio until Ctrl-C.

    Each chat request takes the next step of the script, such as an answer, a
    status, silence, or a reset of the connection. One line is printed for each.
    """
    from pixel_llm.testing.script import load_script
    from pixel_llm.testing.server import ScriptedLMStudio

    script = load_script(script_path)
    server = ScriptedLMStudio(
        script.steps,
        then=script.then,
        models=script.models,
        loaded=script.loaded,
        api_key=script.api_key,
        check_model=script.check_model,
        own_api=script.own_api,
        host=host,
        port=port,
    )
    try:
        server.start()
    except ValidationError as error:
        click.echo(f"error: {_why_not(error)}", err=True)
        context.exit(1)
    try:
        with contextlib.closing(server):
            steps = f"{len(script.steps)} step{'' if len(script.steps) == 1 else 's'}"
            click.echo(f"LM Studio stub listens on {server.base_url} (script: {script_path}, {steps})")
            _report(server)
    except KeyboardInterrupt:
        return


def _why_not(error: ValidationError) -> str:
    """Why the server can't listen, and which option would mend it."""
    number = getattr(error.__cause__, "errno", None)
    if number == errno.EADDRINUSE:
        where = error.message.rpartition(": ")[0]
        return f"{where}: the port is in use, perhaps by another run of this program: choose another with --port"
    return f"{error.message}: choose another {'port with --port' if number == errno.EACCES else 'address with --host'}"


def _report(server: ScriptedLMStudio) -> None:
    """Print a line for each request as it comes in, for ever."""
    printed = 0
    while True:
        server.wait_for_requests(printed + 1, timeout=1.0)  # with a limit: Windows waits deafly to Ctrl-C
        for request in server.requests[printed:]:
            printed += 1
            click.echo(_line(printed, request))


def _line(number: int, request: RecordedRequest) -> str:
    from pixel_llm.testing.steps import describe_step

    return f"{number}  {request.method} {request.path}  → {describe_step(request.step)}"
