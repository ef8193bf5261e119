"""Rules about streams: the parts of a timeout that only they have."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.target import TargetPolicy
from pixel_llm.policy.sections.timeout import TimeoutConfig


def _timeouts(loaded: LoadedPolicy) -> Iterator[tuple[str, TargetPolicy, TimeoutConfig]]:
    for name, target in targets(loaded):
        if target.timeout is not None:
            yield name, target, target.timeout


def _first_token_over_attempt(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, timeout in _timeouts(loaded):
        first, attempt = timeout.first_token, timeout.attempt
        if first is not None and attempt is not None and first > attempt:
            path = ("targets", name, "timeout")
            yield Finding(
                nearest(loaded, (*path, "first_token"), (*path, "attempt")),
                f"the first content of a stream may take {duration(first)}, longer than a whole answer, "
                f"which may take {duration(attempt)}: make it shorter, or leave it out",
            )


def _never_comes_first(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, timeout in _timeouts(loaded):
        deadline = target.deadline
        for setting in ("first_token", "idle", "max_pause"):
            limit = getattr(timeout, setting)
            if deadline is not None and limit is not None and limit > deadline:
                yield Finding(
                    nearest(loaded, ("targets", name, "timeout", setting), ("targets", name, "deadline")),
                    f"the {setting} of {duration(limit)} can never end a stream: "
                    f"the deadline of {duration(deadline)} comes first",
                )


def _idle_without_first(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, timeout in _timeouts(loaded):
        if timeout.idle is not None and timeout.to_first_content is None and target.deadline is None:
            yield Finding(
                ("targets", name, "timeout", "idle"),
                "nothing bounds the time to the first content of a stream: add first_token, or attempt",
            )


def _breaker_without_max_pause(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, timeout in _timeouts(loaded):
        streams = timeout.first_token is not None or timeout.idle is not None
        holds = target.circuit_breaker is not None
        if streams and holds and timeout.max_pause is None:
            yield Finding(
                ("targets", name, "timeout"),
                "a consumer that lets a stream lie keeps what it holds, such as the permit of a half-open breaker, "
                "for as long as it likes: add max_pause",
            )


def _passed_by(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, timeout in _timeouts(loaded):
        streams = any(limit is not None for limit in (timeout.first_token, timeout.idle, timeout.max_pause))
        layers = {
            ("hedge",): target.hedge,
            ("cache",): target.cache,
            ("retry", "retry_on_result"): target.retry.retry_on_result if target.retry is not None else None,
        }
        for path, layer in layers.items():
            if streams and layer is not None:
                yield Finding(
                    ("targets", name, *path),
                    f"the target's timeout speaks of streams, which pass {path[-1]} by: it is for other calls only",
                )


RULES = (
    Rule(
        id="PL860",
        name="More time for the first content than for a whole answer",
        severity=ProblemSeverity.WARNING,
        why="`first_token` bounds the time to the first content of a stream, `attempt` that of a whole answer, of "
        "which the first content is only the beginning.",
        mend="Make `first_token` shorter than `attempt`, or leave it out: then `attempt` bounds the first content.",
        bad="targets: {writer.write: {timeout: {attempt: 10s, first_token: 30s}}}",
        good="targets: {writer.write: {timeout: {attempt: 30s, first_token: 10s}}}",
        check=_first_token_over_attempt,
    ),
    Rule(
        id="PL861",
        name="A limit on streams over the deadline",
        severity=ProblemSeverity.WARNING,
        why="The deadline ends a stream as well, so a longer `first_token`, `idle` or `max_pause` never takes effect.",
        mend="Make it shorter than the deadline, or leave one of them out.",
        bad="targets: {writer.write: {deadline: 1m, timeout: {first_token: 10s, idle: 2m}}}",
        good="targets: {writer.write: {deadline: 1m, timeout: {first_token: 10s, idle: 5s}}}",
        check=_never_comes_first,
    ),
    Rule(
        id="PL862",
        name="A stream whose first content may take for ever",
        severity=ProblemSeverity.WARNING,
        why="`idle` bounds the waits after the first content. A server that takes the request and never answers is "
        "waited for without end.",
        mend="Add `first_token` (or `attempt`, which bounds whole answers as well).",
        bad="targets: {writer.write: {timeout: {idle: 5s}}}",
        good="targets: {writer.write: {timeout: {first_token: 10s, idle: 5s}}}",
        check=_idle_without_first,
    ),
    Rule(
        id="PL863",
        name="Streams that may lie for ever with what others wait for",
        severity=ProblemSeverity.NOTE,
        why="A stream keeps its permit of the circuit breaker, and its slot of the bulkhead, until it ends. A consumer "
        "that pauses without end, and doesn't close the stream, keeps them as long.",
        mend="Add `max_pause`, longer than any pause that is meant.",
        bad="targets: {writer.write: {circuit_breaker: {failure_threshold: 5}, timeout: {first_token: 10s, idle: 5s}}}",
        good="targets: {writer.write: {circuit_breaker: {failure_threshold: 5}, timeout: {first_token: 10s, idle: "
        "5s, max_pause: 1m}}}",
        check=_breaker_without_max_pause,
    ),
    Rule(
        id="PL864",
        name="Layers that streams pass by",
        severity=ProblemSeverity.NOTE,
        why="A stream is not hedged, since two at once are paid for twice; a cache that is read through has none; and "
        "there is no result to look at before a stream has ended. Plain calls of the same target have these layers.",
        mend="Give streams a target of their own, or say in an ignore comment that it has other calls, too.",
        bad="targets: {writer.write: {timeout: {attempt: 10s, idle: 5s}, cache: {ttl: 1m}}}",
        good="targets: {writer.write: {timeout: {attempt: 10s, idle: 5s}}}",
        check=_passed_by,
    ),
)
