import json

import pytest
from shop import fail, gone, load_shop

from pixel_llm.errors import APIError, ErrorCode, LimitExceeded, RetryExhausted
from pixel_llm.monitoring import HealthStatus
from pixel_llm.monitoring.endpoint.answers import Answers
from pixel_llm.runtime import load_policies

OK, DEGRADED, FAILING = HealthStatus.OK, HealthStatus.DEGRADED, HealthStatus.FAILING


def of(health, target):
    (found,) = [one for one in health.targets if one.target == target]
    return found


class TestHealth:
    def test_is_ok_at_first(self, shop):
        """
        Nothing is wrong with what was never called.
        """
        health = shop.health()

        assert OK == health.status
        assert ((), {"": "closed"}, None) == (
            of(health, "shop.ship").reasons, of(health, "shop.ship").breakers, of(health, "shop.ship").last_error,
        )  # fmt: skip

    def test_a_target_whose_breaker_refuses_is_failing(self, shop, clock):
        """
        Its calls fail; once the cooldown is over it is degraded, since the next call will be tried.
        """
        fail(shop.wrap("shop.ship", gone))
        health = shop.health()

        assert (FAILING, FAILING) == (health.status, of(health, "shop.ship").status)
        assert ("the circuit breaker is open",) == of(health, "shop.ship").reasons
        assert "ERR_CONN_LOST" == of(health, "shop.ship").last_error.code
        clock.advance(31)
        assert DEGRADED == shop.health().status

    def test_a_fallback_makes_it_degraded(self, shop):
        """
        Where something serves in place of the calls, they do not all fail.
        """
        pay = shop.wrap("shop.pay", gone, cooperative=True, key=lambda: 1)
        pay()
        pay()

        assert (DEGRADED, {"": "open"}) == (shop.health().status, of(shop.health(), "shop.pay").breakers)

    def test_one_key_of_several_makes_it_degraded(self, shop):
        """
        Other keys are served.
        """
        stock = shop.wrap("shop.stock", lambda item: gone() if item == "cup" else item)
        stock(item="pot")
        fail(stock, item="cup")
        target = of(shop.health(), "shop.stock")

        assert (DEGRADED, ("the circuit breaker of 'cup' is open",)) == (target.status, target.reasons)
        assert {"pot": "closed", "cup": "open"} == target.breakers

    def test_a_shadow_says_nothing(self, tmp_path, clock):
        """
        A breaker that only watches refuses nobody.
        """
        text = "version: 1\ntargets: {shop.pay: {circuit_breaker: {failure_threshold: 1, mode: shadow}}}"
        with load_shop(tmp_path, clock, text) as policies:
            fail(policies.wrap("shop.pay", gone))

            assert OK == policies.health().status

    def test_saturation(self, shop):
        """
        How much of the bulkhead is in use.
        """
        seen = []
        shop.wrap("shop.pay", lambda: seen.append(shop.health()), cooperative=True, key=lambda: 1)()

        assert (0.25, None) == (of(seen[0], "shop.pay").saturation, of(seen[0], "shop.ship").saturation)

    def test_a_spent_budget_makes_it_degraded(self, shop):
        """
        More failures will not be tried again.
        """
        pay = shop.wrap("shop.pay", gone, cooperative=True, key=lambda: 1)
        for _ in range(4):
            shop.breaker("shop.pay").reset()
            pay()
        shop.breaker("shop.pay").reset()

        assert "the retry budget is spent to 100%" in of(shop.health(), "shop.pay").reasons
        assert DEGRADED == shop.health().status

    def test_as_json(self, shop):
        """
        Plain values, worst first where it matters.
        """
        fail(shop.wrap("shop.ship", gone))
        document = json.loads(json.dumps(shop.health().as_dict()))
        (ship,) = [one for one in document["targets"] if one["target"] == "shop.ship"]

        assert ("failing", "failing", ["the circuit breaker is open"]) == (
            document["status"], ship["status"], ship["reasons"],
        )  # fmt: skip


