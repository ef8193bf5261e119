import json

from shop import fail, gone, load_shop

from pixel_llm.monitoring import HealthStatus

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

        assert ("the retry budget is spent to 100%",) == of(shop.health(), "shop.pay").reasons
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
