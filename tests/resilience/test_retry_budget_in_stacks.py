from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pixel_llm import load_policies
from pixel_llm.errors import APIError, ConnectionError, ErrorCode, RetryExhausted, ValidationError
from pixel_llm.events import CallFailed, RetryScheduled
from pixel_llm.policy import (
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryBudgetConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
)
from pixel_llm.resilience import RetryBudget, Stack

TARGET = "shop.pay"


def immediate(budget, **more):
    return RetryConfig(strategy=RetryStrategy.IMMEDIATE, budget=budget, **more)


def at_most(retries, ratio=0.0):
    return RetryBudgetConfig(ratio=ratio, min_retries=retries)


class TestEmptyBudget:
    def test_fails_the_call_now(self, both_worlds, events):
        """
        What would be tried again fails with ERR_RETRY_BUDGET, caused by the last error.
        """
        call = both_worlds(ConnectionError("gone"), retry=immediate(at_most(1)))
        with pytest.raises(RetryExhausted) as raised:
            call()
        error = raised.value

        assert 2 == call.calls == error.attempts == len(error.history)
        assert ErrorCode.ERR_RETRY_BUDGET is error.error_code
        assert call.script.steps[0] is error.__cause__
        assert (
            "shop.pay: the retry budget is empty (retries for at most 0% of the calls within 10s, or 1 if that is "
            "more); last: gone"
        ) == str(error)
        assert ["shop.pay: gave up after 2 attempts in 0.0 s: the retry budget is empty"] == error.__notes__
        assert (
            CallFailed(TARGET, 2, ErrorCode.ERR_RETRY_BUDGET, error.message, 0.0, "the retry budget is empty")
            == (events[-1])
        )

    def test_carries_what_the_server_asked_for(self, both_worlds):
        """
        The Retry-After of the last error is still there, also after pickling.
        """
        busy = APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT, retry_after=7.0)
        with pytest.raises(RetryExhausted) as raised:
            both_worlds(busy, retry=immediate(at_most(0)))()

        assert 7.0 == raised.value.retry_after == pickle.loads(pickle.dumps(raised.value)).retry_after

    def test_lets_first_attempts_through(self, both_worlds):
        """
        A budget holds back retries, never calls.
        """
        call = both_worlds(ConnectionError("gone"), ConnectionError("gone"), "paid", retry=immediate(at_most(0)))
        for _ in range(2):
            with pytest.raises(RetryExhausted):
                call()

        assert "paid" == call()

    def test_a_fallback_serves(self, both_worlds):
        """
        The fallback judges it by its cause, like every refusal.
        """
        steps = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),)
        call = both_worlds(ConnectionError("gone"), retry=immediate(at_most(0)), fallback=steps)

        assert ("sorry", 1) == (call.outcome().value, call.outcome().attempts)

    def test_the_error_dies_with_its_handler(self, both_worlds, world):
        """
        Nothing keeps the error, or the one that caused it, alive.
        """
        call = both_worlds(lambda: (_ for _ in ()).throw(ConnectionError("gone")), retry=immediate(at_most(0)))

        assert world.error_dies(call.guarded)

    @pytest.mark.parametrize(
        ("error", "layers"),
        [
            (ValidationError("no"), {}),
            (ConnectionError("gone"), {"idempotent": False}),
            (ConnectionError("gone"), {"circuit_breaker": CircuitBreakerConfig(failure_threshold=1)}),
            (
                ConnectionError("gone"),
                {"deadline": 1.0, "retry": RetryConfig(jitter=Jitter.NONE, initial_delay=2.0, budget=at_most(1))},
            ),
        ],
    )
    def test_is_not_asked_in_vain(self, both_worlds, error, layers):
        """
        Where the call is not tried again for another reason, no retry is taken out of the budget.
        """
        call = both_worlds(error, **{"retry": immediate(at_most(1)), **layers})
        with pytest.raises(type(error)):
            call()

        assert 1 == call.stack.budget.budget.left()


