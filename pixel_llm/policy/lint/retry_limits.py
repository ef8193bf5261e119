"""Rules about what holds retries back: budgets, and waiting for the breaker; and about decorrelated jitter."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.bounds import GENERATE, INSIDE_GENERATE
from pixel_llm.policy.lint.origins import nearest, overrides
from pixel_llm.policy.lint.rule import Finding, Rule, key_place, look_up, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.lint.wording import duration
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Path
from pixel_llm.policy.sections.retry import Jitter, RetryConfig, RetryStrategy
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig
from pixel_llm.policy.sections.target import TargetPolicy


def _retrying(loaded: LoadedPolicy) -> Iterator[tuple[Path, TargetPolicy, RetryConfig]]:
    for name, target in targets(loaded):
        if target.retry is not None and target.retry.max_attempts > 1:
            yield ("targets", name, "retry"), target, target.retry


def _replaced_by_decorrelated(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, _, retry in _retrying(loaded):
        if retry.jitter is not Jitter.DECORRELATED or retry.strategy is RetryStrategy.IMMEDIATE:
            continue
        key = "backoff_multiplier" if retry.strategy is RetryStrategy.EXPONENTIAL_BACKOFF else "strategy"
        setting = look_up(loaded.document, (*path, key))
        jitter = look_up(loaded.document, (*path, "jitter"))
        if setting is None or jitter is None or overrides(loaded, jitter.place, setting.place):
            continue
        yield Finding(
            (*path, key),
            "has no effect with `jitter: decorrelated`, which makes each wait out of the one before: leave it out, "
            "or use another jitter",
        )


def _unused_budget(loaded: LoadedPolicy) -> Iterator[Finding]:
    used = {retry.budget for _, _, retry in _retrying(loaded) if isinstance(retry.budget, str)}
    for name in loaded.config.retry_budgets:
        if name not in used:
            path = ("retry_budgets", name)
            yield Finding(path, "no target that retries uses this budget", key_place(loaded.document, path))


def _empty_budget(loaded: LoadedPolicy) -> Iterator[Finding]:
    budgets: list[tuple[Path, RetryBudgetConfig]] = [
        (("retry_budgets", name), budget) for name, budget in loaded.config.retry_budgets.items()
    ]
    for path, _, retry in _retrying(loaded):
        if isinstance(retry.budget, RetryBudgetConfig):
            budgets.append(((*path, "budget"), retry.budget))
    for path, budget in budgets:
        if budget.allows_none:
            yield Finding(
                nearest(loaded, (*path, "ratio"), (*path, "min_retries")),
                "this budget allows no retry at all: raise ratio or min_retries, or leave out the retries",
            )


def _waiting(loaded: LoadedPolicy) -> Iterator[tuple[Path, TargetPolicy]]:
    for name, target in targets(loaded):
        if target.retry is not None and target.retry.wait_for_breaker:
            yield ("targets", name, "retry"), target


def _no_breaker_to_wait_for(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, target in _waiting(loaded):
        if target.circuit_breaker is None or not target.circuit_breaker.refuses:
            yield Finding(
                (*path, "wait_for_breaker"),
                "there is no circuit_breaker that refuses calls: add one, or leave this out",
            )


def _cooldown_over_deadline(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, target in _waiting(loaded):
        breaker, deadline = target.circuit_breaker, target.deadline
        if breaker is not None and deadline is not None and breaker.cooldown >= deadline:
            above = path[:-1]
            yield Finding(
                nearest(
                    loaded,
                    (*path, "wait_for_breaker"), (*above, "circuit_breaker", "cooldown"), (*above, "deadline"),
                ),
                f"a call can hardly wait for the breaker: its cooldown is {duration(breaker.cooldown)}, and the "
                f"deadline of {duration(deadline)} comes first",
            )  # fmt: skip


def _endless_waiting(loaded: LoadedPolicy) -> Iterator[Finding]:
    whole = loaded.config.targets.get(GENERATE, TargetPolicy()).deadline
    for path, target in _waiting(loaded):
        bounded = target.deadline is not None or (whole is not None and path[1] in INSIDE_GENERATE)
        if target.circuit_breaker is not None and not bounded:
            yield Finding(
                (*path, "wait_for_breaker"),
                "nothing ends the waiting for a breaker that opens again and again: give the target a deadline",
            )


def _results_that_cannot_be_repeated(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, target, retry in _retrying(loaded):
        if retry.retry_on_result is not None and target.idempotent is False:
            yield Finding(
                nearest(loaded, (*path, "retry_on_result"), (*path[:-1], "idempotent")),
                "a result proves that the call was made, so with `idempotent: false` one that is rejected fails at "
                "once, without another attempt",
            )


_BREAKER = "circuit_breaker: {failure_threshold: 9, cooldown: %s}"

RULES = (
    Rule(
        id="PL210",
        name="What decorrelated jitter replaces",
        severity=ProblemSeverity.WARNING,
        why="Decorrelated jitter draws each wait between `initial_delay` and three times the wait before. It has a "
        "growth of its own, so neither `linear_backoff`, `fixed_delay` nor a multiplier changes anything.",
        mend="Leave the setting out; or choose `jitter: equal` or `full`, which keep the strategy's growth.",
        bad=chat("retry: {jitter: decorrelated, backoff_multiplier: 4}"),
        good=chat("retry: {jitter: equal, backoff_multiplier: 4}"),
        check=_replaced_by_decorrelated,
    ),
    Rule(
        id="PL211",
        name="A retry budget that no target uses",
        severity=ProblemSeverity.WARNING,
        why="It reads as if retries were held back, and nothing holds them back.",
        mend="Write its name under `budget` of the targets that are meant to share it, or leave it out.",
        bad="retry_budgets: {lm_studio: {ratio: 0.1}}\n" + chat("retry: {max_attempts: 3}"),
        good="retry_budgets: {lm_studio: {ratio: 0.1}}\n" + chat("retry: {max_attempts: 3, budget: lm_studio}"),
        check=_unused_budget,
    ),
    Rule(
        id="PL212",
        name="A retry budget that allows no retry",
        severity=ProblemSeverity.WARNING,
        why="With `ratio: 0` and `min_retries: 0` every call that would be tried again fails of the empty budget "
        "instead of its own error.",
        mend="Raise one of the two; or, if nothing shall be tried again, leave out `retry`.",
        bad=chat("retry: {budget: {ratio: 0, min_retries: 0}}"),
        good=chat("retry: {budget: {ratio: 0, min_retries: 5}}"),
        check=_empty_budget,
    ),
    Rule(
        id="PL213",
        name="Waiting for a breaker that is not there",
        severity=ProblemSeverity.WARNING,
        why="`wait_for_breaker` waits for the target's own circuit breaker. A breaker further inside is not waited "
        "for.",
        mend="Give the target a `circuit_breaker`, or leave `wait_for_breaker` out.",
        bad=chat("deadline: 2m, retry: {wait_for_breaker: true}"),
        good=chat(f"deadline: 2m, retry: {{wait_for_breaker: true}}, {_BREAKER % '20s'}"),
        check=_no_breaker_to_wait_for,
    ),
    Rule(
        id="PL214",
        name="A cooldown that the deadline does not wait for",
        severity=ProblemSeverity.WARNING,
        why="A wait that would outlive the deadline is not begun, so a call that meets the breaker just opened fails "
        "at once, `wait_for_breaker` or not.",
        mend="Make the cooldown shorter than the deadline, or leave `wait_for_breaker` out.",
        bad=chat(f"deadline: 30s, retry: {{wait_for_breaker: true}}, {_BREAKER % '1m'}"),
        good=chat(f"deadline: 2m, retry: {{wait_for_breaker: true}}, {_BREAKER % '1m'}"),
        check=_cooldown_over_deadline,
    ),
    Rule(
        id="PL215",
        name="Waiting for a breaker without end",
        severity=ProblemSeverity.WARNING,
        why="Waiting for the breaker is no attempt, so `max_attempts` does not end it: only a deadline does.",
        mend="Give the target a deadline.",
        bad="targets: {lm_studio.chat: {retry: {wait_for_breaker: true}, " + _BREAKER % "20s" + "}}",
        good="targets: {lm_studio.chat: {deadline: 2m, retry: {wait_for_breaker: true}, " + _BREAKER % "20s" + "}}",
        check=_endless_waiting,
    ),
    Rule(
        id="PL216",
        name="Results that can't be asked for again",
        severity=ProblemSeverity.NOTE,
        why="A result has come, so the call was made, and what is `idempotent: false` is never made twice. A rejected "
        "result then ends the call; a fallback may stand in for it, but nothing is tried again.",
        mend="Say `idempotent: true` if calling twice does no harm; or leave `retry_on_result` out, unless failing at "
        "once is what is meant.",
        bad="targets: {billing.charge: {idempotent: false, timeout: 5s, retry: {retry_on_result: looks_empty}}}",
        good="targets: {billing.charge: {idempotent: true, timeout: 5s, retry: {retry_on_result: looks_empty}}}",
        check=_results_that_cannot_be_repeated,
    ),
)
