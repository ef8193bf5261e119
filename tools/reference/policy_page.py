"""``docs/reference/policy.md``: every section and setting of the policy language."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import yaml

from pixel_llm.policy import inheritance
from pixel_llm.policy.kinds import Kind, ListOf, MapOf, Setting, Steps, TextOr
from pixel_llm.policy.reading import MAX_BYTES, MAX_DEPTH, MAX_NODES
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.sections.matching import ErrorNames
from pixel_llm.policy.sections.target import SYSTEM_PREFIXES, SYSTEM_TARGETS
from pixel_llm.policy.settings import Section
from tools.reference.kinds_in_words import DURATIONS, NAMES_OF_ERRORS, SIZES, in_words
from tools.reference.markdown import bullet, fence, link, page, paragraph, written_by_make_docs

_MISSING = dataclasses.MISSING

#: The default of what only its description tells.
_UNSAID = object()


def policy_page() -> str:
    """The page."""
    walk = _Walk()
    settings = [block for name in _in_reading_order() for block in walk.setting(*name)]
    return page(
        written_by_make_docs("pixel_llm/policy/sections/"),
        "# Policy reference",
        paragraph(
            "Every section and setting that a policy file may have. A key that is not listed here is an error. "
            "`<name>` stands for a name of your choice, `[]` for an item of a list. Editors show the same text "
            "while you type: see [completion](../how-to/edit-policies-with-completion.md)."
        ),
        "\n".join(
            [
                *(f"- {link(f'`{name}`')}" for name, *_ in _in_reading_order()),
                *(f"- {link(title)}" for title, _ in _VALUES),
            ]
        ),
        settings,
        (block for title, text in _VALUES for block in (f"## {title}", text)),
    )


def _in_reading_order() -> list[tuple[str, Setting, Any]]:
    """The keys of a policy with their defaults: single values first, then sections, then what is laid below targets."""
    own = [(name, field.metadata["setting"], field.default) for name, field in POLICY.fields().items()]
    only_in_files = [(name, item, None) for name, item in POLICY.source_settings.items()]
    rows: list[tuple[str, Setting, Any]] = [*own, *only_in_files]
    return sorted(rows, key=lambda row: _has_settings(row[1].kind))


def _has_settings(kind: Kind) -> bool:
    return isinstance(kind, Section | MapOf)


class _Walk:
    """Goes through settings in order, and describes each section where it is met first."""

    def __init__(self) -> None:
        self._met: dict[object, str] = {}

    def setting(self, path: str, setting: Setting, default: Any) -> Iterator[str]:
        """One setting, and all below it."""
        depth = path.replace(".<name>", "").count(".")
        yield f"{'#' * min(depth + 2, 4)} `{path}`"
        yield paragraph(setting.description)
        yield "\n".join(_facts(path, setting, default))
        yield from self._below(path, setting.kind)

    def _below(self, path: str, kind: Kind) -> Iterator[str]:
        match kind:
            case TextOr():
                yield from self._below(path, kind.long)
            case ErrorNames():
                return
            case ListOf():
                yield from self._below(f"{path}[]", kind.kind)
            case MapOf():
                yield from self._below(f"{path}.<name>", kind.kind)
            case Section():
                rows = [(name, item, self._default(kind, name)) for name, item in kind.settings().items()]
                yield from self._once(path, kind.model, rows, kind)
            case Steps():
                rows = [(name, item, _UNSAID) for name, item in {**kind.keyed, **kind.extra}.items()]
                yield from self._once(path, id(kind), rows, kind)

    def _once(self, path: str, what: object, rows: list[tuple[str, Setting, Any]], kind: Kind) -> Iterator[str]:
        if what in self._met:
            there = self._met[what]
            less = ", but for `template`" if isinstance(kind, Section) and _lacks_template(there, kind) else ""
            heading = there.removesuffix("[]").removesuffix(".<name>")
            yield paragraph(f"`{path}` takes the settings of {link(f'`{heading}`', f'`{there}`')}{less}.")
            return
        self._met[what] = path
        for name, item, default in rows:
            yield from self.setting(f"{path}.{name}", item, default)

    @staticmethod
    def _default(section: Section, name: str) -> Any:
        fields = section.fields()
        return fields[name].default if name in fields else None


def _lacks_template(described_at: str, kind: Section) -> bool:
    layer = described_at.removeprefix("targets.<name>.")
    return layer != described_at and "." not in layer and "template" not in kind.settings()


def _facts(path: str, setting: Setting, default: Any) -> Iterator[str]:
    yield bullet(f"type: {in_words(setting.kind)}")
    if default is not _UNSAID and not _has_settings(setting.kind):
        yield bullet(f"default: {_default_in_words(setting.kind, default)}")
    if setting.example is not None:
        yield bullet(f"example: `{_as_yaml(path.rpartition('.')[2], setting.example)}`")


def _default_in_words(kind: Kind, default: Any) -> str:
    if default is _MISSING:
        return "none; it must be there"
    if default is None:
        return "not set"
    if default == "":
        return "empty"
    return f"`{_flow(kind.thaw(default))}`"


def _as_yaml(key: str, value: Any) -> str:
    return f"{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    plain = json.loads(json.dumps(value))  # enumerations become their values
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _durations() -> str:
    return page(
        paragraph(
            "A number with a unit, `ms`, `s`, `m` or `h`: `500ms`, `30s`, `2m`, `1.5h`. Several are written together, "
            "the largest first: `1h30m`. A number alone is an error, since nobody can tell seconds from milliseconds."
        )
    )


def _sizes() -> str:
    return paragraph("A whole number with a unit, `B`, `KiB`, `MiB` or `GiB`: `64MiB` is 64 · 1024 · 1024 bytes.")


def _names_of_errors() -> str:
    return page(
        "An error is named in one of three ways:",
        "\n".join(
            [
                bullet("by its category: `TRANSIENT`, `PERMANENT`, `DEGRADATION`, `THROTTLED`, `UNKNOWN`"),
                bullet("by its code: `ERR_CONN_REFUSED`; [all codes](error-codes.md)"),
                bullet("by its HTTP status: `503`, or `5xx` for all that begin with 5"),
            ]
        ),
        paragraph(
            "A list of names replaces the default, it does not add to it. `retry_on` takes no names of errors that "
            "trying again can't mend, such as wrong input or an open breaker."
        ),
    )


def _names_of_targets() -> str:
    system = ", ".join(f"`{name}`" for name in SYSTEM_TARGETS)
    prefixes = ", ".join(f"`{prefix}`" for prefix in SYSTEM_PREFIXES)
    return page(
        paragraph(
            f"The system calls {system}. The prefixes {prefixes} belong to it: an unknown name below them is an error. "
            "Any other name is a target of your own, such as `billing.charge`, for `policies.wrap()` and "
            "`policies.guard()`; [which characters it may have](../how-to/policies-in-a-program.md#name-a-target)."
        ),
        paragraph(
            "A pattern such as `billing.*` stands for every name below `billing.`. A target is made of `defaults`, "
            "then of the patterns that cover it, the most specific last, then of its own section, setting by "
            "setting: see [merging](../explanation/merging.md)."
        ),
    )


def _variables() -> str:
    return page(
        paragraph(
            "`${NAME}` takes a variable of the environment, `${NAME:-text}` gives a default for one that is not set or "
            "empty, `$${` is a plain `${`. A variable can stand for any single value, or for a part of a text; not "
            "for a section, and not under `version`, `extends` and in names. What it holds is read as the setting's "
            "type."
        ),
        paragraph(
            "Names that end in `_KEY`, `_TOKEN`, `_SECRET` or `_PASSWORD`, in any case, are taken for secrets. Only "
            "`lm_studio.api_key` may take one."
        ),
        fence("yaml fragment", "lm_studio: {model: '${CAPTION_MODEL:-qwen2.5-vl-7b-instruct}'}"),
    )


def _null() -> str:
    return paragraph(
        "`null` removes what is inherited: from a parent, a pattern or `defaults`. A key with nothing after it is an "
        "error."
    )


def _limits() -> str:
    return "\n".join(
        [
            bullet(f"a file: {MAX_BYTES // 1024**2} MiB of UTF-8 text, one YAML document"),
            bullet(f"nesting: {MAX_DEPTH} levels"),
            bullet(f"values, aliases written out: {MAX_NODES:,}"),
            bullet(f"profiles that extend each other in a line: {inheritance.MAX_DEPTH}"),
        ]
    )


_VALUES = [
    (DURATIONS, _durations()),
    (SIZES, _sizes()),
    (NAMES_OF_ERRORS, _names_of_errors()),
    ("Names of targets", _names_of_targets()),
    ("Variables", _variables()),
    ("null", _null()),
    ("Limits", _limits()),
]