class TestRecentCalls:
    def test_calls_that_all_fail_without_a_breaker(self, shop, clock):
        """
        Nothing but the calls themselves says so; after a minute without any, they are wanted again.
        """
        buy = shop.wrap("shop.list", gone, key=lambda: 1)
        seen = []
        for _ in range(100):
            fail(buy)
            seen.append(of(shop.health(), "shop.list").status)

        assert [OK] * 2 + [DEGRADED] * 7 + [FAILING] * 91 == seen
        assert ("100 of the 100 calls of the last minute failed",) == of(shop.health(), "shop.list").reasons
        assert "ERR_CONN_LOST" == of(shop.health(), "shop.list").last_error.code
        clock.advance(62)
        assert OK == shop.health().status

    @pytest.mark.parametrize(("failures", "status"), [(1, OK), (19, OK), (20, DEGRADED), (89, DEGRADED), (90, FAILING)])
    def test_the_share_counts(self, shop, failures, status):
        """
        A few failures are no trouble; a fifth is; where hardly a call succeeds, the target is failing.
        """
        buy = shop.wrap("shop.list", lambda works: works or gone(), key=lambda works: works)
        for _ in range(failures):
            fail(buy, False)
        other = shop.wrap("shop.list", lambda number: number, key=lambda number: number)
        for number in range(100 - failures):
            other(number)

        assert status == of(shop.health(), "shop.list").status

    def test_errors_that_a_breaker_does_not_count(self, tmp_path, clock):
        """
        A wrong key opens no breaker, and all calls fail.
        """

        def refused():
            raise APIError("no such key", error_code=ErrorCode.ERR_API_UNAUTHORIZED)

        text = "version: 1\ntargets: {shop.ship: {circuit_breaker: {failure_threshold: 3}}}"
        with load_shop(tmp_path, clock, text) as policies:
            for _ in range(10):
                fail(policies.wrap("shop.ship", refused))

            assert FAILING == policies.health().status

    def test_a_breaker_whose_cooldown_is_over_wants_calls(self, tmp_path, clock):
        """
        However many failed within the minute: the target is degraded, so that a call comes to try.
        """
        text = "version: 1\ntargets: {shop.ship: {circuit_breaker: {failure_threshold: 10, cooldown: 5s}}}"
        with load_shop(tmp_path, clock, text) as policies:
            for _ in range(20):
                fail(policies.wrap("shop.ship", gone))
            failing = policies.health().status
            clock.advance(6)

            assert (FAILING, DEGRADED) == (failing, policies.health().status)

    def test_a_full_bulkhead_that_refuses_makes_it_degraded(self, tmp_path, clock):
        """
        With no queue to be full; it is not failing, since those inside are served.
        """
        seen = []
        text = "version: 1\ntargets: {shop.pay: {bulkhead: {max_concurrent: 1}}}"
        with load_shop(tmp_path, clock, text) as policies:
            pay = policies.wrap("shop.pay", lambda then: then(), cooperative=True)

            def look():
                for _ in range(30):
                    fail(pay, str, error=LimitExceeded)
                seen.append(of(policies.health(), "shop.pay"))

            pay(look)

        assert (DEGRADED, 1.0, ("its limits refused 30 of the 30 calls of the last minute",)) == (
            seen[0].status, seen[0].saturation, seen[0].reasons,
        )  # fmt: skip

    def test_a_full_bulkhead_alone_is_no_trouble(self, tmp_path, clock):
        """
        One call in a bulkhead of one is what it is for.
        """
        seen = []
        text = "version: 1\ntargets: {shop.pay: {bulkhead: {max_concurrent: 1}}}"
        with load_shop(tmp_path, clock, text) as policies:
            policies.wrap("shop.pay", lambda: seen.append(policies.health()), cooperative=True)()

        assert OK == seen[0].status

    def test_a_budget_without_a_retry_is_no_trouble_while_nothing_fails(self, tmp_path, clock):
        """
        It grants none, and none is wanted.
        """
        text = "version: 1\ntargets: {shop.pay: {idempotent: true, retry: {budget: {ratio: 0.1, min_retries: 0}}}}"
        with load_shop(tmp_path, clock, text) as policies:
            policies.wrap("shop.pay", str)()
            quiet = policies.health()
            fail(policies.wrap("shop.pay", gone), error=RetryExhausted)

            assert (OK, DEGRADED) == (quiet.status, policies.health().status)
            assert ("the retry budget is spent to 100%",) == of(policies.health(), "shop.pay").reasons


