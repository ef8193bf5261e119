"""Rules about time: timeouts, deadlines, and waits that fit into each other."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.loading import LoadedPolicy


def _timeout_over_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        attempt = target.timeout.attempt if target.timeout is not None else None
        if attempt is not None and target.deadline is not None and attempt > target.deadline:
            yield Finding(
                ("targets", name, "timeout", "attempt"),
                f"the timeout of {format_duration(attempt)} can never end an attempt: "
                f"the deadline of {format_duration(target.deadline)} comes first",
            )


RULES = (
    Rule(
        id="PL101",
        name="Attempt timeout over the deadline",
        severity=ProblemSeverity.WARNING,
        why="The deadline ends the whole call, so a longer timeout never takes effect, and no retry is possible after it.",
        mend="Make the timeout shorter than the deadline, or leave one of them out.",
        bad="targets: {billing.charge: {deadline: 5s, timeout: 10s}}",
        good="targets: {billing.charge: {deadline: 30s, timeout: 10s}}",
        check=_timeout_over_deadline,
    ),
)
