"""
``${VAR}`` and ``${VAR:-default}``; ``$${`` for a literal ``${``.

What comes out is typed by what the schema wants at that place, and never parsed as
YAML again: a key ``0123`` stays text. Only settings that keep secrets may take a
variable that is named like one, so that a policy in an untrusted checkout can't
carry a key away in ``base_url``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pixel_llm.errors import Problem
from pixel_llm.policy.kinds import Kind
from pixel_llm.policy.nodes import Node, Path, format_path

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_SECRET_NAME = re.compile(r".*_(KEY|TOKEN|SECRET|PASSWORD)|KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


VARIABLE = "PL005"


class _ReferenceError(ValueError):
    """A reference that cannot be resolved."""


class Interpolator:
    """Resolves the references of one policy and collects what is wrong with them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[Problem] = []

    def __call__(self, node: Node, kind: Kind, path: Path) -> Node:
        """The node with its references resolved; unchanged if it has none."""
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        try:
            text, found = self._expand(node.value, kind)
            value = kind.parse(text) if found else text
        except ValueError as exc:
            message = str(exc)
            if not isinstance(exc, _ReferenceError):
                message = f"{message}, from {node.value}"
            self.problems.append(Problem(node.place, format_path(path), message, VARIABLE))
            return node
        return dataclasses.replace(node, value=value)

    def _expand(self, text: str, kind: Kind) -> tuple[str, bool]:
        found = False

        def replace(match: re.Match[str]) -> str:
            nonlocal found
            if match.group() == "$${":
                return "${"
            found = True
            return self._look_up(match, kind)

        return _REFERENCE.sub(replace, text), found

    def _look_up(self, match: re.Match[str], kind: Kind) -> str:
        inside = _INSIDE.fullmatch(match.group(1))
        if inside is None or not match.group(2):
            raise _ReferenceError(
                f"{match.group()} is no reference: write ${{NAME}} or ${{NAME:-default}}, or $${{ for text"
            )
        name, default = inside.groups()
        if default is not None and "${" in default:
            raise _ReferenceError(f"the default of {name} holds another reference; variables have plain defaults")
        if _SECRET_NAME.fullmatch(name) and not kind.keeps_secrets:
            raise _ReferenceError(f"${{{name}}} is named like a secret; only lm_studio.api_key may take one")
        value = self._variables.get(name) or default
        if value is None:
            state = "is empty" if name in self._variables else "is not set"
            raise _ReferenceError(f"the variable {name} {state}, and there is no default: ${{{name}:-…}} gives one")
        try:
            value.encode()
        except UnicodeEncodeError:  # the system hands on bytes that are no text
            raise _ReferenceError(f"the variable {name} is not UTF-8 text") from None
        return value