class TestPlaces:
    def test_one_endpoint_of_several(self, tmp_path, clock):
        """
        While another endpoint answers, the target is degraded, and its place that is down does not make it worse.
        """
        text = "version: 1\ntargets: {lm_studio.chat: {circuit_breaker: {failure_threshold: 1}}}"
        with load_shop(tmp_path, clock, text) as policies:
            ask, down = two_places(policies)
            down |= {"a"}
            ask()
            health = policies.health()

            assert (DEGRADED, DEGRADED) == (health.status, of(health, "lm_studio.chat").status)
            assert ("1 of 2 endpoints are down: their circuit breakers are open",) == of(
                health, "lm_studio.chat"
            ).reasons
            assert FAILING == of(health, "lm_studio.chat[endpoint=a]").status
            down |= {"b"}
            fail(ask)
            assert FAILING == policies.health().status


def two_places(policies):
    """A callable with two places, and the set of those that are down."""
    from pixel_llm.resilience.routes.routes import Routes

    down = set()

    def at(name):
        return lambda: gone() if name in down else name

    class Guide:
        def order(self, args):
            return ["a", "b"]

        def prepare(self, name, args):
            pass

        def enter(self, name):
            pass

        def leave(self, name):
            pass

        def answered(self, name, args):
            pass

        def failed(self, name, error):
            pass

    routes = Routes({"a": at("a"), "b": at("b")}, Guide())
    return policies.wrap("lm_studio.chat", at("a"), cooperative=True, routes=routes), down


class TestSeveralPolicies:
    SHIP = "version: 1\ntargets: {shop.ship: {circuit_breaker: {failure_threshold: 1}, bulkhead: {max_concurrent: 4}}}"

    def test_of_different_profiles_are_told_apart(self, tmp_path, clock):
        """
        Each target says which profile it is of.
        """
        (tmp_path / "bar.yaml").write_text(self.SHIP)
        bar = load_policies(tmp_path, "bar", clock=clock, variables={})
        with load_shop(tmp_path, clock, self.SHIP) as shop, bar:
            fail(bar.wrap("shop.ship", gone))
            document = health_of(shop, bar)

        assert ("failing", [("shop", "shop.ship", "ok"), ("bar", "shop.ship", "failing")]) == (
            document["status"],
            [(one["profile"], one["target"], one["status"]) for one in those(document, "shop.ship")],
        )  # fmt: skip

    def test_of_one_profile_are_one(self, tmp_path, clock):
        """
        Each target stands there once, as bad as it is in the worst of them, in whatever order.
        """
        one, other = (load_shop(tmp_path, clock, self.SHIP) for _ in range(2))
        with one, other:
            fail(one.wrap("shop.ship", gone))
            seen = []
            other.wrap("shop.ship", lambda: seen.extend([health_of(one, other), health_of(other, one)]))()

        assert seen[0] == seen[1]
        (ship,) = those(seen[0], "shop.ship")
        assert ("failing", ["the circuit breaker is open"], {"": "open"}, 0.125, "ERR_CONN_LOST") == (
            ship["status"], ship["reasons"], ship["breakers"], ship["saturation"], ship["last_error"]["code"],
        )  # fmt: skip

    def test_where_one_serves_the_calls_of_the_other_fail(self, tmp_path, clock):
        """
        Many successes of one policy do not make up for another one in which nothing succeeds.
        """
        one, other = (load_shop(tmp_path, clock, "version: 1\ntargets: {shop.list: {}}") for _ in range(2))
        with one, other:
            for _ in range(10):
                fail(one.wrap("shop.list", gone))
            for _ in range(1000):
                other.wrap("shop.list", str)()
            (target,) = those(health_of(other, one), "shop.list")

        assert ("failing", ["10 of the 10 calls of the last minute failed"]) == (target["status"], target["reasons"])


def health_of(*policies):
    """What ``/health`` answers for them."""
    return json.loads(Answers(policies).answer("GET", "/health").body)


def those(document, target):
    return [one for one in document["targets"] if one["target"] == target]
