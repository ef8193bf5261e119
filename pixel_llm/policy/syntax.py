"""What a YAML parser finds, said to the person who wrote the file."""

from __future__ import annotations

from typing import Any

import yaml

#: A part of what libyaml says, and what it means.
_PLAIN_WORDS = (
    ("cannot start any token", "nothing can begin with {char}; quote the text"),
    ("mapping values are not allowed", "no colon is expected here; quote the text, or mend the indentation"),
    ("did not find expected key", "nothing more is expected here; quote the text, or mend the indentation"),
    ("while scanning an alias", "* begins an alias, which needs a name; quote the text if * is meant"),
    ("while scanning an anchor", "& begins an anchor, which needs a name; quote the text if & is meant"),
    ("unknown escape character", r"\{char} is no escape; write \\ for a backslash, or use single quotes"),
    ("expected <document start>", "nothing is expected between the end of a document and `---`"),
    ("a quoted scalar found unexpected end of stream", "this quote is not closed"),
)


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[Any, str]:
    """The mark of the place in *text* where *error* was found, and what is wrong there."""
    mark = error.problem_mark
    assert mark is not None  # noqa: S101 - scanners and parsers always say where
    said = " ".join(part for part in (error.context, error.problem) if part)
    if text[mark.index : mark.index + 1] == "\t":
        return mark, "a tab can't indent; use spaces"
    if "unexpected end of stream" in said:
        mark = error.context_mark or mark  # where the quote begins, not the end of the file
    char = text[mark.index : mark.index + 2].removeprefix("\\")[:1]
    return mark, next((words.format(char=char) for part, words in _PLAIN_WORDS if part in said), said)
