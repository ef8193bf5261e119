"""Bounds hold against real stacks in virtual time: never exceeded, and reached by some schedule."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import (
    ERRORS,
    TARGET,
    Outage,
    Play,
    adversaries,
    alone,
    breakers,
    fastest,
    is_counted,
    retried_errors,
    longest,
    policies,
    seconds,
)

from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    PolicyConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.bounds import Bounds, compute_bounds
from pixel_llm.resilience.cache import ResultCache
from pixel_llm.testing import VirtualClock

EXAMPLES = settings(max_examples=400, deadline=None)


def bounds_of(policy: TargetPolicy, rate: float = 1.0) -> Bounds:
    return compute_bounds(PolicyConfig(version=1, targets={TARGET: policy}), TARGET, rate=rate)


def in_the_corner(policy: TargetPolicy) -> bool:
    """A threshold of 1, no retried error that doesn't count, but time enough for the breaker to open and close."""
    breaker, retry = policy.circuit_breaker, policy.retry
    if breaker is None or retry is None or breaker.failure_threshold > 1:
        return False
    return all(is_counted(policy, ERRORS[name](None)) for name in retried_errors(policy))


class TestWorstCall:
    @EXAMPLES
    @given(st.data())
    def test_is_never_exceeded(self, data):
        """Whatever attempts and other callers do, no call takes longer or makes more attempts."""
        policy = data.draw(policies())
        bounds = bounds_of(policy)
        play = Play(policy, *data.draw(adversaries(policy))).run()

        assert play.attempts <= bounds.worst_attempts
        assert bounds.worst_latency is None or play.elapsed <= bounds.worst_latency

    @EXAMPLES
    @given(policies())
    def test_attempts_are_reached(self, policy):
        """Some call makes as many attempts."""
        if in_the_corner(policy):
            return
        play = Play(policy, *fastest(policy)).run()

        assert bounds_of(policy).worst_attempts == play.attempts

    @EXAMPLES
    @given(policies())
    def test_latency_is_reached(self, policy):
        """Some call takes as long; where nothing bounds it, as long as one likes."""
        if in_the_corner(policy):
            return
        bounds = bounds_of(policy)
        steps = longest(policy, bounds.worst_attempts)
        if bounds.worst_latency is None:
            assert Play(policy, dataclasses.replace(steps[0], duration=1e6)).run().elapsed >= 1e6
            return
        play = Play(policy, *steps).run()

        assert bounds.worst_latency == play.elapsed
