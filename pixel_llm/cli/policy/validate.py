"""``pixel-llm policy validate``"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pixel_llm.cli.policy.options import complete_profile, source_options, variables_from
from pixel_llm.cli.reports import REPORTS, render
from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy import find_folder, policy_files
from pixel_llm.policy.checking import CheckReport, check_files
from pixel_llm.policy.locating import NOT_FOUND, STANDARD_INPUT, profile_file
from pixel_llm.policy.reading import MAX_BYTES


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--profile", help="Check this profile only, by its name.", shell_complete=complete_profile)
@click.option("--format", "style", type=click.Choice(REPORTS), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@source_options
@click.pass_context
def validate_command(
    context: click.Context,
    paths: tuple[Path, ...],
    profile: str | None,
    style: str,
    strict: bool,
    overlays: tuple[Path, ...],
    env_file: Path | None,
) -> None:
    """
    Check policy files, every one in folders, or standard input (-).

    Without PATHS, those of $PIXEL_LLM_POLICIES, else ./policies, else the ones in the package. Each is checked with
    everything it extends, its variables and its overlays. Exit 0 if nothing is wrong, 1 if something is.
    """
    if profile and len(paths) > 1:
        raise click.UsageError("--profile takes one folder at most")
    try:
        report = _check(paths, profile, overlays, env_file)
    except PolicyError as error:
        if style == "text":
            raise
        report = CheckReport((), error.problems)  # a program that reads the report hears of it there
    if text := render(report, style):
        click.echo(text)
    context.exit(1 if report.fails(strict=strict) else 0)


def _check(paths: Sequence[Path], profile: str | None, overlays: Sequence[Path], env_file: Path | None) -> CheckReport:
    variables = variables_from(env_file)
    files = _files(paths, profile)
    given = {STANDARD_INPUT: sys.stdin.buffer.read(MAX_BYTES + 1)} if STANDARD_INPUT in files else {}
    return check_files(files, overlays=overlays or None, variables=variables, given=given)


def _files(paths: Sequence[Path], profile: str | None) -> list[Path]:
    if profile:
        return [profile_file(find_folder(paths[0] if paths else None), profile)]
    files: list[Path] = []
    for path in paths or [find_folder(None)]:
        path = STANDARD_INPUT if path == Path("-") else path
        found = policy_files(path) if path.is_dir() else [path]
        if not found:
            message = "this folder has no policy files (*.yaml)"
            raise PolicyError([Problem(Place(str(path)), "", message, NOT_FOUND)])
        files += found
    return list(dict.fromkeys(files))
