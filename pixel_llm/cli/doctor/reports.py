"""How an examination is written: a line a check for people, one object for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pixel_llm.cli.terminal import json_text, printable

if TYPE_CHECKING:
    from pixel_llm.doctor import CheckResult, Examination

#: What each outcome is called where they are counted, the worst first.
_COUNTED = (("failed", "failed"), ("warning", "with a warning"), ("ok", "ok"), ("skipped", "skipped"))


def as_text(examination: Examination) -> str:
    """A line a check, what to do below those that need it, and one that counts them."""
    lines = [line for result in examination.results for line in _lines(result)]
    counts = [(sum(result.outcome == outcome for result in examination.results), word) for outcome, word in _COUNTED]
    lines.append(", ".join(f"{number} {word}" for number, word in counts if number))
    return "\n".join(lines)


def as_json(examination: Examination) -> str:
    """One object: what was examined, and the checks."""
    checks = [
        {
            "name": result.name,
            "server": result.server,
            "outcome": result.outcome.value,
            "message": result.message,
            "todo": result.todo or None,
            "seconds": round(result.seconds, 3),
        }
        for result in examination.results
    ]
    document = {
        "fine": examination.is_fine,
        "profile": examination.profile,
        "file": None if examination.file is None else str(examination.file),
        "model": examination.model,
        "checks": checks,
    }
    return json_text(document, indent=2)


#: The reports by name.
REPORTS: Mapping[str, Callable[[Examination], str]] = {"text": as_text, "json": as_json}


def _lines(result: CheckResult) -> Iterator[str]:
    first, *more = printable(result.message, keep_lines=True).splitlines() or [""]
    yield f"{result.outcome.value:8} {result.name:11} {first}".rstrip()
    yield from (f"{'':21}{line}" for line in more)
    if result.todo:
        yield f"{'':21}→ {printable(result.todo)}"
