"""Drawing policies by chance."""

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
    TokenLimitConfig,
)
from pixel_llm.policy.sections.bulkhead import AdaptiveConfig, BulkheadConfig
from pixel_llm.policy.sections.chaos import ChaosConfig, ChaosDelay, ChaosError, ChaosResult
from pixel_llm.policy.sections.circuit_breaker import PER_TARGET, BreakerMode, WindowConfig
from pixel_llm.policy.sections.hedge import HedgeConfig
from pixel_llm.policy.sections.matching import (
    COUNTED_BY_DEFAULT,
    RETRIED_BY_DEFAULT,
    SERVED_BY_DEFAULT,
    ErrorMatcher,
)
from pixel_llm.policy.sections.rate_limit import RateLimitConfig
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig

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


def seconds(chance: Random, low: float, high: float) -> float:
    """A duration, often a short one or one that others have as well."""
    if chance.random() < 0.3:
        return min(high, max(low, float(chance.choice((0, 0.25, 0.5, 1, 2)))))
    return chance.randint(int(low * 64), int(high * 64)) / 64


def draw_policy(chance: Random, kind: str, *, bank: bool = False) -> TargetPolicy:
    """Layers by chance, each there or not, for callers of this *kind*; with a *bank* fallbacks may go there."""
    layers: dict[str, Any] = {"idempotent": chance.choice((None, True, True, False))}
    often = chance.choice((0.25, 0.5, 0.75))
    for name, draw in _LAYERS.items():
        if name in _TARGET_FIELDS and chance.random() < often * _RARE.get(name, 1.0):
            layers[name] = draw(chance)
    return _consistent(chance, layers, kind, bank=bank)


def draw_change(chance: Random, policy: TargetPolicy, kind: str, *, bank: bool = False) -> TargetPolicy:
    """*policy* with one to three layers changed, or gone, or come."""
    layers = {name: getattr(policy, name) for name in ("idempotent", *_LAYERS)}
    for name in chance.sample(tuple(_LAYERS), chance.choice((1, 1, 2, 3))):
        layers[name] = _LAYERS[name](chance) if chance.random() < 0.75 * _RARE.get(name, 1.0) else None
    layers = {name: value for name, value in layers.items() if value is not None}
    return _consistent(chance, layers, kind, bank=bank)


def _consistent(chance: Random, layers: dict[str, Any], kind: str, *, bank: bool) -> TargetPolicy:
    """A policy of these *layers*, such as is not refused."""
    if "fallback" in layers:
        reserve = layers["deadline"] / 8 if "deadline" in layers and chance.random() < 0.5 else None
        steps = (_with_reserve(step, reserve) for step in layers["fallback"])
        layers["fallback"] = tuple(step for step in steps if _can_serve(step, kind, bank=bank)) or _NOTHING_SERVES
    if "hedge" in layers:
        layers["idempotent"] = True  # else the policy is refused
    breaker = layers.get("circuit_breaker")
    short = breaker is not None and breaker.cooldown < 0.25
    if "retry" in layers and ("deadline" not in layers or short):
        # A call that waits for a breaker looks every twentieth of its cooldown whether the trials have ended, so for
        # ever if one hangs and nothing bounds it, or a hundred thousand times.
        layers["retry"] = dataclasses.replace(layers["retry"], wait_for_breaker=False)
    return TargetPolicy(**layers)


def _with_reserve(step: FallbackStep, reserve: float | None) -> FallbackStep:
    return dataclasses.replace(step, reserve=reserve if step.takes_time else None)


def _can_serve(step: FallbackStep, kind: str, *, bank: bool) -> bool:
    """Whether there is what *step* calls: the bank, or a function that callers of either world can call."""
    if step.strategy is FallbackStrategy.TARGET:
        return bank
    return step.strategy is not FallbackStrategy.CUSTOM_FUNCTION or kind != "both"


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
        per="key" if chance.random() < 0.3 else PER_TARGET,
        max_keys=chance.choice((1, 2, KEYS, KEYS)),
        **rates,
    )


def _timeout(chance: Random) -> TimeoutConfig:
    return TimeoutConfig(
        attempt=seconds(chance, 1 / 64, 4) if chance.random() < 0.9 else None,
        first_token=seconds(chance, 1 / 64, 4) if chance.random() < 0.3 else None,
        idle=seconds(chance, 1 / 64, 3) if chance.random() < 0.5 else None,
        max_pause=seconds(chance, 1, 4) if chance.random() < 0.5 else None,
    )


def _fallback(chance: Random) -> tuple[FallbackStep, ...]:
    steps = []
    if chance.random() < 0.6:
        cache = CacheConfig(ttl=seconds(chance, 1 / 64, 8), max_entries=chance.randint(1, 3))
        steps.append(FallbackStep(FallbackStrategy.CACHE, cache=cache, when=chance.choice(WHEN)))
    for strategy, value in chance.sample(_ELSEWHERE, chance.choice((0, 0, 0, 1, 1, 2))):
        steps.append(FallbackStep(strategy, value=value, when=chance.choice(WHEN)))
    last = chance.choice((FallbackStrategy.DEFAULT_VALUE, FallbackStrategy.NONE, FallbackStrategy.RAISE, None))
    if last is FallbackStrategy.DEFAULT_VALUE:
        steps.append(FallbackStep(last, value="default", when=chance.choice(WHEN)))
    elif last is not None:
        steps.append(FallbackStep(last))
    return tuple(steps) or _NOTHING_SERVES


def _cache(chance: Random) -> CacheConfig:
    return CacheConfig(ttl=seconds(chance, 1 / 64, 8), max_entries=chance.randint(1, 3))


def _hedge(chance: Random) -> HedgeConfig:
    hedges = chance.choice((1, 1, 2))
    if chance.random() < 0.2:
        return HedgeConfig(quantile=0.5, min_samples=10, max_hedges=hedges)
    return HedgeConfig(delay=seconds(chance, 1 / 64, 2), max_hedges=hedges)


def _rate_limit(chance: Random) -> RateLimitConfig:
    tokens = None
    if chance.random() < 0.3:
        tokens = TokenLimitConfig(max_tokens=chance.randint(1, 20), period=seconds(chance, 0.25, 4), usage=USAGE)
    return RateLimitConfig(
        tokens=tokens,
        max_calls=None if tokens is not None and chance.random() < 0.5 else chance.randint(1, 4),
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


#: The names of the functions that fallbacks call, and token limits.
BACKUP, USAGE = "soak.backup", "soak.usage"

#: The second target.
BANK = "shop.bank"

#: So many keys have calls, from 0.
KEYS = 3

_NOTHING_SERVES = (FallbackStep(FallbackStrategy.NONE),)

#: The steps of fallbacks that call something.
_ELSEWHERE = (
    (FallbackStrategy.TARGET, BANK),
    (FallbackStrategy.MODEL, "small"),
    (FallbackStrategy.ENDPOINT, "http://elsewhere"),
    (FallbackStrategy.CUSTOM_FUNCTION, BACKUP),
)

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
