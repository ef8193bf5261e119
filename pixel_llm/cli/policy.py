"""``pixel-llm policy``: check policies, print their schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy import find_folder, load_policy_file, policy_files, render_schema
from pixel_llm.policy.locating import profile_file


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check: the files looked at, and what is wrong with them."""

    files: tuple[str, ...]
    problems: tuple[Problem, ...]


@click.group()
def policy_group() -> None:
    """Check policies and print their schema."""


@policy_group.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--profile", help="Check this profile only, by its name.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def validate_command(context: click.Context, paths: tuple[Path, ...], profile: str | None, style: str) -> None:
    """
    Check policy files, or every one in folders.

    Without PATHS, those of $PIXEL_LLM_POLICIES, else ./policies, else the ones in the package.
    Exit 0 if nothing is wrong, 1 if something is.
    """
    if profile and len(paths) > 1:
        raise click.UsageError("--profile takes one folder at most")
    report = check(_files(paths, profile))
    click.echo(_as_json(report) if style == "json" else _as_text(report))
    context.exit(1 if report.problems else 0)


@policy_group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of policy files."""
    click.echo(render_schema(), nl=False)


def check(files: Sequence[Path]) -> Report:
    """Load each file with everything it extends; collect what is wrong."""
    problems: dict[Problem, None] = {}
    for file in files:
        try:
            load_policy_file(file)
        except PolicyError as error:
            problems.update(dict.fromkeys(error.problems))
    return Report(tuple(map(str, files)), tuple(sorted(problems)))


def _files(paths: Sequence[Path], profile: str | None) -> list[Path]:
    if profile:
        folder = find_folder(paths[0] if paths else None)
        return [profile_file(folder, profile)]
    folders_and_files = paths or [find_folder(None)]
    return list(_expand(folders_and_files))


def _expand(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = policy_files(path)
        if not files:
            raise PolicyError([Problem(Place(str(path)), "", "this folder has no policy files (*.yaml)")])
        yield from files


def _as_text(report: Report) -> str:
    lines = [str(problem) for problem in report.problems]
    count = len(report.files)
    files = f"{count} polic{'y' if count == 1 else 'ies'}"
    folders = {str(Path(file).parent) for file in report.files}
    where = f" in {folders.pop()}" if count > 1 and len(folders) == 1 and folders != {"."} else ""
    found = len(report.problems)
    lines.append(f"{files}{where}: {f'{found} problem' + 's' * (found > 1) if found else 'no problems'}")
    return "\n".join(lines)


def _as_json(report: Report) -> str:
    problems: list[dict[str, Any]] = [
        {
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "path": problem.path,
            "message": problem.message,
        }
        for problem in report.problems
    ]
    return json.dumps({"files": report.files, "problems": problems}, indent=2, ensure_ascii=False)
