"""What a setting may hold, in words."""

from __future__ import annotations

from functools import singledispatch

from pixel_llm.policy import kinds
from pixel_llm.policy.sections.matching import ErrorNames
from pixel_llm.policy.settings import Section
from tools.reference.markdown import link

DURATIONS = "Durations"
SIZES = "Sizes"
NAMES_OF_ERRORS = "Names of errors"


@singledispatch
def in_words(kind: kinds.Kind) -> str:
    """*kind* as the reference page says it. A new kind needs words here."""
    if type(kind) is kinds.Kind:
        return "anything"
    raise TypeError(f"{type(kind).__name__} has no words: add them to tools/reference/kinds_in_words.py")


@in_words.register
def _(kind: kinds.Text) -> str:
    return kind.must_be if kind.may_be_empty else f"{kind.must_be}, not empty"


@in_words.register
def _(kind: kinds.SecretText) -> str:
    return "a secret text: nothing prints it, and it may take a variable that is named like a secret"


@in_words.register
def _(kind: kinds.Literal) -> str:
    return f"always `{kind.value}`"


@in_words.register
def _(kind: kinds.Name) -> str:
    return f"{kind.must_be}; no variable can stand here"


@in_words.register
def _(kind: kinds.Integer) -> str:
    return f"a whole number from {kind.minimum:,} to {kind.maximum:,}"


@in_words.register
def _(kind: kinds.Number) -> str:
    return f"a number from {kind.minimum:,} to {kind.maximum:,}"


@in_words.register
def _(kind: kinds.Flag) -> str:
    return "`true` or `false`"


@in_words.register
def _(kind: kinds.Choice) -> str:
    return ", ".join(f"`{option.value}`" for option in kind.options)


@in_words.register
def _(kind: kinds.Duration) -> str:
    duration = link(DURATIONS, "a duration")
    return f"{duration}, `0s` included" if kind.may_be_zero else f"{duration} longer than 0"


@in_words.register
def _(kind: kinds.Size) -> str:
    return link(SIZES, "a size")


@in_words.register
def _(kind: kinds.TextOr) -> str:
    short = in_words(kind.text)
    if kind.key is None or kind.key == "template":
        return f"{short}; or {in_words(kind.long)}"
    return f"{short}, which stands for `{kind.key}`; or {in_words(kind.long)}"


@in_words.register
def _(kind: ErrorNames) -> str:
    return f"a list of {link(NAMES_OF_ERRORS, 'names of errors')}"


@in_words.register
def _(kind: kinds.ListOf) -> str:
    if isinstance(kind.kind, kinds.Steps):
        return f"a list of steps, not empty; each is {in_words(kind.kind)}"
    return "a list of such, not empty"


@in_words.register
def _(kind: kinds.MapOf) -> str:
    return f"a map; each key is {kind.must_be}"


@in_words.register
def _(kind: kinds.Steps) -> str:
    steps = [*(f"`{name}`" for name in kind.bare), *(f"`{name}: …`" for name in kind.keyed)]
    beside = ", ".join(f"`{name}: …`" for name in kind.extra)
    return f"{', '.join(steps[:-1])} or {steps[-1]}, those with a value with {beside} beside it if need be"


@in_words.register
def _(kind: Section) -> str:
    return "a section with the settings below"
