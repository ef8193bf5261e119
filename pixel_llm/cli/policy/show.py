"""``pixel-llm policy show``"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.policy.operand import load_operand
from pixel_llm.cli.policy.options import complete_policy, source_options, variables_from
from pixel_llm.cli.policy.words import origin
from pixel_llm.cli.terminal import json_text, printable
from pixel_llm.policy import LoadedPolicy, Secret
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.scalars import LookAlikeError, resolve_plain
from pixel_llm.policy.sections.document import POLICY

_DEFAULT = "default"

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

Row = tuple[tuple[str, ...], Any, str]


@click.command("show")
@click.argument("policy", required=False, shell_complete=complete_policy)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@source_options
def show_command(policy: str | None, style: str, overlays: tuple[Path, ...], env_file: Path | None) -> None:
    """
    Show the effective policy, and where each value comes from.

    What is printed is a policy file itself, that extends nothing and needs no variables; but secrets are not shown.
    POLICY is a profile, a file, - for standard input, or git:REV:PROFILE; by default $PIXEL_LLM_PROFILE, else basic.
    """
    found = load_operand(policy, overlays=overlays, variables=variables_from(env_file))
    rows = list(_rows(POLICY.thaw(found.config), found.document, ()))
    if style == "json":
        values = [{"path": ".".join(path), "value": value, "from": place} for path, value, place in rows]
        result = {"profile": found.profile, "file": str(found.file), "values": values}
        click.echo(json_text(result, indent=2))
    else:
        click.echo(_as_yaml(found, rows))


def _rows(value: Any, node: Node | None, path: tuple[str, ...]) -> Iterator[Row]:
    """Each value that is no map, with its path and its origin."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            below = node.value.get(key) if node is not None and isinstance(node.value, dict) else None
            yield from _rows(child, below, (*path, key))
    else:
        yield path, "***" if isinstance(value, Secret) else value, _DEFAULT if node is None else str(node.place)


def _as_yaml(found: LoadedPolicy, rows: list[Row]) -> str:
    """YAML that is a policy file itself, with the origin of each value as a comment."""
    lines: list[tuple[str, str]] = [(f"# {origin(found)}", "")]
    above: tuple[str, ...] = ()
    for path, value, place in rows:
        common = next((i for i, (a, b) in enumerate(zip(above, path, strict=False)) if a != b), len(path) - 1)
        new_maps = range(min(common, len(path) - 1), len(path) - 1)
        lines.extend((f"{'  ' * depth}{path[depth]}:", "") for depth in new_maps)
        lines.append((f"{'  ' * (len(path) - 1)}{path[-1]}: {_in_yaml(value)}", printable(place)))
        above = path
    width = min(max(len(text) for text, place in lines if place) + 2, 60)
    return "\n".join(f"{text:<{width}}  # {place}" if place else text for text, place in lines)


def _in_yaml(value: Any) -> str:
    """JSON is YAML, but for a few characters; plain words need no quotes."""
    if isinstance(value, str) and _WORD.fullmatch(value) and _is_plain(value):
        return value
    text = json.dumps(_without_references(value), ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in text)


def _is_plain(word: str) -> bool:
    try:
        return resolve_plain(word) == word
    except LookAlikeError:
        return False


def _without_references(value: Any) -> Any:
    """*value* with what looks like a reference escaped: all of them have been resolved."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: _without_references(child) for key, child in value.items()}
    return [_without_references(child) for child in value] if isinstance(value, list | tuple) else value
