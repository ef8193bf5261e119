"""``pixel-llm policy explain``"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from pixel_llm.cli.policy.operand import loaded
from pixel_llm.cli.policy.options import complete_profile, source_options, variables_from
from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy import LoadedPolicy, format_duration
from pixel_llm.policy.bounds import DEFAULT_RATE, Bounds, compute_bounds
from pixel_llm.policy.sections.target import TargetPolicy
from pixel_llm.policy.sizes import format_size
from pixel_llm.policy.suggestions import one_of, suggestion


@click.command("explain")
@click.argument("policy", required=False, shell_complete=complete_profile)
@click.option("--target", help="Explain this target only.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_RATE, show_default=True,
              help="Calls per second at which the breaker's bound is computed.")  # fmt: skip
@click.option("--format", "style", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True)
@source_options
def explain_command(
    policy: str | None, target: str | None, rate: float, style: str, overlays: tuple[Path, ...], env_file: Path | None
) -> None:
    """
    Show each target's layers, outermost first, and what a call can cost at worst.

    POLICY is a profile, a file, or git:REV:PROFILE; by default $PIXEL_LLM_PROFILE, else basic.
    """
    with loaded(policy, overlays=overlays, variables=variables_from(env_file)) as found:
        targets = _targets(found, target)
        bounds = {name: compute_bounds(found.config, name, rate=rate) for name in targets}
    if style == "json":
        click.echo(_as_json(found, targets, bounds))
    elif style == "mermaid":
        click.echo(_as_mermaid(targets))
    else:
        click.echo(_as_text(found, targets, bounds))


def _targets(found: LoadedPolicy, only: str | None) -> Mapping[str, TargetPolicy]:
    targets = found.config.targets
    if only is None:
        return targets
    if only not in targets:
        hint = suggestion(only, targets) or f"; there are {one_of(targets)}"
        raise PolicyError([Problem(Place(str(found.file)), "targets", f"there is no target {only!r}{hint}", "PL010")])
    return {only: targets[only]}


def _as_text(found: LoadedPolicy, targets: Mapping[str, TargetPolicy], bounds: Mapping[str, Bounds]) -> str:
    lines = [f"profile {found.profile}, from {found.file}"]
    for name, target in targets.items():
        lines += ["", name]
        lines += [f"  {layer:<16} {words}".rstrip() for layer, words in target.layers_in_words()]
        lines += [f"  {what:<16} {words}" for what, words in bounds_in_words(bounds[name])]
    return "\n".join(lines)


def bounds_in_words(bounds: Bounds) -> list[tuple[str, str]]:
    """The bounds that say something, each with its name."""
    rows = [("at worst", f"{seconds(bounds.worst_latency)}, {bounds.worst_attempts} attempts")]
    if bounds.worst_upstream_calls != bounds.worst_attempts:
        rows.append(("", f"{bounds.worst_upstream_calls} requests to LM Studio"))
    if bounds.opens_after is not None or bounds.opens_after_silence is not None:
        at = f"at {bounds.rate:g} calls a second"
        rows.append(("breaker opens", f"{seconds(bounds.opens_after)} into an outage that fails at once, {at}"))
        rows.append(("", f"{seconds(bounds.opens_after_silence)} into one that gives no answer"))
    if bounds.cache_bytes:
        rows.append(("cache", f"at most {format_size(bounds.cache_bytes)}"))
    return rows


def seconds(value: float | None) -> str:
    """A duration in words; what has no bound is called so."""
    return "without bound" if value is None else format_duration(round(value, 3))


def _as_json(found: LoadedPolicy, targets: Mapping[str, TargetPolicy], bounds: Mapping[str, Bounds]) -> str:
    rows = {
        name: {
            "layers": [{"layer": layer, "meaning": words} for layer, words in target.layers_in_words()],
            "bounds": asdict(bounds[name]),
        }
        for name, target in targets.items()
    }
    result = {"profile": found.profile, "file": str(found.file), "targets": rows}
    return json.dumps(result, indent=2, ensure_ascii=False)


def _as_mermaid(targets: Mapping[str, TargetPolicy]) -> str:
    """A flowchart for Mermaid (mermaid.js.org), which GitHub and GitLab draw."""
    lines = ["flowchart LR"]
    for number, (name, target) in enumerate(targets.items()):
        layers = target.layers_in_words()
        lines.append(f'  subgraph t{number}["{name}"]')
        for index, (layer, words) in enumerate(layers):
            label = f"<b>{layer}</b><br/>{words}" if words else f"<b>{layer}</b>"
            lines.append(f'    t{number}_{index}["{label.replace(chr(34), "&quot;")}"]')
        lines.append("    " + " --> ".join(f"t{number}_{index}" for index in range(len(layers))))
        lines.append("  end")
    return "\n".join(lines)
