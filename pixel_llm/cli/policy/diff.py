"""``pixel-llm policy diff``"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.policy.operand import load_operand
from pixel_llm.cli.policy.options import complete_policy, source_options, variables_from
from pixel_llm.cli.policy.words import compare_bounds
from pixel_llm.cli.terminal import json_text, printable
from pixel_llm.policy import PolicyConfig, Secret
from pixel_llm.policy.bounds import DEFAULT_RATE, compute_bounds
from pixel_llm.policy.sections.document import POLICY


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. *kind* is ``bound`` or ``setting``; what is not there is None."""

    kind: str
    target: str
    what: str
    before: Any
    after: Any


@click.command("diff")
@click.argument("before", shell_complete=complete_policy)
@click.argument("after", shell_complete=complete_policy)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_RATE, show_default=True,
              help="Calls per second at which the breaker's bounds are computed.")  # fmt: skip
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@source_options
def diff_command(
    before: str, after: str, rate: float, style: str, overlays: tuple[Path, ...], env_file: Path | None
) -> None:
    """
    Compare two policies by what they mean, not by their lines.

    BEFORE and AFTER are profiles, files, - for standard input, git:REV:PROFILE, or git:REV for the other one as it
    was then:

        pixel-llm policy diff git:main production

    First comes what a call can cost at worst, then the settings. Exit 0, whether they differ or not.
    """
    if before == after == "-":
        raise click.UsageError("standard input can be read once only")
    variables = variables_from(env_file)
    first = load_operand(before, other=after, overlays=overlays, variables=variables).config
    second = load_operand(after, other=before, overlays=overlays, variables=variables).config
    changes = [*_bounds(first, second, rate, in_words=style == "text"), *_settings(first, second)]
    if style == "json":
        click.echo(json_text([asdict(change) for change in changes], indent=2))
    else:
        click.echo(printable(_as_text(changes) or f"{before} and {after} mean the same.", keep_lines=True))


def _bounds(first: PolicyConfig, second: PolicyConfig, rate: float, *, in_words: bool) -> Iterator[Change]:
    for target in dict.fromkeys([*first.targets, *second.targets]):
        old, new = (_bounds_of(config, target, rate, in_words=in_words) for config in (first, second))
        for what in dict.fromkeys([*old, *new]):
            if old.get(what) != new.get(what):
                yield Change("bound", target, what, old.get(what), new.get(what))


def _bounds_of(config: PolicyConfig, target: str, rate: float, *, in_words: bool) -> dict[str, Any]:
    policy = config.targets.get(target)
    if policy is None:
        return {}
    bounds = compute_bounds(config, target, rate=rate)
    return compare_bounds(bounds, has_breaker=policy.circuit_breaker is not None) if in_words else asdict(bounds)


def _settings(first: PolicyConfig, second: PolicyConfig) -> Iterator[Change]:
    old, new = _flat(POLICY.thaw(first)), _flat(POLICY.thaw(second))
    for path in dict.fromkeys([*old, *new]):
        before, after = old.get(path), new.get(path)
        if before != after and path != ("description",):
            target, rest = (path[1], path[2:]) if path[0] == "targets" and len(path) > 2 else ("", path)
            yield Change("setting", target, ".".join(rest), *_without_secrets(before, after))


def _flat(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, child in value.items() for key, leaf in _flat(child, (*path, name)).items()}


def _without_secrets(before: Any, after: Any) -> tuple[Any, Any]:
    old = "***" if isinstance(before, Secret) else before
    if not isinstance(after, Secret):
        return old, after
    return old, "*** (another one)" if isinstance(before, Secret) else "***"


def _as_text(changes: list[Change]) -> str:
    lines: list[str] = []
    for kind, title in (("bound", "What a call can cost"), ("setting", "Settings")):
        some = [change for change in changes if change.kind == kind]
        if not some:
            continue
        lines += [*([""] if lines else []), title]
        for target in dict.fromkeys(change.target for change in some):
            lines.append(f"  {target or 'the whole policy'}")
            lines += [
                f"    {change.what} {_show(change.before)} → {_show(change.after)}"
                for change in some
                if change.target == target
            ]
    return "\n".join(lines)


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
