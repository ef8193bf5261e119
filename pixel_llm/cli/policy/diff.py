"""``pixel-llm policy diff``"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.policy.explain import seconds
from pixel_llm.cli.policy.operand import loaded
from pixel_llm.cli.policy.options import complete_profile, source_options, variables_from
from pixel_llm.policy import LoadedPolicy, Secret
from pixel_llm.policy.bounds import DEFAULT_RATE, Bounds, compute_bounds
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.sizes import format_size


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. *kind* is ``bound`` or ``setting``; what is not there is None."""

    kind: str
    target: str
    what: str
    before: Any
    after: Any


@click.command("diff")
@click.argument("before", shell_complete=complete_profile)
@click.argument("after", shell_complete=complete_profile)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_RATE, show_default=True,
              help="Calls per second at which the breaker's bounds are computed.")  # fmt: skip
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@source_options
def diff_command(
    before: str, after: str, rate: float, style: str, overlays: tuple[Path, ...], env_file: Path | None
) -> None:
    """
    Compare two policies by what they mean, not by their lines.

    BEFORE and AFTER are profiles, files, git:REV:PROFILE, or git:REV for the other one as it was then:

        pixel-llm policy diff git:main production

    Exit 0, whether they differ or not.
    """
    variables = variables_from(env_file)
    with (
        loaded(before, other=after, overlays=overlays, variables=variables) as first,
        loaded(after, other=before, overlays=overlays, variables=variables) as second,
    ):
        changes = [*_bounds(first, second, rate), *_settings(first, second)]
    if style == "json":
        click.echo(json.dumps([asdict(change) for change in changes], indent=2, ensure_ascii=False))
    else:
        click.echo(_as_text(changes) or f"{before} and {after} mean the same.")


def _bounds(first: LoadedPolicy, second: LoadedPolicy, rate: float) -> Iterator[Change]:
    for target in dict.fromkeys([*first.config.targets, *second.config.targets]):
        old = _in_words(compute_bounds(first.config, target, rate=rate)) if target in first.config.targets else {}
        new = _in_words(compute_bounds(second.config, target, rate=rate)) if target in second.config.targets else {}
        for what in dict.fromkeys([*old, *new]):
            if old.get(what) != new.get(what):
                yield Change("bound", target, what, old.get(what), new.get(what))


def _in_words(bounds: Bounds) -> dict[str, str]:
    words = {
        "worst case": seconds(bounds.worst_latency),
        "attempts at worst": str(bounds.worst_attempts),
        "requests to LM Studio at worst": str(bounds.worst_upstream_calls),
    }
    if bounds.opens_after is not None:
        words["breaker opens after"] = seconds(bounds.opens_after)
    if bounds.opens_after_silence is not None:
        words["breaker opens after, without answers,"] = seconds(bounds.opens_after_silence)
    if bounds.cache_bytes:
        words["cache at most"] = format_size(bounds.cache_bytes)
    return words


def _settings(first: LoadedPolicy, second: LoadedPolicy) -> Iterator[Change]:
    old, new = _flat(POLICY.thaw(first.config)), _flat(POLICY.thaw(second.config))
    old.pop(("description",), None)
    new.pop(("description",), None)
    for path in dict.fromkeys([*old, *new]):
        before, after = old.get(path), new.get(path)
        if before != after:
            target, rest = (path[1], path[2:]) if path[0] == "targets" and len(path) > 2 else ("", path)
            yield Change("setting", target, ".".join(rest), _hidden(before), _hidden(after))


def _flat(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, child in value.items() for key, leaf in _flat(child, (*path, name)).items()}


def _hidden(value: Any) -> Any:
    return f"*** ({value.fingerprint()})" if isinstance(value, Secret) else value


def _as_text(changes: list[Change]) -> str:
    lines: list[str] = []
    for target in dict.fromkeys(change.target for change in changes):
        lines += ["", target or "the whole policy"]
        for change in changes:
            if change.target == target:
                lines.append(f"  {change.what} {_show(change.before)} → {_show(change.after)}")
    return "\n".join(lines).strip("\n")


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
