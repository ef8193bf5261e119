"""The bounds of a target, put together."""

from __future__ import annotations

import dataclasses

from pixel_llm.policy.bounds.attempts import longest_retry_after, worst_attempts, worst_latency
from pixel_llm.policy.bounds.durations import shorter
from pixel_llm.policy.bounds.fallbacks import before_fallback, caches, calls_of_fallback, with_fallback
from pixel_llm.policy.bounds.generate import CHAT, GENERATE, NOTHING, called_by_generate, chat_inside
from pixel_llm.policy.bounds.outages import opens_in, refusals, silence
from pixel_llm.policy.bounds.servers import over_servers, servers_asked
from pixel_llm.policy.bounds.unclear import is_cached, is_chaotic, is_held_back
from pixel_llm.policy.elsewhere import elsewhere
from pixel_llm.policy.fallback_targets import find_target
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.target import TargetPolicy

#: Calls per second at which the time to an open breaker is computed, unless told otherwise.
DEFAULT_RATE = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The bounds of one target. Immutable.

    Attributes:
        target: Its name.
        worst_latency: Seconds until a call has ended, or None if nothing bounds it. A plain sync function
            without a timeout can't be interrupted, so it holds for what can be. Of a stream it is the time
            to its first content.
        worst_attempts: The most often that one call calls the callable; with several servers, all of them together.
        typical_attempts: How often it does while all is well.
        worst_upstream_calls: The most requests to LM Studio that one call of ``pixel_llm.generate`` or of
            an ``lm_studio`` target makes, at all its servers; for others its attempts and those of the targets,
            models and endpoints that stand in for it. What registered functions do is not in it, nor are looks at
            how servers are, and what has a model loaded.
        opens_after: Seconds from the start of an outage that refuses every connection at once until the
            breaker opens, at *rate* calls a second; None if it never does, there is none, or results of chaos
            or of a cache may come in between. With several servers: until that of each of them does.
        opens_after_silence: The same for an outage in which no attempt gets an answer; None also where
            nothing ends such an attempt, or, with several servers or a cold start, something else may.
        held_back: True if, at *rate*, a rate limit or a bulkhead may hold calls back, so that nobody can say when the
            breaker opens.
        rate: Calls per second, evenly spaced.
        cache_bytes: The most memory that cached results take, 0 without a cache.
    """

    target: str
    worst_latency: float | None
    worst_attempts: int
    typical_attempts: int
    worst_upstream_calls: int
    opens_after: float | None
    opens_after_silence: float | None
    rate: float
    cache_bytes: int
    held_back: bool = False


def compute_bounds(config: PolicyConfig, target: str, *, rate: float = DEFAULT_RATE) -> Bounds:
    """The bounds of *target*, which must be in *config* or have no layers, at *rate* calls a second."""
    whole = find_target(config, target) or NOTHING
    policy = before_fallback(whole)
    attempt = policy.timeout.longest_attempt if policy.timeout is not None else None
    if target == GENERATE:
        attempt = shorter(attempt, _inside_generate(config, policy))
    above, whole_attempt = over_servers(config, target, policy, attempt)
    attempts = worst_attempts(above) * servers_asked(config, target)
    latency = worst_latency(above, whole_attempt, asked=longest_retry_after(target, policy))
    if whole.cache is not None:  # who waits for an equal call may have to make it after all, with what time is left
        latency = policy.deadline
    held_back = is_held_back(config, target, latency, rate)
    unclear = held_back or is_chaotic(config, target) or is_cached(config, target)
    return Bounds(
        target=target,
        worst_latency=with_fallback(
            whole,
            latency,
            lambda name: compute_bounds(config, name).worst_latency,
            worst_latency(elsewhere(whole), attempt),
        ),
        worst_attempts=attempts,
        typical_attempts=1,
        worst_upstream_calls=attempts * _calls_of_attempt(config, target) + _calls_of_fallback(config, whole),
        opens_after=None if unclear else opens_in(policy, refusals(config, target), rate),
        opens_after_silence=None if unclear else opens_in(policy, silence(config, target), rate),
        rate=rate,
        cache_bytes=sum(cache.max_bytes for cache in caches(whole)),
        held_back=held_back,
    )


def all_bounds(config: PolicyConfig, *, rate: float = DEFAULT_RATE) -> dict[str, Bounds]:
    """The bounds of every target of *config*."""
    return {target: compute_bounds(config, target, rate=rate) for target in config.targets}


def _calls_of_attempt(config: PolicyConfig, target: str) -> int:
    """The most requests that one attempt makes."""
    if target != GENERATE:
        return 1
    above, _ = over_servers(config, CHAT, chat_inside(config), None)
    return worst_attempts(above) * servers_asked(config, CHAT) + _calls_of_fallback(
        config, config.targets.get(CHAT, NOTHING)
    )


def _inside_generate(config: PolicyConfig, policy: TargetPolicy) -> float | None:
    """The longest time of one attempt of generate(): an injected delay, and what it calls, one after the other."""
    parts = [compute_bounds(config, name).worst_latency for name in called_by_generate(config)]
    if policy.chaos is not None and policy.chaos.delay is not None:
        parts.append(policy.chaos.delay.duration)
    return None if None in parts else sum(part for part in parts if part is not None)


def _calls_of_fallback(config: PolicyConfig, policy: TargetPolicy) -> int:
    return calls_of_fallback(policy, lambda name: compute_bounds(config, name).worst_upstream_calls)
