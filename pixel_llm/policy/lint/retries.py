"""Rules about retries: how many there can be, and settings of theirs that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ErrorCategory, ProblemSeverity
from pixel_llm.policy.bounds import GENERATE, compute_bounds, worst_rounds
from pixel_llm.policy.lint.origins import is_in_own_section, is_own, nearest, overrides
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, look_up, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.sections.matching import NOTHING_SENT, ErrorMatcher
from pixel_llm.policy.sections.retry import Jitter, RetryConfig, RetryStrategy
from pixel_llm.policy.sections.target import TargetPolicy, is_pattern

#: More requests to LM Studio for one call than this are too many for a server that is in trouble already.
MOST_UPSTREAM_CALLS = 10

_CHAT = "lm_studio.chat"
_WAITS = ("initial_delay", "max_delay", "backoff_multiplier", "jitter")


def _retrying(loaded: LoadedPolicy) -> Iterator[tuple[str, TargetPolicy, RetryConfig]]:
    for name, target in targets(loaded):
        if target.retry is not None:
            yield name, target, target.retry


def _too_many_upstream_calls(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, retry in _retrying(loaded):
        if retry.max_attempts == 1 or is_pattern(name) or not (name == GENERATE or name.startswith("lm_studio.")):
            continue  # a target that tries once multiplies nothing
        calls = compute_bounds(loaded.config, name).worst_upstream_calls
        if calls > MOST_UPSTREAM_CALLS:
            yield Finding(
                _attempts_path(loaded, name),
                f"one call of {name} can become {calls} requests to LM Studio, more than {MOST_UPSTREAM_CALLS}: "
                f"lower max_attempts{_product(loaded, name)}",
            )


def _layers_multiply(loaded: LoadedPolicy) -> Iterator[Finding]:
    outer = loaded.config.targets.get(GENERATE, TargetPolicy())
    inner = loaded.config.targets.get(_CHAT, TargetPolicy())
    if worst_rounds(outer) > 1 and worst_rounds(inner) > 1:
        calls = compute_bounds(loaded.config, GENERATE).worst_upstream_calls
        if calls <= MOST_UPSTREAM_CALLS:
            yield Finding(
                _attempts_path(loaded, GENERATE),
                f"two layers of retries multiply to {calls} requests{_product(loaded, GENERATE)}: retry in one of them",
            )


def _product(loaded: LoadedPolicy, name: str) -> str:
    bounds = compute_bounds(loaded.config, name)
    inner = bounds.worst_upstream_calls // bounds.worst_attempts
    return f" ({bounds.worst_attempts} attempts, each with {inner} of {_CHAT})" if inner > 1 else ""


def _attempts_path(loaded: LoadedPolicy, name: str) -> Path:
    return nearest(loaded, ("targets", name, "retry", "max_attempts"), ("targets", name, "retry"))


def _no_jitter(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, retry in _retrying(loaded):
        if retry.jitter is Jitter.NONE and retry.max_attempts > 1 and retry.ceiling(retry.max_attempts - 2) > 0:
            yield Finding(
                ("targets", name, "retry", "jitter"),
                "clients that fail together also return together: write `jitter: full`, unless there is only one",
            )


def _never_retries(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, _, retry in _retrying(loaded):
        if not retry.does_something:
            yield Finding(
                ("targets", name, "retry", "max_attempts"),
                "1 attempt is no retry, so this section does nothing: leave it out, or write `retry: null` to remove "
                "what is inherited",
            )


def _unused_multiplier(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, section, strategy in _sections(loaded):
        if strategy in (RetryStrategy.LINEAR_BACKOFF, RetryStrategy.FIXED_DELAY):
            message = f"has no effect with {strategy}: leave it out, or use exponential_backoff"
            yield from _unused(loaded, path, section, ("backoff_multiplier",), message)


def _unused_waits(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, section, strategy in _sections(loaded):
        if strategy is RetryStrategy.IMMEDIATE:
            message = "has no effect with immediate, which never waits: leave it out, or use fixed_delay"
            yield from _unused(loaded, path, section, _WAITS, message)


def _unused_cap(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, section, strategy in _sections(loaded):
        jitter = look_up(section, ("jitter",))
        if strategy is RetryStrategy.FIXED_DELAY and (jitter is None or jitter.value != Jitter.DECORRELATED):
            message = "has no effect with fixed_delay, where every wait is initial_delay: leave it out"
            yield from _unused(loaded, path, section, ("max_delay",), message)


def _sections(loaded: LoadedPolicy) -> Iterator[tuple[Path, Node, RetryStrategy]]:
    """Every `retry` section where it is written, with the strategy that holds there."""
    shared: list[Path] = [("defaults", "retry")]
    if (templates := look_up(loaded.written, ("templates", "retry"))) is not None:
        shared += [("templates", "retry", name) for name in templates.value]
    for path in shared:
        section = look_up(loaded.written, path)
        strategy = look_up(section, ("strategy",))
        if section is not None and strategy is not None and strategy.value in list(RetryStrategy):
            yield path, section, RetryStrategy(strategy.value)
    for name, _, retry in _retrying(loaded):
        path = ("targets", name, "retry")
        section = look_up(loaded.written, path)
        if section is not None:
            yield path, section, retry.strategy


def _unused(loaded: LoadedPolicy, path: Path, section: Node, keys: tuple[str, ...], message: str) -> Iterator[Finding]:
    """Those of *keys* that the section says together with its strategy, or over it; what it inherits is no mistake."""
    strategy = look_up(loaded.document, (*path, "strategy")) or look_up(section, ("strategy",))
    for key in keys:
        setting = look_up(section, (key,))
        if setting is not None and not (strategy is not None and overrides(loaded, strategy.place, setting.place)):
            yield Finding((*path, key), message, setting.place)


def _idempotent_without_retry(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target in targets(loaded):
        path = ("targets", name, "idempotent")
        if target.idempotent is None or target.retry is not None or target.hedge is not None or is_pattern(name):
            continue  # a pattern may say it for those of its targets that retry
        if is_in_own_section(loaded, path) and is_own(loaded, loaded.document.find(path).place):
            yield Finding(
                path,
                "says whether the call may be made twice, but nothing makes it twice: leave it out, or add `retry`",
            )


def _retry_on_without_effect(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name, target, retry in _retrying(loaded):
        path = ("targets", name, "retry", "retry_on")
        if target.idempotent is not False or not is_written(loaded, path):
            continue
        useless = [error for error in retry.retry_on.names() if not _proves_nothing_was_sent(error)]
        if useless:
            rest = "" if len(useless) < len(retry.retry_on.names()) else ", so nothing is ever retried"
            yield Finding(
                nearest(loaded, path, ("targets", name, "idempotent")),
                f"{', '.join(useless)} {'has' if len(useless) == 1 else 'have'} no effect with `idempotent: false`, "
                f"which only retries errors that prove that nothing was sent{rest}",
            )


def _proves_nothing_was_sent(name: str) -> bool:
    matcher = ErrorMatcher.of(name)
    return ErrorCategory.TRANSIENT in matcher.categories or bool(NOTHING_SENT & matcher.codes)


_OWN = "billing.charge: {idempotent: %s, timeout: 5s, retry: {%s}}"

RULES = (
    Rule(
        id="PL201",
        name="Too many requests for one call",
        severity=ProblemSeverity.WARNING,
        why="Retries load a server that is in trouble already, and retries around retries multiply.",
        mend="Lower `max_attempts`, and retry in one layer only: `lm_studio.chat` knows best what may be tried again.",
        bad="targets:\n  pixel_llm.generate: {deadline: 5m, retry: {max_attempts: 4}}\n"
        "  lm_studio.chat: {timeout: 10s, retry: {max_attempts: 5}}",
        good="targets:\n  pixel_llm.generate: {deadline: 5m}\n  lm_studio.chat: {timeout: 10s, retry: {max_attempts: "
        "5}}",
        check=_too_many_upstream_calls,
    ),
    Rule(
        id="PL202",
        name="Waits without jitter",
        severity=ProblemSeverity.NOTE,
        why="An outage hits all clients at the same moment. Without jitter they all return at the same moment too, and "
        "bring the server down again.",
        mend="Leave `jitter` at `full`. A single client that needs predictable waits may say so in an ignore comment.",
        bad=chat("retry: {jitter: none}"),
        good=chat("retry: {initial_delay: 2s}"),
        check=_no_jitter,
    ),
    Rule(
        id="PL203",
        name="A retry with one attempt",
        severity=ProblemSeverity.NOTE,
        why="`max_attempts` counts the first call, so with 1 nothing is tried again.",
        mend="Leave the section out or write `retry: null`; or allow a second attempt.",
        bad=chat("retry: {max_attempts: 1}"),
        good=chat("retry: {max_attempts: 2}"),
        check=_never_retries,
    ),
    Rule(
        id="PL204",
        name="A backoff_multiplier that is never used",
        severity=ProblemSeverity.WARNING,
        why="Only `exponential_backoff` multiplies its waits.",
        mend="Leave it out, or choose `strategy: exponential_backoff`.",
        bad=chat("retry: {strategy: linear_backoff, backoff_multiplier: 3}"),
        good=chat("retry: {strategy: exponential_backoff, backoff_multiplier: 3}"),
        check=_unused_multiplier,
    ),
    Rule(
        id="PL205",
        name="Waits of a strategy that never waits",
        severity=ProblemSeverity.WARNING,
        why="`immediate` tries again at once, whatever the settings of the waits say.",
        mend="Leave them out, or choose a strategy that waits.",
        bad="targets: {encoder.forward: {retry: {strategy: immediate, initial_delay: 1s}}}",
        good="targets: {encoder.forward: {retry: {strategy: fixed_delay, initial_delay: 1s}}}",
        check=_unused_waits,
    ),
    Rule(
        id="PL206",
        name="A max_delay that no wait can reach",
        severity=ProblemSeverity.WARNING,
        why="With `fixed_delay` every wait is `initial_delay`, so there is nothing to cap.",
        mend="Leave `max_delay` out, or choose a strategy whose waits grow.",
        bad=chat("retry: {strategy: fixed_delay, initial_delay: 1s, max_delay: 10s}"),
        good=chat("retry: {strategy: linear_backoff, initial_delay: 1s, max_delay: 10s}"),
        check=_unused_cap,
    ),
    Rule(
        id="PL207",
        name="idempotent without a retry",
        severity=ProblemSeverity.NOTE,
        why="It says whether the call may be made twice, and nothing here would make it twice.",
        mend="Leave it out, or add `retry`.",
        bad="targets: {billing.charge: {idempotent: true, timeout: 5s}}",
        good="targets: {billing.charge: {idempotent: true, timeout: 5s, retry: {max_attempts: 2}}}",
        check=_idempotent_without_retry,
    ),
    Rule(
        id="PL208",
        name="Errors in retry_on that `idempotent: false` rules out",
        severity=ProblemSeverity.WARNING,
        why="What must not happen twice is only tried again after errors that prove that nothing was sent. An answer "
        "of the server, or an error that nobody knows, proves the opposite or nothing.",
        mend="Leave those names out; or, if calling twice does no harm, say `idempotent: true`.",
        bad="targets: {" + _OWN % ("false", "retry_on: [TRANSIENT, UNKNOWN]") + "}",
        good="targets: {" + _OWN % ("true", "retry_on: [TRANSIENT, UNKNOWN]") + "}",
        check=_retry_on_without_effect,
    ),
    Rule(
        id="PL209",
        name="Two layers of retries",
        severity=ProblemSeverity.NOTE,
        why="What `pixel_llm.generate` tries again calls `lm_studio.chat` again with all its attempts, so the two "
        "multiply. The encoder runs again as well.",
        mend="Retry in `lm_studio.chat` only.",
        bad="targets:\n  pixel_llm.generate: {deadline: 5m, retry: {max_attempts: 2}}\n"
        "  lm_studio.chat: {timeout: 10s, retry: {max_attempts: 3}}",
        good="targets:\n  pixel_llm.generate: {deadline: 5m}\n  lm_studio.chat: {timeout: 10s, retry: {max_attempts: "
        "3}}",
        check=_layers_multiply,
    ),
)
