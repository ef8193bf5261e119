"""``pixel-llm policy explain``"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from pixel_llm.cli.policy.operand import load_operand
from pixel_llm.cli.policy.options import complete_policy, source_options, variables_from
from pixel_llm.cli.policy.words import explain_bounds, origin
from pixel_llm.cli.terminal import json_text, printable
from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy import LoadedPolicy, PolicyConfig
from pixel_llm.policy.bounds import DEFAULT_RATE, Bounds, compute_bounds
from pixel_llm.policy.layers_in_words import layers_in_words
from pixel_llm.policy.sections.target import TargetPolicy
from pixel_llm.policy.suggestions import one_of, suggestion


@click.command("explain")
@click.argument("policy", required=False, shell_complete=complete_policy)
@click.option("--target", help="Explain this target only.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_RATE, show_default=True,
              help="Calls per second at which the breaker's bounds are computed.")  # fmt: skip
@click.option("--format", "style", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True)
@source_options
def explain_command(
    policy: str | None, target: str | None, rate: float, style: str, overlays: tuple[Path, ...], env_file: Path | None
) -> None:
    """
    Show each target's layers, outermost first, and what a call can cost at worst.

    POLICY is a profile, a file, - for standard input, or git:REV:PROFILE; by default $PIXEL_LLM_PROFILE, else basic.
    """
    found = load_operand(policy, overlays=overlays, variables=variables_from(env_file))
    targets = _targets(found, target)
    bounds = {name: compute_bounds(found.config, name, rate=rate) for name in targets}
    if style == "json":
        click.echo(_as_json(found, targets, bounds))
    elif style == "mermaid":
        click.echo(_as_mermaid(found.config, targets))
    else:
        click.echo(_as_text(found, targets, bounds))


def _targets(found: LoadedPolicy, only: str | None) -> Mapping[str, TargetPolicy]:
    targets = found.config.targets
    if only is None:
        return targets
    if only not in targets:
        hint = suggestion(only, targets) or (f"; there are {one_of(targets)}" if targets else "; there are none")
        raise PolicyError([Problem(Place(str(found.file)), "targets", f"there is no target {only!r}{hint}", "PL010")])
    return {only: targets[only]}


def _as_text(found: LoadedPolicy, targets: Mapping[str, TargetPolicy], bounds: Mapping[str, Bounds]) -> str:
    lines = [origin(found)]
    for name, target in targets.items():
        words = explain_bounds(bounds[name], has_breaker=target.circuit_breaker is not None)
        lines += ["", name]
        lines += [
            f"  {what:<16} {meaning}".rstrip() for what, meaning in [*layers_in_words(found.config, name), *words]
        ]
    if not targets:
        lines += ["", "It names no targets: nothing is guarded."]
    return printable("\n".join(lines), keep_lines=True)


def _as_json(found: LoadedPolicy, targets: Mapping[str, TargetPolicy], bounds: Mapping[str, Bounds]) -> str:
    rows = {
        name: {
            "layers": [{"layer": layer, "meaning": words} for layer, words in layers_in_words(found.config, name)],
            "bounds": asdict(bounds[name]),
        }
        for name, target in targets.items()
    }
    result = {"profile": found.profile, "file": str(found.file), "targets": rows}
    return json_text(result, indent=2)


def _as_mermaid(config: PolicyConfig, targets: Mapping[str, TargetPolicy]) -> str:
    """A flowchart for Mermaid (mermaid.js.org), which GitHub and GitLab draw."""
    lines = ["flowchart LR"]
    for number, name in enumerate(targets):
        layers = layers_in_words(config, name)
        lines.append(f'  subgraph t{number}["{_label(name)}"]')
        for index, (layer, words) in enumerate(layers):
            label = f"<b>{layer}</b><br/>{_label(words)}" if words else f"<b>{layer}</b>"
            lines.append(f'    t{number}_{index}["{label}"]')
        lines.append("    " + " --> ".join(f"t{number}_{index}" for index in range(len(layers))))
        lines.append("  end")
    return "\n".join(lines)


def _label(text: str) -> str:
    """*text* with what means something to Mermaid or HTML as an entity, in Mermaid's notation."""
    return "".join(f"#{ord(char)};" if char in '"#&;<>`\\' else char for char in printable(text))
