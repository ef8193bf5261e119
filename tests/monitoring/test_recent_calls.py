"""The calls of the last minute, the last errors that say why, and how much of a retry budget is spent."""

from __future__ import annotations

import pytest
from shop import fail, gone, load_shop

from pixel_llm.errors import CircuitBreakerOpen, RetryExhausted, ValidationError
from pixel_llm.monitoring.recent import Recent
from pixel_llm.monitoring.snapshot.model import RecentCalls, RetryBudgetSnapshot
from pixel_llm.policy import RetryBudgetConfig
from pixel_llm.resilience import RetryBudget
from pixel_llm.testing import VirtualClock


def counts(calls):
    return calls.succeeded, calls.failed, calls.refused


class TestRecent:
    def test_looks_a_minute_back(self):
        """
        What came before is forgotten.
        """
        recent = Recent(0.0)
        recent.fail(1.0, refused=False)
        recent.fail(30.0, refused=False)
        recent.fail(30.5, refused=True)
        seen = [counts(recent.look(now, 0)) for now in (31.0, 59.0, 62.0, 92.0)]

        assert [(0, 2, 1), (0, 2, 1), (0, 1, 1), (0, 0, 0)] == seen

    def test_successes_are_those_since_a_look(self):
        """
        Of those between two looks, of which one is too old, a share counts.
        """
        recent = Recent(0.0)
        recent.look(100.0, 1000)
        recent.look(130.0, 1030)

        assert 15 + 19 == recent.look(175.0, 1049).succeeded
        assert 0 == recent.look(500.0, 1049).succeeded

    def test_a_first_look_takes_them_to_have_come_evenly(self):
        """
        Nobody has looked for an hour: a sixtieth of the successes counts.
        """
        assert 10 == Recent(0.0).look(3600.0, 600).succeeded
        assert 600 == Recent(0.0).look(30.0, 600).succeeded

    def test_is_bounded(self):
        """
        It remembers no more than a minute, however much fails and whoever looks.
        """
        recent = Recent(0.0)
        for number in range(10_000):
            recent.fail(number / 3, refused=False)
            recent.look(number / 3, number)

        assert len(recent._seconds) <= 62
        assert len(recent._looks) <= 64

    def test_is_exact_under_threads(self, busily):
        """
        Failures of many threads are all counted, whoever looks meanwhile.
        """
        recent = Recent(0.0)
        rounds, number = 2000, 4

        def failing():
            for nth in range(rounds):
                recent.fail(nth % 50, refused=nth % 2 == 1)

        busily([failing] * number, meanwhile=[lambda: recent.look(50.0, 0)])

        assert (0, rounds * number / 2, rounds * number / 2) == counts(recent.look(50.0, 0))


class TestSnapshots:
    def test_know_the_calls_of_the_last_minute(self, shop, clock):
        """
        Those that failed and those that succeeded, until they are a minute old.
        """
        ship = shop.wrap("shop.ship", lambda works: works or gone())
        shop.snapshot()
        ship(True)
        fail(ship, False)
        clock.advance(2)
        seen = [shop.snapshot().targets["shop.ship"].recent]
        clock.advance(100)
        seen.append(shop.snapshot().targets["shop.ship"].recent)

        assert [RecentCalls(succeeded=1, failed=1), RecentCalls()] == seen

    def test_input_that_is_refused_says_nothing(self, shop):
        """
        A caller that passes nonsense does not make the target look bad.
        """

        def refuse():
            raise ValidationError("nonsense")

        fail(shop.wrap("shop.ship", refuse))

        assert RecentCalls() == shop.snapshot().targets["shop.ship"].recent


class TestLastErrors:
    def test_the_cause_stays(self, shop):
        """
        That an open breaker refuses calls pushes out no error that opened it.
        """
        ship = shop.wrap("shop.ship", gone)
        fail(ship)
        for _ in range(100):
            fail(ship, error=CircuitBreakerOpen)
        snapshot = shop.snapshot()
        (ours,) = [one for one in shop.health().targets if one.target == "shop.ship"]

        assert "ERR_CONN_LOST" == snapshot.targets["shop.ship"].last_error.code == ours.last_error.code
        assert ["ERR_CONN_LOST"] == [error.code for error in snapshot.recent_errors]
        assert 100 == snapshot.targets["shop.ship"].errors["ERR_CB_OPEN"]

    def test_a_refusal_without_a_cause_is_told(self, tmp_path, clock):
        """
        A breaker that the policy forces open has no other error to show; one refusal says it all.
        """
        text = "version: 1\ntargets: {shop.ship: {circuit_breaker: {mode: forced_open}}}"
        with load_shop(tmp_path, clock, text) as shop:
            for _ in range(3):
                fail(shop.wrap("shop.ship", str), error=CircuitBreakerOpen)
            snapshot = shop.snapshot()

        assert ["ERR_CB_OPEN"] == [error.code for error in snapshot.recent_errors]
        assert "ERR_CB_OPEN" == snapshot.targets["shop.ship"].last_error.code


class TestBudgets:
    @pytest.mark.parametrize(("ratio", "floor", "calls"), [(0.1, 0, 3), (0.1, 1, 19), (0.2, 2, 14), (0.1, 3, 35)])
    def test_one_that_refuses_is_spent(self, tmp_path, clock, ratio, floor, calls):
        """
        Whatever fraction of a retry is left: the ratio is 1 as soon as the next one is refused.
        """
        text = (
            "version: 1\ntargets: {shop.pay: {idempotent: true, retry: {strategy: immediate, max_attempts: 2, "
            f"budget: {{ratio: {ratio}, min_retries: {floor}}}}}}}}}"
        )
        with load_shop(tmp_path, clock, text) as shop:
            for number in range(calls):
                if number < floor:
                    fail(shop.wrap("shop.pay", gone))
                elif number < calls - 1:
                    shop.wrap("shop.pay", str)()
            fail(shop.wrap("shop.pay", gone), error=RetryExhausted)

            assert 1 == shop.snapshot().targets["shop.pay"].retry_budget.ratio

    @pytest.mark.parametrize("floor", [0, 1, 3])
    @pytest.mark.parametrize("ratio", [0.1, 0.3, 1.0])
    def test_it_is_spent_exactly_where_it_refuses(self, ratio, floor):
        """
        Retry by retry the ratio says what the budget does.
        """
        budget = RetryBudget(RetryBudgetConfig(ratio=ratio, min_retries=floor), clock=VirtualClock())
        share = budget.share(lambda: 0)
        for call in range(40):
            budget.count_call()
            spent, allowed = budget.used()
            is_spent = RetryBudgetSnapshot(name="", spent=spent, allowed=allowed).ratio == 1
            if call % 2:
                assert is_spent is not share.take()

    @pytest.mark.parametrize(
        ("spent", "allowed", "ratio"), [(0, 4.9, 0.0), (2, 4.9, 0.5), (9, 4.0, 1.0), (0, -1.0, 1.0)]
    )
    def test_share_of_what_it_grants(self, spent, allowed, ratio):
        """
        Fractions of a retry can't be spent.
        """
        assert ratio == RetryBudgetSnapshot(name="", spent=spent, allowed=allowed).ratio