class TestCounting:
    def test_successes_allow_retries(self, both_worlds, clock):
        """
        Calls that succeeded at once count, although nothing on their road knows of the budget.
        """
        call = both_worlds(*["paid"] * 40, *[ConnectionError("gone")] * 100, retry=immediate(at_most(0, ratio=0.1)))
        for _ in range(40):
            call()
        clock.advance(1.0)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                call()
        with pytest.raises(RetryExhausted):
            call()

        assert 40 + 3 + 3 + 1 == call.calls

    def test_a_recovered_call_counts_once(self, both_worlds):
        """
        A call that failed and then succeeded is one call.
        """
        steps = [step for _ in range(10) for step in (ConnectionError("gone"), "paid")]
        call = both_worlds(*steps, ConnectionError("gone"), retry=immediate(at_most(0, ratio=1.0)))
        for _ in range(10):
            call()
        with pytest.raises(RetryExhausted):  # 11 calls, and the 11th retry is its own first one
            call()

        assert 20 + 2 == call.calls

    def test_a_retry_is_taken_before_its_wait(self, both_worlds, events):
        """
        What is scheduled has been granted: calls that wait hold what they will use.
        """
        call = both_worlds(ConnectionError("gone"), "paid", retry=RetryConfig(budget=at_most(1)))
        taken = []
        call.stack.listener = lambda event: taken.append(
            call.stack.budget.budget.left() if isinstance(event, RetryScheduled) else None
        )
        call()

        assert 0 in taken


class TestNamedBudgets:
    POLICY = """
        version: 1
        retry_budgets:
          shop: {ratio: 0, min_retries: 3}
        templates:
          retry:
            shared: {strategy: immediate, max_attempts: 3, budget: shop}
        targets:
          shop.pay: {idempotent: true, retry: shared}
          shop.look: {idempotent: true, retry: shared}
          bank.*: {idempotent: true, retry: {template: shared, budget: {ratio: 0, min_retries: 1}}}
    """

    @pytest.fixture
    def policies(self, tmp_path: Path, clock):
        (tmp_path / "basic.yaml").write_text(self.POLICY, "utf-8")
        with load_policies(tmp_path, "basic", clock=clock) as policies:
            yield policies

    def test_are_shared(self, policies, world):
        """
        All targets that name a budget draw on the same one.
        """
        calls = []

        def fail():
            calls.append(1)
            raise ConnectionError("gone")

        pay, look = (policies.wrap(name, world.function(fail), cooperative=True) for name in ("shop.pay", "shop.look"))
        with pytest.raises(ConnectionError):
            world.run(pay)
        with pytest.raises(RetryExhausted, match="the retry budget is empty \\(shop: retries for"):
            world.run(look)
        with pytest.raises(RetryExhausted):
            world.run(pay)

        assert 3 + 2 + 1 == len(calls)

    def test_of_their_own_are_not(self, policies, world):
        """
        A budget that a section spells out belongs to each target by itself.
        """
        calls = []

        def fail():
            calls.append(1)
            raise ConnectionError("gone")

        for name in ("bank.charge", "bank.refund"):
            with pytest.raises(RetryExhausted):
                world.run(policies.wrap(name, world.function(fail), cooperative=True))

        assert 4 == len(calls)

    def test_are_described(self, policies):
        """
        The layer says which budget it draws on.
        """
        (layer, _) = policies.describe("shop.pay")
        policies.wrap("bank.charge", lambda: None)
        (own, _) = policies.describe("bank.charge")

        assert "shop" == layer.settings["budget"]
        assert {"ratio": 0.0, "window": 10.0, "min_retries": 1} == own.settings["budget"]

    def test_a_stack_needs_those_it_names(self, clock):
        """
        A stack made by hand is given the budgets that its policy names.
        """
        policy = TargetPolicy(retry=immediate("shop"))
        with pytest.raises(ValidationError, match="there is no retry budget 'shop': give it with budgets="):
            Stack(TARGET, policy, clock=clock)

        assert Stack(TARGET, policy, budgets={"shop": RetryBudget(at_most(1))}).budget is not None


class TestLoadedAgain:
    @pytest.mark.parametrize(
        ("old", "new", "left"),
        [
            (at_most(3), at_most(3), 2),
            (at_most(3), at_most(5), 5),
            (None, at_most(3), 3),
            (at_most(3), None, None),
        ],
    )
    def test_a_budget_of_its_own_goes_on(self, clock, old, new, left):
        """
        What was granted stays granted where the budget is as before; another one begins anew.
        """
        before = Stack(TARGET, TargetPolicy(retry=immediate(old)), clock=clock)
        if before.budget is not None:
            before.budget.take()
        after = Stack(TARGET, TargetPolicy(retry=immediate(new)), clock=clock, before=before)

        assert left == (after.budget.budget.left() if after.budget is not None else None)

    def test_a_named_one_is_shared_with_who_was_there_before(self, clock):
        """
        A target that comes back to the same budget has the same share, and its calls count once.
        """
        budgets = {"shop": RetryBudget(at_most(0, ratio=1.0), clock=clock, name="shop")}
        policy = TargetPolicy(retry=immediate("shop"))
        before = Stack(TARGET, policy, clock=clock, budgets=budgets)
        after = Stack(TARGET, policy, clock=clock, budgets=budgets, before=before)
        before.counters.record_success(0.0)

        assert before.budget is after.budget
        assert 1 == budgets["shop"].left()
