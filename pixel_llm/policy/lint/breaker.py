"""Rules about the circuit breaker: when it opens, and whether it ever can."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pixel_llm.errors import ErrorCategory, ErrorCode, ErrorFamily, ProblemSeverity
from pixel_llm.policy.bounds import GENERATE, share_of
from pixel_llm.policy.lint.attempts import possible_attempts
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.rule import Finding, Rule, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.circuit_breaker import CircuitBreakerConfig
from pixel_llm.policy.sections.matching import NEVER_RETRIED, ErrorMatcher
from pixel_llm.policy.sections.target import TargetPolicy, is_system_name
from pixel_llm.policy.showing import count

#: The families of errors that an attempt of the system's own innermost targets can end with.
_HAPPENS = {
    "encoder.": frozenset({ErrorFamily.ENCODER, ErrorFamily.TIMEOUT}),
    "lm_studio.": frozenset({ErrorFamily.CONNECTION, ErrorFamily.TIMEOUT, ErrorFamily.API}),
}


def _breakers(loaded: LoadedPolicy) -> Iterator[tuple[str, TargetPolicy, CircuitBreakerConfig]]:
    for name, target in targets(loaded):
        if target.circuit_breaker is not None and target.circuit_breaker.measures:
            yield name, target, target.circuit_breaker


def _opens_within_a_call(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, breaker in _breakers(loaded):
        attempts = possible_attempts(target)
        repeated = target.retry is None or _counts_what_is_retried(breaker.count, target.retry.retry_on)
        attempts = attempts if repeated else 1
        path = ("targets", name)
        breaking, failures, setting = min(_openings(breaker))
        if breaking > attempts:
            continue
        if attempts == 1:
            what = "a single failed attempt opens the breaker"
        else:
            what = f"{failures} open the breaker, and one call alone makes up to {attempts}"
        yield Finding(
            nearest(loaded, (*path, "circuit_breaker", setting), (*path, "retry", "max_attempts")),
            f"{what}: raise {setting}{f' above {attempts}' if setting == 'failure_threshold' else ''}",
        )


def _openings(breaker: CircuitBreakerConfig) -> Iterator[tuple[int, str, str]]:
    """The fewest failures that can open the breaker, in words, and the setting that says so, by each condition."""
    if breaker.failure_threshold is not None:
        yield breaker.failure_threshold, f"{breaker.failure_threshold} failures", "failure_threshold"
    if breaker.failure_rate is not None:
        fewest = share_of(breaker.minimum_calls, breaker.failure_rate)
        yield fewest, f"{count(fewest, 'failure')} among {count(breaker.minimum_calls, 'call')}", "minimum_calls"


@cache
def _counts_what_is_retried(count: ErrorMatcher, retry_on: ErrorMatcher) -> bool:
    """True if there is an error that counts and that is also tried again."""
    if count.statuses or retry_on.statuses:
        return True  # a status may belong to any error of the server
    if ErrorCategory.UNKNOWN in count.categories & retry_on.categories:
        return True
    retried = {code for code in ErrorCode if code not in NEVER_RETRIED and _is_named(retry_on, code, retryable=True)}
    return any(_is_named(count, code) for code in retried)


def _is_named(matcher: ErrorMatcher, code: ErrorCode, *, retryable: bool = False) -> bool:
    if code in matcher.codes:
        return True
    return code.info.category in matcher.categories and (code.info.retryable or not retryable)


def _never_opens(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        families = next((found for prefix, found in _HAPPENS.items() if name.startswith(prefix)), None)
        if breaker.slow_call_rate is not None:
            continue  # successes may be slow
        if families is not None and not _can_happen(breaker.count, families):
            yield Finding(
                ("targets", name, "circuit_breaker", "count"),
                f"the breaker never opens: no attempt of {name} ends with {', '.join(breaker.count.names())}",
            )


@cache
def _can_happen(count: ErrorMatcher, families: frozenset[ErrorFamily]) -> bool:
    if ErrorCategory.UNKNOWN in count.categories or (count.statuses and ErrorFamily.API in families):
        return True
    return any(code.info.family in families and _is_named(count, code) for code in ErrorCode)


def _cooldown_under_first_wait(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, breaker in _breakers(loaded):
        retry = target.retry
        if retry is not None and retry.max_attempts > 1 and breaker.cooldown < retry.ceiling(0):
            path = ("targets", name)
            yield Finding(
                nearest(loaded, (*path, "circuit_breaker", "cooldown"), (*path, "retry", "initial_delay")),
                f"the cooldown of {duration(breaker.cooldown)} is shorter than the first wait of "
                f"{duration(retry.ceiling(0))}: the retries alone hold back more than the breaker does",
            )


def _silence_never_opens(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, _ in _breakers(loaded):
        attempt = target.timeout.to_first_content if target.timeout is not None else None
        if attempt is None and target.deadline is None and not is_system_name(name):
            yield Finding(
                ("targets", name, "circuit_breaker"),
                "an attempt that gets no answer never ends, so silence never opens the breaker: add a timeout",
            )


RULES = (
    Rule(
        id="PL301",
        name="A breaker that opens within a single call",
        severity=ProblemSeverity.WARNING,
        why="Every attempt counts. One unlucky call then shuts everybody out for the whole cooldown, and its own last "
        "attempts are never made.",
        mend="Raise `failure_threshold` above `max_attempts`, better to twice as many.",
        bad=chat("retry: {max_attempts: 5}, circuit_breaker: {failure_threshold: 3}"),
        good=chat("retry: {max_attempts: 5}, circuit_breaker: {failure_threshold: 10}"),
        check=_opens_within_a_call,
    ),
    Rule(
        id="PL302",
        name="A breaker that can never open",
        severity=ProblemSeverity.WARNING,
        why="`count` replaces the default list. If it only names errors that no attempt of this target ends with, "
        f"such as refusals of other layers, nothing ever counts. Targets of your own and `{GENERATE}` may call other "
        "guarded targets, so every error can reach them.",
        mend="Name errors that happen, such as TRANSIENT and UNKNOWN, or leave `count` out.",
        bad=chat("circuit_breaker: {count: [DEGRADATION]}"),
        good=chat("circuit_breaker: {count: [TRANSIENT]}"),
        check=_never_opens,
    ),
    Rule(
        id="PL303",
        name="A cooldown shorter than the first wait",
        severity=ProblemSeverity.WARNING,
        why="The breaker is there to leave the server alone for longer than a retry does.",
        mend="Make the cooldown at least as long as several waits, or lower `initial_delay`.",
        bad=chat("retry: {initial_delay: 10s}, circuit_breaker: {cooldown: 5s}"),
        good=chat("retry: {initial_delay: 1s}, circuit_breaker: {cooldown: 30s}"),
        check=_cooldown_under_first_wait,
    ),
    Rule(
        id="PL304",
        name="A breaker that silence never opens",
        severity=ProblemSeverity.NOTE,
        why="The most common outage is a server that takes the connection and says nothing. Without a timeout or a "
        "deadline such a call never fails, and what never fails never counts.",
        mend="Add a timeout; or, if the function itself gives up in time, say so in an ignore comment.",
        bad="targets: {billing.charge: {circuit_breaker: {failure_threshold: 5}}}",
        good="targets: {billing.charge: {circuit_breaker: {failure_threshold: 5}, timeout: 10s}}",
        check=_silence_never_opens,
    ),
)
