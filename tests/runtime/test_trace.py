"""A tracer sees the calls of all that policies guard, from when it is given to them."""

from __future__ import annotations

import pytest

import pixel_llm
from pixel_llm.resilience import CircuitState
from pixel_llm.runtime import load_policies
from pixel_llm.testing import VirtualClock, disabled

SHOP = """
version: 1
description: A shop.
targets:
  shop.pay:
    fallback: [{default_value: later}]
    circuit_breaker: {failure_threshold: 2, cooldown: 30s}
    bulkhead: {max_concurrent: 1, max_waiting: 0}
  shop.*: {}
"""


class Span:
    def __init__(self, name, names):
        self.name, self.names = name, names
        names.append(name)

    def enter(self):
        return self

    def leave(self, entered):
        """Nothing."""

    def attempt(self, target):
        return Span(f"attempt of {target}", self.names)

    def end(self, result, error):
        self.names.append(f"{self.name} ends")


class Tracer:
    def __init__(self):
        self.names = []

    def call(self, target, args, kwargs):
        return Span(target, self.names)


SEEN = ["shop.pay", "attempt of shop.pay", "attempt of shop.pay ends", "shop.pay ends"]


@pytest.fixture
def policies(tmp_path):
    (tmp_path / "shop.yaml").write_text(SHOP)
    with load_policies(tmp_path, "shop", variables={}, clock=VirtualClock()) as policies:
        yield policies


@pytest.fixture
def tracer():
    return Tracer()


class TestTrace:
    def test_what_is_wrapped_before_and_after(self, policies, tracer):
        before = policies.wrap("shop.pay", lambda: 1)
        policies.trace(tracer)
        after = policies.wrap("shop.pay", lambda: 2)
        assert (before(), after()) == (1, 2)
        assert tracer.names == SEEN * 2

    def test_a_guard_that_binds_with_its_first_call(self, policies, tracer):
        @pixel_llm.guard("shop.pay")
        def pay():
            return 1

        policies.activate()
        policies.trace(tracer)
        pay()
        assert tracer.names == SEEN

    def test_a_name_that_only_the_program_knows(self, policies, tracer):
        policies.trace(tracer)
        policies.wrap("shop.stock", lambda: 1)()
        assert tracer.names[0] == "shop.stock"

    def test_another_one_takes_its_place_and_none_ends_it(self, policies, tracer):
        pay = policies.wrap("shop.pay", lambda: 1)
        policies.trace(Tracer())
        policies.trace(tracer)
        pay()
        policies.trace(None)
        pay()
        assert tracer.names == SEEN

    def test_it_stays_when_the_policy_is_loaded_again(self, policies, tracer):
        pay = policies.wrap("shop.pay", lambda: 1)
        policies.trace(tracer)
        policies.reload()
        pay()
        assert tracer.names == SEEN

    def test_what_the_layers_know_goes_on(self, policies, tracer):
        def gone():
            raise ConnectionError("gone")

        pay = policies.wrap("shop.pay", gone)
        pay()
        breaker = policies.breaker("shop.pay")
        policies.trace(tracer)
        pay()
        assert policies.breaker("shop.pay") is breaker
        assert policies.stats("shop.pay").failed == 2
        assert breaker.state is CircuitState.OPEN

    def test_calls_under_way_hold_their_slots(self, policies, tracer):
        """A slot that was taken before counts afterwards."""
        results = []

        def pay():
            policies.trace(tracer)
            results.append(again())
            return "paid"

        again = policies.wrap("shop.pay", lambda: "never called")
        assert policies.wrap("shop.pay", pay)() == "paid"
        assert results == ["later"]

    def test_disabled_stacks_are_not_seen(self, policies, tracer):
        pay = policies.wrap("shop.pay", lambda: 1)
        policies.trace(tracer)
        with disabled():
            pay()
        assert tracer.names == []
