"""Bounds of calls that several servers can answer, and of models that must be loaded first."""

from __future__ import annotations

import dataclasses

import pytest

from pixel_llm.errors import APIError, ErrorCode, TimeoutError
from pixel_llm.policy import (
    BulkheadConfig,
    CircuitBreakerConfig,
    ColdStartConfig,
    EndpointConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    LMStudioConfig,
    PolicyConfig,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    Vision,
)
from pixel_llm.policy.bounds import CHAT, GENERATE, compute_bounds
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.testing import VirtualClock

MODELS = "lm_studio.models"
THREE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3)


def servers(count, **more):
    endpoints = tuple(EndpointConfig(base_url=f"http://127.0.0.1:{1234 + number}/v1") for number in range(count))
    return LMStudioConfig(endpoints=endpoints, vision=Vision.IMAGE, **more)


def config_of(policy, count=2, **more):
    return PolicyConfig(version=1, lm_studio=servers(count, **more), targets={CHAT: policy})


def bounds_of(policy, count=2, **more):
    return compute_bounds(config_of(policy, count, **more), CHAT)


class Slow:
    """A guide to places that all take their whole timeout, after a wait for the model."""

    def __init__(self, clock, names, grace):
        self.clock, self.names, self.grace = clock, names, grace

    def order(self, args):
        return self.names

    def prepare(self, name, args):
        self.clock.advance(self.grace)

    def enter(self, name):
        pass

    leave = enter

    def answered(self, name, args):
        raise AssertionError("nobody answers")

    def failed(self, name, error):
        pass


@pytest.mark.parametrize("grace", [0.0, 20.0])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("deadline", [None, 45.0, 1000.0])
def test_a_call_reaches_its_bounds(count, grace, deadline):
    """
    A call to servers that all take their whole time takes as long as its bounds say, and asks as often.
    """
    clock = VirtualClock(0.0)
    policy = TargetPolicy(deadline=deadline, retry=THREE, timeout=TimeoutConfig(attempt=10.0))
    cold_start = ColdStartConfig(grace=grace) if grace else None
    bounds = bounds_of(policy, count, cold_start=cold_start)
    names = [f"server {number}" for number in range(count)]

    def call():
        began = clock.monotonic()
        clock.advance(10.0 if deadline is None else min(10.0, max(0.0, deadline - began)))
        raise APIError("busy", error_code=ErrorCode.ERR_API_OVERLOAD, retry_after=THREE.retry_after_max)

    asked = []
    places = {name: lambda name=name: asked.append(name) or call() for name in names}
    guarded = guard(
        Stack(CHAT, policy, clock=clock), call, cooperative=True, routes=Routes(places, Slow(clock, names, grace))
    )
    with pytest.raises((APIError, TimeoutError)):
        guarded()

    whole = 3 * count * (grace + 10.0) + 2 * THREE.retry_after_max
    assert 3 * count == bounds.worst_attempts
    assert (whole if deadline is None else min(whole, deadline)) == bounds.worst_latency
    if deadline == 45.0:
        assert len(asked) <= bounds.worst_attempts
    else:
        assert bounds.worst_attempts == len(asked)
        assert bounds.worst_latency == clock.monotonic()


class TestBounds:
    def test_of_one_server_are_as_before(self):
        """
        Without endpoints and cold start nothing changes.
        """
        policy = TargetPolicy(deadline=60.0, retry=THREE, timeout=TimeoutConfig(attempt=10.0))
        alone = PolicyConfig(version=1, lm_studio=LMStudioConfig(), targets={CHAT: policy})

        assert dataclasses.replace(bounds_of(policy, 1), rate=1.0) == compute_bounds(alone, CHAT)

    def test_queues_are_waited_for_at_each_server(self):
        """
        Each server has its own rate limit and bulkhead, and so its own waits.
        """
        policy = TargetPolicy(
            timeout=TimeoutConfig(attempt=10.0),
            rate_limit=RateLimitConfig(max_calls=1, period=1.0, max_wait=2.0),
            bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=1, max_wait=3.0),
        )

        assert 30.0 == bounds_of(policy).worst_latency

    def test_endless_queues(self):
        """
        A queue without an end has only the deadline.
        """
        bulkhead = BulkheadConfig(max_concurrent=1, max_waiting=1, max_wait=None)
        policy = TargetPolicy(timeout=TimeoutConfig(attempt=10.0), bulkhead=bulkhead)

        assert bounds_of(policy).worst_latency is None
        assert 90.0 == bounds_of(dataclasses.replace(policy, deadline=90.0)).worst_latency

    def test_without_a_timeout(self):
        """
        Without a timeout nothing bounds an attempt but the deadline.
        """
        assert bounds_of(TargetPolicy()).worst_latency is None

    def test_generate_counts_all_servers(self):
        """
        The requests of generate() go to all servers; a fallback elsewhere is one more.
        """
        other = FallbackStep(FallbackStrategy.MODEL, value="small")
        chat = TargetPolicy(retry=THREE, timeout=TimeoutConfig(attempt=10.0), fallback=(other,))
        config = dataclasses.replace(config_of(chat, 3), targets={CHAT: chat, GENERATE: TargetPolicy()})

        assert 3 * 3 + 1 == compute_bounds(config, GENERATE).worst_upstream_calls
        assert 3 * 3 + 1 == compute_bounds(config, CHAT).worst_upstream_calls

    def test_models_are_not_loaded_for_their_list(self):
        """
        The list of models waits for no model, but may be asked of every server.
        """
        policy = TargetPolicy(timeout=TimeoutConfig(attempt=10.0))
        lm_studio = servers(2, cold_start=ColdStartConfig())
        config = PolicyConfig(version=1, lm_studio=lm_studio, targets={MODELS: policy, "billing.list": policy})

        assert 20.0 == compute_bounds(config, MODELS).worst_latency
        assert 10.0 == compute_bounds(config, "billing.list").worst_latency
        assert 1 == compute_bounds(config, "billing.list").worst_attempts


class TestOpenings:
    BREAKER = CircuitBreakerConfig(failure_threshold=3)

    def test_refusals(self):
        """
        Where all servers refuse, each breaker hears of every attempt, as a single one would.
        """
        policy = TargetPolicy(circuit_breaker=self.BREAKER, timeout=TimeoutConfig(attempt=10.0))

        assert 3.0 == bounds_of(policy).opens_after

    def test_silence(self):
        """
        Where no server answers, the last one is asked when the others have used up their timeouts.
        """
        policy = TargetPolicy(circuit_breaker=self.BREAKER, timeout=TimeoutConfig(attempt=10.0))

        assert 3.0 + 2 * 10.0 == bounds_of(policy).opens_after_silence

    @pytest.mark.parametrize(
        ("layers", "more"),
        [
            ({"deadline": 20.0}, {}),
            ({"hedge": HedgeConfig(delay=5.0)}, {}),
            ({"timeout": None}, {}),
            ({}, {"cold_start": ColdStartConfig()}),
        ],
    )
    def test_nobody_can_say(self, layers, more):
        """
        Where a deadline may cut what a server was given, and where a model is waited for, nobody can say.
        """
        policy = TargetPolicy(circuit_breaker=self.BREAKER, timeout=TimeoutConfig(attempt=10.0))

        assert bounds_of(dataclasses.replace(policy, **layers), **more).opens_after_silence is None

    def test_just_enough_time(self):
        """
        A deadline after the last timeout cuts nothing.
        """
        policy = TargetPolicy(deadline=20.5, circuit_breaker=self.BREAKER, timeout=TimeoutConfig(attempt=10.0))

        assert 23.0 == bounds_of(policy).opens_after_silence
