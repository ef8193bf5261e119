"""Rules about the circuit breaker's settings: those that do nothing, and modes that protect nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import nearest
from pixel_llm.policy.lint.production import in_production
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, look_up, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.circuit_breaker import PER_TARGET, BreakerMode, CircuitBreakerConfig
from pixel_llm.policy.sections.target import TargetPolicy

_WHAT_IT_DOES = {
    BreakerMode.DISABLED: "protects nobody",
    BreakerMode.FORCED_OPEN: "refuses every call",
    BreakerMode.SHADOW: "only watches, and refuses nobody",
}

_SETTINGS = [field.name for field in dataclasses.fields(CircuitBreakerConfig) if field.name != "mode"]


def _breakers(loaded: LoadedPolicy) -> Iterator[tuple[str, TargetPolicy, CircuitBreakerConfig]]:
    for name, target in targets(loaded):
        if target.circuit_breaker is not None:
            yield name, target, target.circuit_breaker


def _path(name: str, setting: str) -> tuple[str, ...]:
    return ("targets", name, "circuit_breaker", setting)


def _idle_rate_settings(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        for setting in ("window", "minimum_calls"):
            if not breaker.has_rate and is_written(loaded, _path(name, setting)):
                message = "has no effect without a rate: leave it out, or add failure_rate or slow_call_rate"
                yield Finding(_path(name, setting), message)


def _mode_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    production = in_production(loaded)
    for name, _, breaker in _breakers(loaded):
        if production and breaker.mode is not BreakerMode.ENABLED:
            message = f"{production} has a breaker that {_WHAT_IT_DOES[breaker.mode]}: use enabled"
            yield Finding(_path(name, "mode"), message)


def _settings_beside_a_mode(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        mode = look_up(loaded.document, _path(name, "mode"))
        if breaker.measures or mode is None:
            continue
        # A mode that is laid over what another file says is there to come and go.
        found = {setting: look_up(loaded.document, _path(name, setting)) for setting in _SETTINGS}
        beside = [setting for setting, node in found.items() if node is not None and node.place.file == mode.place.file]
        if beside:
            message = f"with mode {breaker.mode} the other settings of this breaker ({', '.join(beside)}) do nothing"
            yield Finding(_path(name, "mode"), message)


def _endless_growth(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        if breaker.cooldown_multiplier > 1 and breaker.max_cooldown is None:
            tenth = duration(min(breaker.cooldown_after(10), 1e9))
            yield Finding(
                _path(name, "cooldown_multiplier"),
                f"the cooldown grows without end, to {tenth} after the 10th opening: add max_cooldown",
            )


def _idle_cap(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        if breaker.max_cooldown is not None and breaker.cooldown_multiplier == 1:
            message = "has no effect, as the cooldown does not grow: leave it out, or add cooldown_multiplier"
            yield Finding(_path(name, "max_cooldown"), message)


def _trials_are_given_up_too_soon(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, breaker in _breakers(loaded):
        wait, ends = breaker.half_open_max_wait, _attempt_ends(target)
        if wait is not None and ends is not None and wait <= ends:
            yield Finding(
                nearest(
                    loaded,
                    _path(name, "half_open_max_wait"),
                    ("targets", name, "timeout", "attempt"),
                    ("targets", name, "deadline"),
                ),
                f"trial calls are given up after {duration(wait)}, but may take {duration(ends)}: the breaker would "
                "open again without having waited for them; raise half_open_max_wait",
            )


def _never_slow(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, breaker in _breakers(loaded):
        limit, ends = breaker.slow_call_duration, _attempt_ends(target)
        if limit is not None and ends is not None and limit >= ends:
            yield Finding(
                nearest(
                    loaded,
                    _path(name, "slow_call_duration"),
                    ("targets", name, "timeout", "attempt"),
                    ("targets", name, "deadline"),
                ),
                f"no attempt succeeds after {duration(limit)}, as it ends after {duration(ends)}: "
                "make slow_call_duration shorter",
            )


def _attempt_ends(target: TargetPolicy) -> float | None:
    """How long an attempt can take, in seconds."""
    attempt = target.timeout.attempt if target.timeout is not None else None
    return min((seconds for seconds in (attempt, target.deadline) if seconds is not None), default=None)


def _idle_max_keys(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, breaker in _breakers(loaded):
        if breaker.per == PER_TARGET and is_written(loaded, _path(name, "max_keys")):
            message = "has no effect where the target has one breaker: leave it out, or say what it is for with per"
            yield Finding(_path(name, "max_keys"), message)


_CHECKED = (
    Rule(
        id="PL310",
        name="A window without a rate",
        severity=ProblemSeverity.WARNING,
        why="The window and the minimum of calls are what rates are taken of. Failures in a row need neither.",
        mend="Add `failure_rate` or `slow_call_rate`, or leave the setting out.",
        bad=chat("circuit_breaker: {minimum_calls: 10}"),
        good=chat("circuit_breaker: {minimum_calls: 10, failure_rate: 0.5}"),
        check=_idle_rate_settings,
    ),
    Rule(
        id="PL311",
        name="A breaker in production that is not enabled",
        severity=ProblemSeverity.WARNING,
        why="`shadow` is for finding out what thresholds fit, `disabled` and `forced_open` for an hour of need. Left "
        "in the profile for production they take the protection, or the service, away.",
        mend="Use `mode: enabled`. For a while, lay an overlay with the mode over the profile.",
        bad="extends: production\ntargets: {lm_studio.chat: {circuit_breaker: {mode: shadow}}}",
        good="extends: production\ntargets: {lm_studio.chat: {circuit_breaker: {failure_threshold: 8}}}",
        check=_mode_in_production,
    ),
    Rule(
        id="PL312",
        name="Settings beside a mode that uses none of them",
        severity=ProblemSeverity.NOTE,
        why="A breaker that is disabled or forced open measures nothing, so its thresholds only look as if they did "
        "something.",
        mend="Leave them out, or set the mode in an overlay, which comes and goes without them.",
        bad=chat("circuit_breaker: {mode: disabled, failure_threshold: 5}"),
        good=chat("circuit_breaker: {mode: disabled}"),
        check=_settings_beside_a_mode,
    ),
    Rule(
        id="PL313",
        name="A cooldown that grows without end",
        severity=ProblemSeverity.WARNING,
        why="After a long outage the breaker would go on refusing calls for hours after the server is back.",
        mend="Add `max_cooldown`: how long you are willing to wait once the server is back.",
        bad=chat("circuit_breaker: {cooldown_multiplier: 2}"),
        good=chat("circuit_breaker: {cooldown_multiplier: 2, max_cooldown: 5m}"),
        check=_endless_growth,
    ),
    Rule(
        id="PL314",
        name="A cap for a cooldown that does not grow",
        severity=ProblemSeverity.WARNING,
        why="`max_cooldown` bounds what `cooldown_multiplier` makes of the cooldown, which else never grows.",
        mend="Add `cooldown_multiplier`, or leave the cap out.",
        bad=chat("circuit_breaker: {max_cooldown: 5m}"),
        good=chat("circuit_breaker: {max_cooldown: 5m, cooldown_multiplier: 1.5}"),
        check=_idle_cap,
    ),
    Rule(
        id="PL315",
        name="Trial calls that are given up too soon",
        severity=ProblemSeverity.WARNING,
        why="A trial call that takes longer than `half_open_max_wait` no longer counts. If the server is slow, but "
        "well, the breaker opens again and again.",
        mend="Make `half_open_max_wait` longer than the timeout: it is for calls that no timeout ends.",
        bad=chat("timeout: 30s, circuit_breaker: {half_open_max_wait: 10s}"),
        good=chat("timeout: 30s, circuit_breaker: {half_open_max_wait: 1m}"),
        check=_trials_are_given_up_too_soon,
    ),
    Rule(
        id="PL316",
        name="Calls that fail before they are slow",
        severity=ProblemSeverity.WARNING,
        why="An attempt that is cut by its timeout or its deadline counts as a failure anyhow. Slow calls are those "
        "that succeed, but too late to be of use.",
        mend="Make `slow_call_duration` shorter than the timeout, such as half of it.",
        bad=chat("timeout: 30s, circuit_breaker: {slow_call_rate: 0.5, slow_call_duration: 30s}"),
        good=chat("timeout: 30s, circuit_breaker: {slow_call_rate: 0.5, slow_call_duration: 15s}"),
        check=_never_slow,
    ),
    Rule(
        id="PL317",
        name="A number of keys for a single breaker",
        severity=ProblemSeverity.WARNING,
        why="`max_keys` bounds how many breakers there are where each key has one of its own.",
        mend="Leave it out, or add `per`.",
        bad=chat("circuit_breaker: {max_keys: 10}"),
        good=chat("circuit_breaker: {max_keys: 10, per: model}"),
        check=_idle_max_keys,
    ),
)

_FOUND_BY_LOADING = (
    Rule(
        id="PL018",
        name="A window of calls and of time at once",
        severity=ProblemSeverity.ERROR,
        why="The rates of a breaker are taken of so many calls, or of those of so much time; nobody could tell which "
        "was meant.",
        mend="Keep one of the two. What a parent says is removed with `null`.",
        bad=chat("circuit_breaker: {failure_rate: 0.5, window: {calls: 50, period: 30s}}"),
        good=chat("circuit_breaker: {failure_rate: 0.5, window: {period: 30s}}"),
    ),
    Rule(
        id="PL019",
        name="A window that is smaller than its minimum of calls",
        severity=ProblemSeverity.ERROR,
        why="A window of so many calls never holds more of them, so the minimum would never be met, and no rate would "
        "ever open the breaker.",
        mend="Lower `minimum_calls`, or make the window larger.",
        bad=chat("circuit_breaker: {failure_rate: 0.5, window: {calls: 10}, minimum_calls: 15}"),
        good=chat("circuit_breaker: {failure_rate: 0.5, window: {calls: 30}, minimum_calls: 15}"),
    ),
    Rule(
        id="PL020",
        name="Slow calls half described",
        severity=ProblemSeverity.ERROR,
        why="`slow_call_duration` says which calls are slow, `slow_call_rate` how many of them are too many. Neither "
        "does anything alone.",
        mend="Give both, or neither.",
        bad=chat("circuit_breaker: {slow_call_rate: 0.5}"),
        good=chat("circuit_breaker: {slow_call_rate: 0.5, slow_call_duration: 10s}"),
    ),
    Rule(
        id="PL021",
        name="The longest cooldown is shorter than the first",
        severity=ProblemSeverity.ERROR,
        why="`max_cooldown` caps every cooldown, so `cooldown` would never be waited.",
        mend="Raise `max_cooldown`, or lower `cooldown`.",
        bad=chat("circuit_breaker: {cooldown: 60s, cooldown_multiplier: 2, max_cooldown: 30s}"),
        good=chat("circuit_breaker: {cooldown: 60s, cooldown_multiplier: 2, max_cooldown: 10m}"),
    ),
    Rule(
        id="PL037",
        name="A breaker per something that the system does not know",
        severity=ProblemSeverity.ERROR,
        why="A call of `lm_studio.chat` goes to a model at an endpoint, one of `lm_studio.models` to an endpoint; "
        "other targets of the system have nothing that tells their calls apart.",
        mend="Use one that the message lists, or leave `per` out.",
        bad=chat("circuit_breaker: {per: user}"),
        good=chat("circuit_breaker: {per: model}"),
    ),
)

RULES = (*_FOUND_BY_LOADING, *_CHECKED)
