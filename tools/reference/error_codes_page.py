"""``docs/reference/error-codes.md``, from the table of error codes."""

from __future__ import annotations

from pixel_llm.errors.codes import ERROR_CODES, ErrorCategory, ErrorCodeInfo, ErrorFamily
from tools.reference.markdown import bullet, capital, link, page, paragraph, written_by_make_docs

_CATEGORIES = {
    ErrorCategory.TRANSIENT: "may go away by itself",
    ErrorCategory.PERMANENT: "will not go away, whoever asks again; no fallback serves for it unless `when` names it",
    ErrorCategory.DEGRADATION: "a guard holds calls back from something that is already known to be unwell",
    ErrorCategory.THROTTLED: "later, not now",
    ErrorCategory.UNKNOWN: "everything else",
}


def error_codes_page() -> str:
    """Every code with what it means, how bad it is, and what to do."""
    rows = list(ERROR_CODES.values())
    return page(
        written_by_make_docs("pixel_llm/errors/codes.py"),
        "# Error codes",
        paragraph(
            "Every error carries one of these codes as `error_code`. `retry_on`, `count` and `when` in a policy name "
            "errors by category, by code, or by HTTP status: see [the policy reference](policy.md#names-of-errors). "
            "[Troubleshooting](../how-to/troubleshooting.md) says of each how it looks, how to make sure, and what "
            "to do."
        ),
        "## Categories",
        "\n".join(bullet(f"`{category}`: {_CATEGORIES[category]}.") for category in ErrorCategory),
        "## All codes",
        _overview(rows),
        (block for family in ErrorFamily for block in _family(family, rows)),
    )


def codes_in_short() -> str:
    """A row for each code: what it means, how bad it is, whether it is tried again."""
    lines = ["| code | what it means | severity | tried again |", "|---|---|---|---|"]
    lines += [
        f"| {link(row.code)} | {row.message} | {row.severity} | {_yes_or_no(row.retryable)} |"
        for row in ERROR_CODES.values()
    ]
    return "\n".join(lines)


def _overview(rows: list[ErrorCodeInfo]) -> str:
    lines = ["| code | category | severity | retryable |", "|---|---|---|---|"]
    lines += [f"| {link(row.code)} | {row.category} | {row.severity} | {_yes_or_no(row.retryable)} |" for row in rows]
    return "\n".join(lines)


def _family(family: ErrorFamily, rows: list[ErrorCodeInfo]) -> list[str]:
    blocks = [f"## {family}"]
    for row in rows:
        if row.family is family:
            blocks += [
                f"### {row.code}",
                capital(row.message),
                "\n".join(
                    [
                        bullet(f"category: {row.category}"),
                        bullet(f"severity: {row.severity}"),
                        bullet(f"retryable: {_yes_or_no(row.retryable)}"),
                        bullet(f"what to do: {row.suggestion}"),
                    ]
                ),
            ]
    return blocks


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
