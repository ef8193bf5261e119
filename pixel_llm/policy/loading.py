"""From files to a frozen policy: read, merge, validate, interpolate, expand, check, freeze."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.errors import Place, PolicyError
from pixel_llm.policy.expansion import expand
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.interpolation import Interpolator
from pixel_llm.policy.locating import find_folder, neighbours, profile_file
from pixel_llm.policy.meaning import check_meaning, check_names, check_repeatable
from pixel_llm.policy.nodes import Node, node_from
from pixel_llm.policy.schema import check_effective
from pixel_llm.policy.sections.document import POLICY, PolicyConfig
from pixel_llm.policy.templates import Templates

DEFAULT_PROFILE = "basic"

#: What the file is called of sections that a program, or the command line, lays over a policy.
OVERRIDES = "<overrides>"


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """
    A policy that has passed every check, and where it came from. Immutable.

    Attributes:
        profile: The profile's name.
        file: The file it is in; what it extends lies beside it or is shipped.
        config: What it says, frozen.
        document: The same as a tree in which every value knows the place it came from.
        written: The merged files, before variables, templates, patterns and defaults were used up.
        sources: Every file that was read for it, by path, as it was written.
        used_templates: (layer, name) of each template that a target took.
    """

    profile: str
    file: Path
    config: PolicyConfig
    document: Node
    written: Node
    sources: Mapping[Path, Node]
    used_templates: frozenset[tuple[str, str]]


def load_policy(
    folder: str | Path | None = None,
    profile: str | None = None,
    *,
    overlays: str | Path | Iterable[str | Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """
    Load one profile.

    Args:
        folder: Where policies lie; see :func:`pixel_llm.policy.locating.find_folder`. The
            shipped profiles can be loaded and extended by name from any folder.
        profile: The name of the profile, else ``$PIXEL_LLM_PROFILE``, else ``basic``.
        overlays: A file, or several in order, laid over the profile, else those of ``$PIXEL_LLM_OVERLAYS``,
            separated as in ``$PATH``.
        overrides: Sections laid over all that, as a policy file would have them.
        variables: What ``${VAR}`` sees; by default the environment.

    Raises:
        PolicyError: With every problem found, each with its place.
    """
    variables = os.environ if variables is None else variables
    name = profile or variables.get("PIXEL_LLM_PROFILE") or DEFAULT_PROFILE
    file = profile_file(find_folder(folder, variables), name)
    return load_policy_file(file, overlays=overlays, overrides=overrides, variables=variables)


def load_policy_file(
    path: Path,
    *,
    overlays: str | Path | Iterable[str | Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """Load the policy in one file; it may extend its neighbours and the shipped profiles. See :func:`load_policy`."""
    sources = Sources(neighbours(path))
    return load_from(sources, path, overlays=overlays, overrides=overrides, variables=variables)


def load_from(
    sources: Sources,
    path: Path,
    *,
    overlays: str | Path | Iterable[str | Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> LoadedPolicy:
    """Load *path* out of *sources*, which may hold files that are nowhere else. See :func:`load_policy`."""
    variables = os.environ if variables is None else variables
    document = sources.load(path)
    for overlay in _overlays(overlays, variables):
        document = sources.overlay(document, overlay)
    if overrides:
        document = sources.lay_over(document, node_from({"version": 1, **overrides}, Place(OVERRIDES)))
    if sources.problems:
        raise PolicyError([*sources.problems, *check_names(document)])
    return _finish(path, document, sources, variables)


def _overlays(given: str | Path | Iterable[str | Path] | None, variables: Mapping[str, str]) -> Sequence[Path]:
    if given is None:
        given = [name for name in variables.get("PIXEL_LLM_OVERLAYS", "").split(os.pathsep) if name]
    return [Path(name) for name in ([given] if isinstance(given, str | Path) else given)]


def _finish(path: Path, written: Node, sources: Sources, variables: Mapping[str, str]) -> LoadedPolicy:
    interpolator = Interpolator(variables)
    document = POLICY.resolve(written, interpolator, ())
    templates = Templates(document)
    document = expand(document, templates)
    unmet = interpolator.problems + templates.problems or check_effective(document)
    problems = unmet + check_names(document) + check_repeatable(document)
    if unmet:
        raise PolicyError(problems)
    config: PolicyConfig = POLICY.freeze(document.plain())
    problems += check_meaning(config, document)
    if problems:
        raise PolicyError(problems)
    return LoadedPolicy(path.stem, path, config, document, written, dict(sources.documents), frozenset(templates.used))
