"""``pixel-llm policy list``"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pixel_llm.cli.terminal import json_text, printable
from pixel_llm.errors import PolicyError
from pixel_llm.policy import find_folder, load_policy_file, profiles_in
from pixel_llm.policy.showing import count


@click.command("list")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_command(folder: Path | None, style: str) -> None:
    """List the profiles of FOLDER (by default where policies are looked for), the shipped ones included."""
    found = find_folder(folder)
    rows = [
        {"profile": name, "description": _description(file), "file": str(file)}
        for name, file in sorted(profiles_in(found).items())
    ]
    if style == "json":
        click.echo(json_text({"folder": str(found), "profiles": rows}, indent=2))
        return
    click.echo(_as_table(rows))
    click.echo(f"\nPolicies come from {printable(str(found))}; the shipped profiles can be extended from anywhere.")


def _as_table(rows: list[dict[str, str]]) -> str:
    table = Table("profile", "description", "file", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(printable(text) for text in row.values()))
    # Whoever reads from a pipe wants a line a profile.
    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _description(file: Path) -> str:
    try:
        return load_policy_file(file).config.description
    except PolicyError as error:
        return f"({count(len(error.problems), 'problem')}: see pixel-llm policy validate)"
