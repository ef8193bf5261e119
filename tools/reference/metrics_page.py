"""``docs/reference/metrics.md``, from the table of metrics and from the snapshot's own words."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator

from pixel_llm.monitoring.exposition.families import (
    BUCKETS,
    FAMILIES,
    MAX_KEYS,
    OTHER_EVENTS,
    POLICY_FAMILIES,
)
from pixel_llm.monitoring.snapshot.documents import VERSION
from pixel_llm.monitoring.snapshot.model import (
    BreakerSnapshot,
    BulkheadSnapshot,
    RateLimitSnapshot,
    RecentError,
    ReloadsSnapshot,
    RetryBudgetSnapshot,
    Snapshot,
    TargetSnapshot,
)
from tools.reference.markdown import bullet, page, paragraph, written_by_make_docs

_EXACTNESS = f"""
Counters are exact, under any number of threads, and never go back while the process runs.

The histogram's {len(BUCKETS)} buckets go from {BUCKETS[0] * 1000:.3g} ms to {BUCKETS[-1]:.0f} s, each twice the one
before; their counts are exact. So a quantile is off by a factor of two at most, and where calls lie evenly in a bucket
by much less.

Its sum is reckoned from the buckets, each call being taken for two thirds of its bucket's upper bound: it is off by a
third at most.

One scrape is consistent in itself: a part never exceeds the whole it belongs to.
"""


def metrics_page() -> str:
    """Every metric with its type, its labels and what it means; and the JSON snapshot."""
    return page(
        written_by_make_docs("pixel_llm/monitoring/"),
        "# Metrics",
        paragraph(
            "What `/metrics` gives, and `PolicyCollector` to a registry. How to get at them: "
            "[Watch a program](../how-to/metrics.md)."
        ),
        _table(),
        paragraph(
            f"All have the label `profile` as well, and all but the first {len(POLICY_FAMILIES)} the label `target`. A "
            "place of a target, such as one server of several or what a fallback calls, is a target of its own: "
            "`lm_studio.chat[endpoint=http://…]`. Targets that call each other count each for itself, so sums over all "
            "targets mean little."
        ),
        "## Labels are bounded",
        paragraph(
            "Targets, layers, steps and budgets are those of the policy, error codes those of "
            "[the table](error-codes.md) and `unknown`. Of the breakers of a target that has one for each key, the "
            f"first {MAX_KEYS} by name have series of their own; the others are counted under the key `other`. "
            "Policies of the same profile in one process are summed up."
        ),
        paragraph(f"`pixel_llm_events_total` counts {', '.join(f'`{name}`' for name in OTHER_EVENTS)}."),
        "## How exact they are",
        "\n".join(map(bullet, _EXACTNESS.strip().split("\n\n"))),
        "## The snapshot",
        paragraph(
            f'`/snapshot` gives a JSON document `{{"version": {VERSION}, "policies": […]}}`, an entry for each policy '
            "of the process. `policies.snapshot()` gives the same as an object. Durations are seconds, moments "
            "seconds since 1970. Readers must skip keys that they do not know; what a key means only changes with "
            "the version."
        ),
        (block for kind in _KINDS for block in _described(*kind)),
    )


def _table() -> str:
    head = ("| metric | type | labels | meaning |", "|---|---|---|---|")
    rows = (
        f"| `{family.name}` | {family.kind} | {_labels(family.labels)} | {family.help} |"
        for family in (*POLICY_FAMILIES, *FAMILIES)
    )
    return "\n".join((*head, *rows))


def _labels(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


_KINDS: tuple[tuple[str, type], ...] = (
    ("An entry of `policies`", Snapshot),
    ("An entry of `targets`", TargetSnapshot),
    ("An entry of `breakers`", BreakerSnapshot),
    ("`bulkhead`", BulkheadSnapshot),
    ("`rate_limit`", RateLimitSnapshot),
    ("`retry_budget`", RetryBudgetSnapshot),
    ("`last_error`, and an entry of `recent_errors`", RecentError),
    ("`reloads`", ReloadsSnapshot),
)

#: How the values of some fields look in JSON.
_IN_JSON = {
    "refusals": "A list of objects with `layer`, `code` and `count`.",
    "latency": "An object: `counts` for the bounds 1 µs, 2 µs, 4 µs … and for all above; `count`, `sum`, `p50`, "
    "`p95`, `p99`.",
}


def _described(title: str, kind: type) -> Iterator[str]:
    summary, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    yield f"### {title}"
    yield paragraph(_in_markdown(summary.split("\n\nIt is consistent")[0]))
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE))
    names = [field.name for field in dataclasses.fields(kind)]
    if texts:
        yield "\n".join(bullet(f"`{name}`: {_in_markdown(texts[name])} {_IN_JSON.get(name, '')}") for name in names)
    else:
        yield paragraph(f"Keys: {', '.join(f'`{name}`' for name in names)}.")


def _in_markdown(text: str) -> str:
    return re.sub(r"\*(\w+)\*", r"`\1`", text.replace("``", "`"))
