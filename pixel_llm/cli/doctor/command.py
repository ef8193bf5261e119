"""``pixel-llm doctor``: what it takes, and which parts it puts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.doctor.reports import REPORTS
from pixel_llm.cli.policy.options import complete_profile, server_overrides
from pixel_llm.policy import parse_duration

#: No check is worth more seconds of waiting.
_LONGEST = 3600.0


class _Duration(click.ParamType):  # type: ignore[type-arg]  # of click 8.3 and later only; 8.1 takes none
    """A duration as policies have it; seconds for the command."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= _LONGEST:
            self.fail(f"must be longer than 0s and at most 1h (got {value})", param, ctx)
        return seconds


@click.command("doctor")
@click.option(
    "--profile", help="The profile.  [default: $PIXEL_LLM_PROFILE, else basic]", shell_complete=complete_profile
)
@click.option("--policies", type=click.Path(path_type=Path), help="The folder of policies.")
@click.option("--base-url", help="The server, such as http://127.0.0.1:1234/v1.")
@click.option("--model", help="The model, by the name that the server lists.")
@click.option(
    "--timeout", type=_Duration(), default="30s", show_default=True, help="How long each check may take, such as 5s."
)
@click.option("--format", "style", type=click.Choice(list(REPORTS)), default="text", show_default=True)
@click.pass_context
def doctor_command(
    context: click.Context,
    profile: str | None,
    policies: Path | None,
    base_url: str | None,
    model: str | None,
    timeout: float,
    style: str,
) -> None:
    """
    Check whether captions can be had, and say what to do if not.

    Looks at the policy, what the linter says of it, the encoder, the server, the key, the model (is it there, loaded,
    long enough for the longest answer), asks it for one token, and sends it a small picture if the policy has pictures
    sent. A check that makes no sense any more is skipped. Exit 0 if none has failed, 1 if one has, 2 for wrong usage.
    """
    from pixel_llm.doctor import examine  # loads httpx

    examination = examine(policies, profile, overrides=server_overrides(base_url, model), timeout=timeout)
    click.echo(REPORTS[style](examination))
    context.exit(0 if examination.is_fine else 1)
