"""``pixel-llm policy list``"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pixel_llm.errors import PolicyError
from pixel_llm.policy import find_folder, load_policy_file, profiles_in


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
        click.echo(json.dumps({"folder": str(found), "profiles": rows}, indent=2, ensure_ascii=False))
        return
    table = Table("profile", "description", "file", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    Console(width=None if Console().is_terminal else 200).print(table)
    click.echo(f"\nPolicies come from {found}; the shipped profiles can be extended from anywhere.")


def _description(file: Path) -> str:
    try:
        return load_policy_file(file).config.description
    except PolicyError as error:
        count = len(error.problems)
        return f"({count} problem{'s' * (count > 1)}: see pixel-llm policy validate)"
