"""``pixel-llm policy show``"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.policy.operand import loaded
from pixel_llm.cli.policy.options import complete_profile, source_options, variables_from
from pixel_llm.policy import LoadedPolicy, Secret
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.sections.document import POLICY

_DEFAULT = "default"


@click.command("show")
@click.argument("policy", required=False, shell_complete=complete_profile)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@source_options
def show_command(policy: str | None, style: str, overlays: tuple[Path, ...], env_file: Path | None) -> None:
    """
    Show the effective policy, and where each value comes from.

    POLICY is a profile, a file, or git:REV:PROFILE; by default $PIXEL_LLM_PROFILE, else basic. Secrets are not shown.
    """
    with loaded(policy, overlays=overlays, variables=variables_from(env_file)) as found:
        rows = list(_rows(POLICY.thaw(found.config), found.document, ()))
        if style == "json":
            values = [{"path": ".".join(path), "value": value, "from": origin} for path, value, origin in rows]
            result = {"profile": found.profile, "file": str(found.file), "values": values}
            click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            click.echo(_as_yaml(found, rows))


def _rows(value: Any, node: Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Each value that is no map, with its path and its origin."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            below = node.value.get(key) if node is not None and isinstance(node.value, dict) else None
            yield from _rows(child, below, (*path, key))
    else:
        yield path, "***" if isinstance(value, Secret) else value, _DEFAULT if node is None else str(node.place)


def _as_yaml(found: LoadedPolicy, rows: list[tuple[tuple[str, ...], Any, str]]) -> str:
    """YAML that could be a policy file itself, with the origin of each value as a comment."""
    lines: list[tuple[str, str]] = [(f"# profile {found.profile}, from {found.file}", "")]
    above: tuple[str, ...] = ()
    for path, value, origin in rows:
        common = next((i for i, (a, b) in enumerate(zip(above, path, strict=False)) if a != b), len(path) - 1)
        new_maps = range(min(common, len(path) - 1), len(path) - 1)
        lines.extend((f"{'  ' * depth}{path[depth]}:", "") for depth in new_maps)
        lines.append((f"{'  ' * (len(path) - 1)}{path[-1]}: {_scalar(value)}", origin))
        above = path
    width = max(len(text) for text, origin in lines if origin) + 2
    return "\n".join(f"{text:<{width}}# {origin}" if origin else text for text, origin in lines)


def _scalar(value: Any) -> str:
    """JSON is YAML; plain words need no quotes."""
    if isinstance(value, str) and value.replace("_", "").replace("-", "").isalnum() and not value[0].isdigit():
        return (
            value
            if value.lower() not in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
            else f'"{value}"'
        )
    return json.dumps(value, ensure_ascii=False)
