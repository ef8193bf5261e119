"""``docs/reference/rules.md`` and a page for each rule, from the linter's catalogue."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.lint import RULES, Rule
from pixel_llm.policy.locating import shipped_folder
from tools.reference.markdown import bullet, fence, page, paragraph, written_by_make_docs

_SOURCE = "pixel_llm/policy/lint/"

_SEVERITIES = {
    ProblemSeverity.ERROR: "`pixel-llm policy validate` fails",
    ProblemSeverity.WARNING: "likely a mistake; `pixel-llm policy validate --strict` fails",
    ProblemSeverity.NOTE: "worth knowing; never fails a check",
}


def rules_index() -> str:
    """All rules in a table."""
    rows = [f"| [{rule.id}](rules/{rule.id}.md) | {rule.severity} | {rule.name} |" for rule in RULES]
    return page(
        written_by_make_docs(_SOURCE),
        "# Rules",
        paragraph(
            "What `pixel-llm policy validate` finds, each with an id that never changes its meaning. Errors are "
            "reported with their place and message; warnings and notes name their rule at the end of the line."
        ),
        "\n".join(bullet(f"**{severity}**: {text}") for severity, text in _SEVERITIES.items()),
        paragraph(
            "Errors below PL100 are found whenever a policy is loaded, also by your program: such a policy never "
            "starts. All other rules are the linter's."
        ),
        "\n".join(["| rule | severity | what it finds |", "|---|---|---|", *rows]),
        "## Ignore a finding",
        "Say why, in the line that the message names or in a line of its own above it:",
        fence(
            "yaml",
            "version: 1\n"
            "targets:\n"
            "  billing.charge:\n"
            "    deadline: 5s\n"
            "    # pixel-llm: ignore PL101 -- the deadline is lifted in staging\n"
            "    timeout: 10s",
        ),
        paragraph(
            "Several rules are separated by commas. Warnings and notes can be ignored, errors can't. A comment without "
            "a reason, without effect or with a rule that there is not is reported itself."
        ),
    )


def rule_pages() -> dict[str, str]:
    """The page of each rule, by the rule's id."""
    return {rule.id: _rule_page(rule) for rule in RULES}


def _rule_page(rule: Rule) -> str:
    is_error = rule.severity is ProblemSeverity.ERROR
    bad = _policy(rule.bad)
    return page(
        written_by_make_docs(_SOURCE),
        f"# {rule.id}: {rule.name}",
        f"**{rule.severity.capitalize()}**: {_SEVERITIES[rule.severity]}{_and_never_starts(rule)}.",
        "## Why",
        paragraph(rule.why),
        "## What to do",
        paragraph(rule.mend),
        "## Example",
        "Reported:",
        fence("yaml wrong" if is_error else "yaml", bad),
        fence("text", "\n".join(_messages(rule, bad))),
        "Mended:",
        fence("yaml", _policy(rule.good)),
        "## Ignore it",
        _how_to_ignore(rule),
        "[All rules](../rules.md)",
    )


def _policy(sample: str) -> str:
    return f"version: 1\n{sample}"


def _messages(rule: Rule, sample: str) -> list[str]:
    """What ``pixel-llm policy validate`` says about *rule* in *sample*."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(sample + "\n", "utf-8")
        problems = check_files([file], overlays=[], variables={}).problems
        found = [str(problem) for problem in problems if problem.rule == rule.id]
    assert found, f"{rule.id}: its bad sample does not break it"
    here, shipped = f"{folder}/", f"{shipped_folder('policies').parent}/"
    return [text.replace(here, "").replace(shipped, "") for text in found]


def _and_never_starts(rule: Rule) -> str:
    found_by_loading = rule.severity is ProblemSeverity.ERROR and rule.check is None
    return ", and such a policy never starts" if found_by_loading else ""


def _how_to_ignore(rule: Rule) -> str:
    if rule.severity is ProblemSeverity.ERROR:
        return "It can't be ignored."
    if rule.check is None:
        return "It can't be ignored: it is about ignoring."
    return page(
        "At the end of the line that the message names, or in a line of its own above it:",
        fence("yaml fragment", f"# pixel-llm: ignore {rule.id} -- say here why it is meant"),
    ).strip()
