"""``pixel-llm doctor``: what it takes, and which parts it puts together."""

from __future__ import annotations

from pathlib import Path

import click

from pixel_llm.cli.doctor.reports import REPORTS
from pixel_llm.cli.duration import DurationType
from pixel_llm.cli.policy.options import check_options, complete_profile, server_overrides


@click.command("doctor")
@click.option(
    "--profile", help="The profile.  [default: $PIXEL_LLM_PROFILE, else basic]", shell_complete=complete_profile
)
@click.option("--policies", type=click.Path(path_type=Path), help="The folder of policies.")
@click.option("--base-url", help="The server, such as http://127.0.0.1:1234/v1.")
@click.option("--model", help="The model, by the name that the server lists.")
@click.option(
    "--timeout", type=DurationType(), default="30s", show_default=True, help="How long each check may take, such as 5s."
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
    check_options(policies, profile, base_url, model)
    from pixel_llm.doctor import examine  # loads httpx

    examination = examine(policies, profile, overrides=server_overrides(base_url, model), timeout=timeout)
    click.echo(REPORTS[style](examination))
    context.exit(0 if examination.is_fine else 1)
