"""Drawing schedules by chance. Durations are multiples of 1/64 s, so that sums of them are exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random
from typing import Any

from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.sections.bulkhead import AdaptiveConfig, BulkheadConfig
from pixel_llm.policy.sections.chaos import ChaosConfig, ChaosDelay, ChaosError, ChaosResult
from pixel_llm.policy.sections.circuit_breaker import BreakerMode, WindowConfig
from pixel_llm.policy.sections.hedge import HedgeConfig
from pixel_llm.policy.sections.matching import (
    COUNTED_BY_DEFAULT,
    RETRIED_BY_DEFAULT,
    SERVED_BY_DEFAULT,
    ErrorMatcher,
)
from pixel_llm.policy.sections.rate_limit import RateLimitConfig
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig
from soak.faults import FAULTS
from soak.schedule import Act, Caller, CallPlan, Schedule

RETRY_ON = (
    RETRIED_BY_DEFAULT,
    RETRIED_BY_DEFAULT,
    ErrorMatcher.of("TRANSIENT", "UNKNOWN"),
    ErrorMatcher.of("THROTTLED"),
    ErrorMatcher.of("5xx", "429"),
    ErrorMatcher.of("ERR_CONN_REFUSED", "ERR_TIMEOUT_REQUEST"),
)
COUNT = (
    COUNTED_BY_DEFAULT,
    COUNTED_BY_DEFAULT,
    ErrorMatcher.of("TRANSIENT", "UNKNOWN", "THROTTLED"),
    ErrorMatcher.of("5xx"),
    ErrorMatcher.of("ERR_CONN_REFUSED", "ERR_TIMEOUT_REQUEST"),
)
WHEN = (SERVED_BY_DEFAULT, SERVED_BY_DEFAULT, ErrorMatcher.of("TRANSIENT"), ErrorMatcher.of("5xx", "PERMANENT"))

#: Lines between two switches; most schedules switch only where threads wait or lock.
LINES = (0, 0, 0, 0, 5, 25, 100)


def draw_schedule(chance: Random, world: str | None = None) -> Schedule:
    """A schedule; of one *world* (``async``, ``sync``) or, by chance, of one or both."""
    kind = world or chance.choice(("async", "async", "async", "sync", "sync", "both"))
    policy = draw_policy(chance, kind)
    mood = chance.choice((0.0, 0.3, 0.7, 1.0))
    outage = [chance.choice(_NAMES)] if chance.random() < 0.6 else list(_NAMES)
    callers = tuple(_caller(chance, kind, policy, mood, outage) for _ in range(chance.choice((1, 2, 2, 3, 3, 4, 6))))
    lines = chance.choice(LINES) if kind != "async" else 0
    return Schedule(
        policy,
        callers,
        order=chance.getrandbits(32),
        shuffled=chance.random() < 0.7,
        lines=lines,
        opcodes=bool(lines) and chance.random() < 0.3,
    )


_NAMES = tuple(FAULTS)


def seconds(chance: Random, low: float, high: float) -> float:
    """A duration, often a short one or one that others have as well."""
    if chance.random() < 0.3:
        return min(high, max(low, float(chance.choice((0, 0.25, 0.5, 1, 2)))))
    return chance.randint(int(low * 64), int(high * 64)) / 64


def _caller(chance: Random, kind: str, policy: TargetPolicy, mood: float, outage: list[str]) -> Caller:
    world = chance.choice(("async", "sync")) if kind == "both" else kind
    calls = tuple(_call(chance, world, policy, mood, outage) for _ in range(chance.choice((1, 1, 2, 3))))
    return Caller(world, calls, cooperative=chance.random() < 0.5)


def _call(chance: Random, world: str, policy: TargetPolicy, mood: float, outage: list[str]) -> CallPlan:
    acts = tuple(_act(chance, policy, mood, outage) for _ in range(chance.choice((1, 1, 2, 3))))
    cancel = None
    if world == "async" and chance.random() < 0.2:
        cancel = chance.choice((0.0, sum(act.takes for act in acts), seconds(chance, 0, 4)))
    return CallPlan(
        acts,
        key=chance.randrange(3),
        pause=chance.choice((0.0, 0.0, seconds(chance, 0, 4))),
        cancel=cancel,
        outcome=chance.random() < 0.5,
    )


def _act(chance: Random, policy: TargetPolicy, mood: float, outage: list[str]) -> Act:
    fails = chance.random() < mood
    ends = "ok"
    if fails:
        ends = chance.choice(("hang", "interrupt")) if chance.random() < 0.15 else chance.choice(outage)
    timeout = policy.timeout.attempt if policy.timeout is not None else None
    takes = chance.choice((0.0, seconds(chance, 0, 3), timeout or 0.0))
    asked = seconds(chance, 0, 6) if fails and chance.random() < 0.3 else None
    return Act(ends, takes, asked, blocks=takes > 0 and chance.random() < 0.05)


# Policies


def draw_policy(chance: Random, kind: str) -> TargetPolicy:
    """Layers by chance, each there or not, for callers of this *kind*."""
    layers: dict[str, Any] = {"idempotent": chance.choice((None, True, True, False))}
    often = chance.choice((0.25, 0.5, 0.75))
    for name, draw in _LAYERS.items():
        if name in _TARGET_FIELDS and chance.random() < often * _RARE.get(name, 1.0):
            layers[name] = draw(chance)
    if "fallback" in layers and chance.random() < 0.2 and kind != "both":
        layers["fallback"] = (*layers["fallback"], FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value=BACKUP))
    if "hedge" in layers:
        layers["idempotent"] = True  # else the policy is refused
    if "retry" in layers and "deadline" not in layers:
        # A call that waits for a breaker looks every few milliseconds whether the trials have ended, so for
        # ever if one hangs and nothing bounds it.
        layers["retry"] = dataclasses.replace(layers["retry"], wait_for_breaker=False)
    return TargetPolicy(**layers)


_TARGET_FIELDS = frozenset(field.name for field in dataclasses.fields(TargetPolicy))


def _deadline(chance: Random) -> float:
    return seconds(chance, 1 / 64, 6) if chance.random() < 0.6 else seconds(chance, 6, 40)


def _retry(chance: Random) -> RetryConfig:
    first = seconds(chance, 0, 2)
    return RetryConfig(
        strategy=chance.choice(tuple(RetryStrategy)),
        max_attempts=chance.randint(1, 5),
        initial_delay=first,
        max_delay=first + seconds(chance, 0, 4),
        backoff_multiplier=chance.choice((1.0, 1.5, 2.0)),
        jitter=chance.choice(tuple(Jitter)),
        retry_on=chance.choice(RETRY_ON),
        retry_after_max=seconds(chance, 0, 6),
        budget=_budget(chance) if chance.random() < 0.2 else None,
        wait_for_breaker=chance.random() < 0.2,
    )


def _budget(chance: Random) -> RetryBudgetConfig:
    return RetryBudgetConfig(
        ratio=chance.choice((0.0, 0.2, 1.0)), window=seconds(chance, 0.25, 10), min_retries=chance.randint(0, 3)
    )


def _breaker(chance: Random) -> CircuitBreakerConfig:
    cooldown = seconds(chance, 1 / 64, 6)
    rates: dict[str, Any] = {}
    if chance.random() < 0.4:
        rates = {
            "failure_rate": chance.choice((None, 0.3, 0.5, 1.0)),
            "window": chance.choice((None, WindowConfig(calls=4), WindowConfig(period=5.0))),
            "minimum_calls": chance.randint(1, 4),
        }
        if chance.random() < 0.5:
            rates |= {"slow_call_rate": chance.choice((0.5, 1.0)), "slow_call_duration": seconds(chance, 1 / 64, 3)}
    return CircuitBreakerConfig(
        mode=chance.choice((*[BreakerMode.ENABLED] * 9, BreakerMode.SHADOW, *BreakerMode)),
        failure_threshold=None if rates and chance.random() < 0.5 else chance.choice((1, 1, 2, 2, 3, 5)),
        cooldown=cooldown,
        cooldown_multiplier=chance.choice((1.0, 1.0, 2.0)),
        max_cooldown=cooldown + seconds(chance, 0, 30),
        success_threshold=chance.randint(1, 3),
        half_open_max_calls=chance.choice((1, 1, 2, 3)),
        half_open_max_wait=chance.choice((None, None, seconds(chance, 1 / 64, 4))),
        count=chance.choice(COUNT),
        **rates,
    )


def _timeout(chance: Random) -> TimeoutConfig:
    return TimeoutConfig(attempt=seconds(chance, 1 / 64, 4) if chance.random() < 0.9 else None)


def _fallback(chance: Random) -> tuple[FallbackStep, ...]:
    steps = []
    if chance.random() < 0.6:
        cache = CacheConfig(ttl=seconds(chance, 1 / 64, 8), max_entries=chance.randint(1, 3))
        steps.append(FallbackStep(FallbackStrategy.CACHE, cache=cache, when=chance.choice(WHEN)))
    last = chance.choice((FallbackStrategy.DEFAULT_VALUE, FallbackStrategy.NONE, FallbackStrategy.RAISE, None))
    if last is FallbackStrategy.DEFAULT_VALUE:
        steps.append(FallbackStep(last, value="default", when=chance.choice(WHEN)))
    elif last is not None:
        steps.append(FallbackStep(last))
    return tuple(steps) or (FallbackStep(FallbackStrategy.NONE),)


def _cache(chance: Random) -> CacheConfig:
    return CacheConfig(ttl=seconds(chance, 1 / 64, 8), max_entries=chance.randint(1, 3))


def _hedge(chance: Random) -> HedgeConfig:
    hedges = chance.choice((1, 1, 2))
    if chance.random() < 0.2:
        return HedgeConfig(quantile=0.5, min_samples=10, max_hedges=hedges)
    return HedgeConfig(delay=seconds(chance, 1 / 64, 2), max_hedges=hedges)


def _rate_limit(chance: Random) -> RateLimitConfig:
    return RateLimitConfig(
        max_calls=chance.randint(1, 4),
        period=seconds(chance, 0.25, 4),
        max_wait=chance.choice((0.0, seconds(chance, 0, 4))),
    )


def _bulkhead(chance: Random) -> BulkheadConfig:
    adaptive = None
    if chance.random() < 0.2:
        adaptive = AdaptiveConfig(initial_limit=chance.randint(1, 4), slow_call_duration=seconds(chance, 1 / 64, 2))
    return BulkheadConfig(
        max_concurrent=chance.randint(1, 3),
        max_waiting=chance.choice((0, 1, 4)),
        max_wait=chance.choice((None, seconds(chance, 1 / 64, 3))),
        adaptive=adaptive,
    )


def _chaos(chance: Random) -> ChaosConfig:
    return ChaosConfig(
        error=ChaosError(rate=0.5),
        delay=ChaosDelay(rate=0.5, duration=seconds(chance, 1 / 64, 2)),
        result=ChaosResult(rate=0.2, value="chaos"),
        seed=chance.randrange(100),  # without one chaos has a chance of its own
    )


#: The name of the function that fallbacks call.
BACKUP = "soak.backup"

#: Layers that are drawn less often than others, and how much less.
_RARE = {"chaos": 0.15, "cache": 0.5, "hedge": 0.5}

_LAYERS: dict[str, Callable[[Random], Any]] = {
    "deadline": _deadline,
    "fallback": _fallback,
    "cache": _cache,
    "retry": _retry,
    "hedge": _hedge,
    "circuit_breaker": _breaker,
    "rate_limit": _rate_limit,
    "bulkhead": _bulkhead,
    "timeout": _timeout,
    "chaos": _chaos,
}
