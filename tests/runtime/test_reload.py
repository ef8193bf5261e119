"""Loading a policy again while a program runs."""

import asyncio
import json
import threading

import pytest

import pixel_llm
from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, LimitExceeded, PolicyError
from pixel_llm.events import PolicyReloaded, PolicyReloadFailed
from pixel_llm.monitoring import get_logger
from pixel_llm.resilience import CircuitState
from pixel_llm.runtime import Reloaded, load_policies
from pixel_llm.testing import VirtualClock, disabled

SHOP = """
version: 1
description: A shop.
targets:
  shop.pay:
    fallback: [{default_value: FIRST}]
    circuit_breaker: {failure_threshold: 2, cooldown: 30s}
  shop.stock:
    fallback: [{cache: {ttl: 1m}}]
"""


def gone():
    raise ConnectionError("gone")


async def gone_async():
    raise ConnectionError("gone")


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


@pytest.fixture
def events():
    return []


@pytest.fixture
def policies(file, events):
    with load_policies(file.parent, "shop", variables={}, clock=VirtualClock(), listeners=[events.append]) as policies:
        yield policies


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestReload:
    def test_puts_what_is_wrapped_under_the_new_policy(self, policies, file, events):
        """
        Functions that were wrapped before have the new layers, without being wrapped again, in both worlds.
        """
        pay, pay_async = policies.wrap("shop.pay", gone), policies.wrap("shop.pay", gone_async)
        assert ("FIRST", "FIRST") == (pay(), asyncio.run(pay_async()))
        edit(file, "FIRST", "SECOND")

        assert Reloaded(("shop.pay",), ()) == policies.reload()
        assert ("SECOND", "SECOND") == (pay(), asyncio.run(pay_async()))
        assert PolicyReloaded("shop", ("shop.pay",), ()) in events

    def test_of_a_file_that_has_not_changed(self, policies):
        """
        Nothing has changed, and that is what is said.
        """
        pay = policies.wrap("shop.pay", gone)

        assert not policies.reload()
        assert "FIRST" == pay()

    def test_a_broken_file_changes_nothing(self, policies, file, events):
        """
        A file with a mistake is refused with its place; the old policy goes on, and the log knows.
        """
        pay = policies.wrap("shop.pay", gone)
        edit(file, "cooldown: 30s", "cooldown: 30")
        with pytest.raises(PolicyError, match="cooldown"):
            policies.reload()

        assert "FIRST" == pay()
        assert policies.config.targets["shop.pay"].circuit_breaker.cooldown == 30.0
        assert ["policy_reload_failed"] == [event.name for event in events if isinstance(event, PolicyReloadFailed)]

    def test_records_name_the_profile_and_no_target(self, file, tmp_path):
        """
        Both records are of the policy: whoever looks for a target's records meets none of a target that is not there.
        """
        log = tmp_path / "shop.log"
        file.write_text(f"{SHOP}logging: {{level: INFO, file: {log}}}\n")
        with load_policies(file.parent, "shop", variables={}) as policies:
            policies.reload()
            edit(file, "cooldown: 30s", "cooldown: 30")
            with pytest.raises(PolicyError):
                policies.reload()
            assert {"shop.pay", "shop.stock"} <= set(policies.snapshot().targets)
            assert "shop" not in policies.snapshot().targets
        records = [json.loads(line) for line in log.read_text().splitlines()]

        assert [
            ("policy_reloaded", {"profile": "shop"}, None),
            ("policy_reload_failed", {"profile": "shop"}, "ERR_VAL_INVALID_POLICY"),
        ] == [(record["message"], record["context"], record["error_code"]) for record in records]

    def test_a_policy_that_does_not_fit_what_is_wrapped_changes_nothing(self, policies, file):
        """
        Every misfit is named: a target that is gone, and a cache where no key= was given.
        """
        pay, stock = policies.wrap("shop.pay", gone), policies.wrap("shop.stock", gone, key=lambda: 1)
        edit(file, "{default_value: FIRST}", "{cache: {ttl: 1m}}")
        edit(file, "shop.stock", "shop.shelf")
        with pytest.raises(PolicyError) as caught:
            policies.reload()
        text = str(caught.value)

        assert "no target 'shop.stock'" in text
        assert "shop.pay: its fallback has a cache, so wrapping it needs key=" in text
        assert "FIRST" == pay()
        with pytest.raises(ConnectionError):
            stock()

    def test_a_breaker_whose_section_is_the_same_stays_as_it_is(self, policies, file):
        """
        An open breaker stays open, and the same object, although other layers of its target have changed.
        """
        pay = policies.wrap("shop.pay", gone)
        pay()
        pay()
        breaker = policies.breaker("shop.pay")
        edit(file, "FIRST", "SECOND")
        policies.reload()

        assert breaker is policies.breaker("shop.pay")
        assert CircuitState.OPEN is breaker.state
        assert isinstance(pay.outcome().error, CircuitBreakerOpen)

    def test_a_breaker_whose_section_has_changed_begins_anew(self, policies, file):
        """
        Another threshold makes another breaker, which is closed.
        """
        pay = policies.wrap("shop.pay", gone)
        pay()
        pay()
        edit(file, "failure_threshold: 2", "failure_threshold: 3")
        policies.reload()

        assert CircuitState.CLOSED is policies.breaker("shop.pay").state
        assert isinstance(pay.outcome().error, ConnectionError)

    def test_a_cache_whose_section_is_the_same_keeps_its_results(self, policies, file):
        """
        What was stored before the change serves after it.
        """
        policies.wrap("shop.stock", lambda: "plenty", key=lambda: 1)()
        edit(file, "  shop.stock:", "  shop.stock:\n    deadline: 9s")
        policies.reload()

        assert "plenty" == policies.wrap("shop.stock", gone, key=lambda: 1)()

    def test_a_slot_that_is_taken_stays_taken(self, policies, file):
        """
        A call that is inside under the old policy counts for a bulkhead that has not changed; so does a start.
        """
        edit(
            file,
            "  shop.stock:",
            "  shop.ask: {bulkhead: {max_concurrent: 1}, rate_limit: {max_calls: 2, period: 1m}}\n  shop.stock:",
        )
        policies.reload()
        inside, go_on = threading.Event(), threading.Event()

        def slow():
            inside.set()
            go_on.wait(10)

        thread = threading.Thread(target=policies.wrap("shop.ask", slow))
        thread.start()
        inside.wait(10)
        edit(file, "{max_concurrent: 1}, ", "{max_concurrent: 1, max_wait: 1s}, deadline: 5s, ")
        edit(file, "period: 1m", "period: 1m, max_wait: 1s")
        policies.reload()
        ask = policies.wrap("shop.ask", lambda: "answer")
        with pytest.raises(LimitExceeded, match="bulkhead"):
            ask()
        go_on.set()
        thread.join()

        assert "answer" == ask()
        with pytest.raises(LimitExceeded, match="rate limit"):
            ask()

    def test_a_reload_let_more_calls_in_than_the_new_limit_allows(self, policies, file):
        """
        Calls inside count under another max_concurrent, those that have started under another rate limit.
        """
        edit(
            file,
            "  shop.stock:",
            "  shop.ask: {bulkhead: {max_concurrent: 2}, rate_limit: {max_calls: 5, period: 1m}}\n  shop.stock:",
        )
        policies.reload()
        inside, go_on = threading.Semaphore(0), threading.Event()

        @policies.guard("shop.ask")
        def slow():
            inside.release()
            go_on.wait(10)

        threads = [threading.Thread(target=slow) for _ in range(2)]
        for thread in threads:
            thread.start()
            inside.acquire(timeout=10)
        edit(file, "max_concurrent: 2", "max_concurrent: 1")
        policies.reload()
        with pytest.raises(LimitExceeded, match=r"2 under way \(limit 1\)"):
            slow()
        edit(file, "max_concurrent: 1}, rate_limit: {max_calls: 5", "max_concurrent: 3}, rate_limit: {max_calls: 3")
        policies.reload()
        go_on.set()
        slow()
        with pytest.raises(LimitExceeded, match="rate limit of 3 calls in 1m"):
            slow()
        for thread in threads:
            thread.join()

    def test_a_reload_that_fails_changed_limits(self, policies, file):
        """
        The limits stay as they were, those of targets that the new policy would have fitted too.
        """
        edit(file, "  shop.stock:", "  shop.ask: {bulkhead: {max_concurrent: 1}}\n  shop.stock:")
        policies.reload()
        stock = policies.wrap("shop.stock", lambda: 3, key=lambda: 1)
        ask = policies.wrap("shop.ask", lambda more: more() if more else "answer")
        edit(file, "max_concurrent: 1", "max_concurrent: 2")
        edit(file, "shop.stock:", "shop.store:")

        with pytest.raises(PolicyError):
            policies.reload()

        with pytest.raises(LimitExceeded, match="limit 1"):
            ask(lambda: ask(None))
        edit(file, "shop.store:", "shop.stock:")
        policies.reload()
        assert ("answer", 3) == (ask(lambda: ask(None)), stock())

    def test_a_target_of_a_pattern_that_is_wrapped_again_after_a_reload(self, policies, file):
        """
        Its stack is compiled late; what is inside counts all the same.
        """
        edit(file, "  shop.stock:", "  'billing.*': {bulkhead: {max_concurrent: 2}}\n  shop.stock:")
        policies.reload()
        slots = policies._compiled.stack("billing.charge").admission.bulkhead
        slots.enter()
        edit(file, "max_concurrent: 2", "max_concurrent: 1")
        policies.reload()

        charge = policies.wrap("billing.charge", lambda: "charged")

        with pytest.raises(LimitExceeded, match="limit 1"):
            charge()
        slots.leave()
        assert "charged" == charge()

    def test_limits_of_another_model_went_with_a_fallback_that_changed(self, policies, file):
        """
        What is inside at a model that a fallback names counts for as long as one names it, at whatever place.
        """
        edit(
            file,
            "  shop.stock:",
            "  shop.ask: {bulkhead: {max_concurrent: 2}, fallback: [{model: tiny}, {model: small}]}\n  shop.stock:",
        )
        policies.reload()
        stack = policies._compiled.stack("shop.ask")
        tiny, small = (stack.alternative(index).admission.bulkhead for index in (0, 1))
        small.enter()
        edit(file, "{model: tiny}, {model: small}", "{model: small}, none")
        edit(file, "max_concurrent: 2", "max_concurrent: 1")

        policies.reload()

        new = policies._compiled.stack("shop.ask")
        assert small is new.alternative(0).admission.bulkhead
        assert (1, 1, 2) == (small.in_use, small.limit, tiny.limit)

    def test_another_model_that_was_asked_for_late_is_the_same(self, policies, file):
        """
        A call that ends under the old policy may be the first to ask for another model: where nothing of it has
        changed, it is that of the calls under the new one.
        """
        edit(
            file, "  shop.stock:", "  shop.ask: {rate_limit: {max_calls: 2}, fallback: [{model: tiny}]}\n  shop.stock:"
        )
        policies.reload()
        before = policies._compiled.stack("shop.ask")
        edit(file, "  shop.ask: {", "  shop.ask: {deadline: 30s, ")

        policies.reload()

        after = policies._compiled.stack("shop.ask")
        assert before is not after
        assert before.alternative(0) is after.alternative(0)

    def test_counters_go_on(self, policies, file):
        """
        Statistics of a target are those of all its time.
        """
        pay = policies.wrap("shop.pay", gone)
        pay()
        edit(file, "FIRST", "SECOND")
        policies.reload()
        pay()

        assert 2 == policies.stats("shop.pay").failed

    def test_sections_that_need_a_new_model_are_named(self, policies, file):
        """
        What only counts for models that are made from now on is said, not kept silent.
        """
        edit(file, "targets:", "lm_studio: {model: other}\ntargets:")

        assert Reloaded((), ("lm_studio",)) == policies.reload()
        assert "other" == policies.config.lm_studio.model

    def test_patterns(self, policies, file):
        """
        A name that only the program knows is bound anew through its pattern.
        """
        edit(file, "targets:", "targets:\n  mail.*: {fallback: [{default_value: LATER}]}")
        policies.reload()
        send = policies.wrap("mail.send", gone)
        assert "LATER" == send()
        edit(file, "LATER", "SOON")
        policies.reload()

        assert "SOON" == send()

    def test_a_call_under_way_ends_as_it_began(self, policies, file):
        """
        A call that was inside when the policy changed is served by the old chain.
        """
        inside, go_on, seen = threading.Event(), threading.Event(), []

        def slow():
            inside.set()
            go_on.wait(10)
            raise ConnectionError("gone")

        pay = policies.wrap("shop.pay", slow)
        thread = threading.Thread(target=lambda: seen.append(pay()))
        thread.start()
        inside.wait(10)
        edit(file, "FIRST", "SECOND")
        policies.reload()
        go_on.set()
        thread.join()

        assert ["FIRST", "SECOND"] == [*seen, pay()]

    def test_logging_follows(self, policies, file, tmp_path):
        """
        A log file that the new policy names is written from then on.
        """
        log = tmp_path / "new.log"
        edit(file, "targets:", f"logging: {{file: '{log}'}}\ntargets:")
        policies.reload()
        policies.wrap("shop.pay", gone)()
        policies.log.flush()

        assert "fallback_served" in log.read_text()

    def test_loggers_follow(self, policies, file, tmp_path):
        """
        Loggers write where the new policy says, what they wrote before is in the file before.
        """
        policies.activate()
        logger = get_logger("shop")
        for name in ("one", "two"):
            edit(file, "targets:", f"logging: {{file: '{tmp_path / name}'}}\ntargets:")
            policies.reload()
            logger.info(name)
            file.write_text(file.read_text().replace(f"logging: {{file: '{tmp_path / name}'}}\n", ""))
        logger.flush()

        assert [1, 1] == [(tmp_path / name).read_text().count(f'"{name}"') for name in ("one", "two")]

    def test_what_is_dropped_is_forgotten(self, policies, file):
        """
        A guarded function that the program has dropped keeps no target alive.
        """
        policies.wrap("shop.stock", gone, key=lambda: 1)
        edit(file, "shop.stock", "shop.shelf")

        assert "shop.shelf" in policies.reload().targets


