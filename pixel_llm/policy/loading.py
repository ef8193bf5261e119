"""From files to a frozen policy: read, merge, validate, interpolate, check, freeze."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.errors import Place, PolicyError
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.interpolation import Interpolator
from pixel_llm.policy.locating import find_folder, profile_file, profiles_in
from pixel_llm.policy.meaning import check_meaning
from pixel_llm.policy.merging import merge
from pixel_llm.policy.nodes import Node, node_from
from pixel_llm.policy.schema import check_effective
from pixel_llm.policy.sections.document import POLICY, PolicyConfig
from pixel_llm.policy.templates import apply_templates

DEFAULT_PROFILE = "basic"


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy that has passed every check, and where it came from. Immutable."""

    profile: str
    file: Path
    config: PolicyConfig


def load_policy(
    folder: str | Path | None = None,
    profile: str | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """
    Load one profile.

    Args:
        folder: Where policies lie; see :func:`pixel_llm.policy.locating.find_folder`. The
            shipped profiles can be loaded and extended by name from any folder.
        profile: The name of the profile, else ``$PIXEL_LLM_PROFILE``, else ``basic``.
        overrides: Sections laid over the profile, as a policy file would have them.
        variables: What ``${VAR}`` sees; by default the environment.

    Raises:
        PolicyError: With every problem found, each with its place.
    """
    variables = os.environ if variables is None else variables
    name = profile or variables.get("PIXEL_LLM_PROFILE") or DEFAULT_PROFILE
    file = profile_file(find_folder(folder, variables), name)
    return load_policy_file(file, overrides=overrides, variables=variables)


def load_policy_file(
    path: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """Load the policy in one file; it may extend its neighbours and the shipped profiles. See :func:`load_policy`."""
    sources = Sources(profiles_in(path.parent))
    document = sources.load(path)
    if overrides:
        document = merge(document, sources.check(_from_code(overrides)))
    if sources.problems:
        raise PolicyError(sources.problems)
    return LoadedPolicy(path.stem, path, _finish(document, os.environ if variables is None else variables))


def _from_code(overrides: Mapping[str, Any]) -> Node:
    return node_from({"version": 1, **overrides}, Place("<overrides>"))


def _finish(document: Node, variables: Mapping[str, str]) -> PolicyConfig:
    interpolator = Interpolator(variables)
    document = POLICY.resolve(document, interpolator, ())
    document, problems = apply_templates(document)
    problems = interpolator.problems + problems
    if not problems:
        problems = check_effective(document)
    if problems:
        raise PolicyError(problems)
    config: PolicyConfig = POLICY.freeze(document.plain())
    problems = check_meaning(config, document)
    if problems:
        raise PolicyError(problems)
    return config