@pytest.fixture
def nobody(monkeypatch):
    """No policies are loaded so far."""
    for name, value in (("_active", None), ("_stopgap", None), ("_loaded", [])):
        monkeypatch.setattr(f"pixel_llm.runtime.active.{name}", value)


class TestModuleLevelGuard:
    def test_binds_with_the_first_call(self, file):
        """
        A decorated function can be defined before any policy is loaded.
        """

        @pixel_llm.guard("shop.pay")
        def pay():
            raise ConnectionError("gone")

        with load_policies(file.parent, "shop", variables={}) as policies:
            policies.activate()

            assert "FIRST" == pay()
            edit(file, "FIRST", "SECOND")
            policies.reload()

            assert "SECOND" == pay()
            assert 2 == policies.stats("shop.pay").failed

    def test_a_target_that_is_not_there(self, file):
        """
        The first call says that the policy has no such target; so does the next.
        """

        @pixel_llm.guard("shop.pya")
        async def pay():
            return "paid"

        with load_policies(file.parent, "shop", variables={}) as policies:
            policies.activate()
            for _ in range(2):
                with pytest.raises(PolicyError, match=r"did you mean .shop\.pay"):
                    asyncio.run(pay())

    def test_the_first_that_were_loaded_are_active(self, file, nobody):
        """
        Loading other policies later does not take over; closing the active ones makes the first of the others active.
        """
        with (
            load_policies(file.parent, "shop", variables={}) as first,
            load_policies(file.parent, "shop", variables={}) as second,
        ):
            assert pixel_llm.active_policies() is first
            second.activate()
            assert pixel_llm.active_policies() is second
            second.close()
            assert pixel_llm.active_policies() is first

    def test_without_any_the_environment_says_which(self, file, monkeypatch, nobody):
        """
        Where nothing was loaded, the first call loads what the environment names.
        """
        monkeypatch.setenv("PIXEL_LLM_POLICIES", str(file.parent))
        monkeypatch.setenv("PIXEL_LLM_PROFILE", "shop")

        @pixel_llm.guard("shop.pay")
        def pay():
            raise ConnectionError("gone")

        assert "FIRST" == pay()
        pixel_llm.active_policies().close()

    def test_a_stopgap_makes_room(self, file, nobody):
        """
        Policies that were only loaded because a guard was called too early give way to the program's own.
        """

        @pixel_llm.guard("shop.pay")
        def pay():
            raise ConnectionError("gone")

        with pytest.raises(PolicyError, match=r"shop\.pay"):
            pay()
        stopgap = pixel_llm.active_policies()
        with load_policies(file.parent, "shop", variables={}):
            assert "FIRST" == pay()
        stopgap.close()

    def test_needs_a_name(self):
        """
        Forgetting the parentheses is said at once.
        """
        with pytest.raises(pixel_llm.ValidationError, match="needs the name of a target"):
            pixel_llm.guard(gone)


class TestDisabled:
    def test_calls_go_straight_to_the_function(self, policies):
        """
        In a user's own test the stacks can be switched off.
        """
        pay = policies.wrap("shop.pay", gone)
        with disabled(), pytest.raises(ConnectionError):
            pay()

        assert "FIRST" == pay()
