import dataclasses
import json
import threading
import time

import pytest
from shop import SHOP, fail, gone, load_shop

from pixel_llm.errors import ConnectionError, ErrorCode, PixelLMError, PolicyError, ValidationError
from pixel_llm.events import ModelLoaded, ModelLoadFailed, ModelMismatched
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.monitoring.snapshot.documents import as_dict, from_dict, read_document, write_document
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import SUM_ERROR, BreakerSnapshot, ReloadsSnapshot, TargetSnapshot
from pixel_llm.monitoring.tally import LONGEST_TEXT, RECENT, Tally
from pixel_llm.runtime import load_policies
from pixel_llm.testing import Answer, ScriptedLMStudio


def flaky(failures):
    """A function that fails so often, then succeeds."""
    left = [failures]

    def call():
        if left[0]:
            left[0] -= 1
            raise ConnectionError("flaky")
        return "done"

    return call


class TestReading:
    def test_counts_calls_and_attempts(self, shop):
        """
        Calls by how they ended; what recovered is among what succeeded, what a fallback served among what failed.
        """
        shop.wrap("shop.pay", flaky(0), cooperative=True, key=lambda: 1)()
        shop.wrap("shop.pay", flaky(1), cooperative=True, key=lambda: 2)()
        shop.wrap("shop.pay", gone, cooperative=True, key=lambda: 3)()
        pay = shop.snapshot().targets["shop.pay"]

        assert (2, 1, 3, 1, 1) == (pay.succeeded, pay.failed, pay.calls, pay.recovered, pay.degraded)
        assert (2, 3, 2) == (pay.attempts_succeeded, pay.attempts_failed, pay.retries)
        assert ({"default_value": 1}, {"ERR_CONN_LOST": 1}) == (pay.fallbacks, pay.errors)
        assert 2 == pay.latency.count

    def test_names_layer_and_code_of_refusals(self, shop):
        """
        A call that a layer refused is counted under both.
        """
        ship = shop.wrap("shop.ship", gone)
        fail(ship)
        fail(ship)

        assert {("circuit_breaker", "ERR_CB_OPEN"): 1} == shop.snapshot().targets["shop.ship"].refusals

    def test_has_the_state_of_each_layer(self, shop, clock):
        """
        What is under way, what may be, what was granted.
        """
        seen = []
        pay = shop.wrap("shop.pay", lambda: seen.append(shop.snapshot()), cooperative=True, key=lambda: 1)
        pay()
        target = seen[0].targets["shop.pay"]

        assert (1, 4, 0, 10) == dataclasses.astuple(target.bulkhead)
        assert (1, 100, 10.0, 0, None) == dataclasses.astuple(target.rate_limit)
        assert ("shared", 0, 4.0, 0.0) == (*dataclasses.astuple(target.retry_budget), target.retry_budget.ratio)
        assert (20.0, 5.0, True) == (target.deadline, target.attempt_timeout, target.has_fallback)
        assert (BreakerSnapshot(key="", state="closed"),) == target.breakers
        clock.advance(11)
        assert 0 == shop.snapshot().targets["shop.pay"].rate_limit.started

    def test_has_what_a_target_without_layers_lacks(self, shop):
        """
        A layer that is not there is None; its counts are 0.
        """
        target = shop.snapshot().targets["encoder.forward"]

        assert (None, None, None, None, ()) == (
            target.bulkhead, target.rate_limit, target.retry_budget, target.deadline, target.breakers,
        )  # fmt: skip
        assert (0, 0, None, False) == (target.calls, target.latency_sum, target.last_error, target.has_fallback)

    def test_has_a_breaker_for_each_key(self, shop):
        """
        Where a target has a breaker for each key, all of them are there, with when they changed.
        """
        stock = shop.wrap("shop.stock", lambda item: gone() if item == "cup" else item)
        fail(stock, item="cup")
        stock(item="pot")
        cup, pot = shop.snapshot().targets["shop.stock"].breakers

        assert ("cup", "open", True, 30.0) == (cup.key, cup.state, cup.refuses, cup.retry_after)
        assert abs(cup.changed_at - time.time()) < 60
        assert BreakerSnapshot(key="pot", state="closed") == pot

    def test_an_open_breaker_whose_cooldown_is_over_refuses_nobody(self, shop, clock):
        """
        It is open until a call comes, but that call will be a trial.
        """
        fail(shop.wrap("shop.ship", gone))
        clock.advance(31)
        (breaker,) = shop.snapshot().targets["shop.ship"].breakers

        assert ("open", False, None) == (breaker.state, breaker.refuses, breaker.retry_after)

    def test_counts_what_the_cache_served(self, shop):
        """
        Hits and misses of the read-through cache; a hit is a call that succeeded without an attempt.
        """
        show = shop.wrap("shop.list", lambda: "all", key=lambda: 1)
        show()
        show()
        target = shop.snapshot().targets["shop.list"]

        assert (1, 1, 0) == (target.cache_hits, target.cache_misses, target.shared_calls)
        assert (2, 1) == (target.succeeded, target.attempts_succeeded)

    def test_has_places_as_targets_of_their_own(self, tmp_path, clock):
        """
        What a fallback calls has a stack, and so counts, of its own, under the name that events have.
        """
        text = (
            "version: 1\nlogging: {level: CRITICAL}\n"
            "targets: {lm_studio.chat: {circuit_breaker: {}, fallback: [{model: small}]}}"
        )
        with load_shop(tmp_path, clock, text) as policies:
            ask = policies.wrap("lm_studio.chat", gone, key=str, alternative=lambda kind, name: lambda: name)
            assert "small" == ask()
            targets = policies.snapshot().targets

        assert 1 == targets["lm_studio.chat[model=small]"].succeeded
        assert {"model:small": 1} == targets["lm_studio.chat"].fallbacks

    def test_keeps_the_last_errors(self, shop):
        """
        The last error of a target, and those of all, the latest first; long texts are cut, and old errors go.
        """
        for number in range(RECENT + 5):
            fail(shop.wrap("shop.stock", lambda item: gone_of(item)), item=f"{number} " + 1000 * "x")
        snapshot = shop.snapshot()

        assert RECENT == len(snapshot.recent_errors)
        assert snapshot.recent_errors[0] == snapshot.targets["shop.stock"].last_error
        assert snapshot.recent_errors[0].text.startswith("KeyError: '54 x")
        assert ("unknown", LONGEST_TEXT) == (snapshot.recent_errors[0].code, len(snapshot.recent_errors[0].text))

    def test_goes_on_when_the_policy_is_loaded_again(self, shop, tmp_path):
        """
        Counters go on with their stacks; those of targets that are gone begin anew, should they come back.
        """
        fail(shop.wrap("shop.ship", gone))
        (tmp_path / "shop.yaml").write_text(SHOP.replace("shop.stock", "shop.shelf"))
        shop.reload()
        snapshot = shop.snapshot()

        assert 1 == snapshot.targets["shop.ship"].failed == sum(snapshot.targets["shop.ship"].errors.values())
        assert "shop.shelf" in snapshot.targets
        assert "shop.stock" not in snapshot.targets


def gone_of(item):
    raise KeyError(item)


ADDRESS = "http://127.0.0.1:1234"
OF_MODELS = (
    ModelLoaded("lm_studio.chat", ADDRESS, "qwen", 12.5),
    ModelLoadFailed("lm_studio.chat", ADDRESS, "qwen", ErrorCode.ERR_CONN_LOST, "gone", 3.0),
    ModelMismatched("lm_studio.chat", "qwen", "llava"),
)


class TestWhatNoStackTells:
    def test_counts_what_a_client_tells(self, shop):
        """
        A model that is not the one that was asked for, as the client of a real server tells it.
        """
        with (
            ScriptedLMStudio(then=Answer(model="llava")) as server,
            LMStudioClient(server.base_url, listeners=[shop.tell]) as client,
        ):
            client.chat(ChatRequest(model="qwen", prompt="What is it?"))

        assert {"model_mismatched": 1} == shop.snapshot().targets["lm_studio.chat"].events

    def test_counts_models_exactly(self, shop):
        """
        Whatever eight threads tell while others look, nothing is lost and nothing goes back; a reload keeps it.
        """
        number, rounds, done = 8, 400, threading.Event()
        seen = []

        def work():
            for _ in range(rounds):
                for event in OF_MODELS:
                    shop.tell(event)

        def watch():
            while not done.is_set():
                seen.append(shop.snapshot().targets["lm_studio.chat"].events)

        threads = [threading.Thread(target=work) for _ in range(number)]
        watcher = threading.Thread(target=watch)
        for thread in (*threads, watcher):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
        shop.reload()

        names = [event.name for event in OF_MODELS]
        assert dict.fromkeys(names, number * rounds) == shop.snapshot().targets["lm_studio.chat"].events
        for name in names:
            told = [events.get(name, 0) for events in seen]
            assert sorted(told) == told

    def test_counts_reloads(self, shop, tmp_path):
        """
        Those that succeeded and those that failed; which policy is in force the latest one says.
        """
        assert ReloadsSnapshot() == shop.snapshot().reloads
        shop.reload()
        file = tmp_path / "shop.yaml"
        file.write_text("targets: [")
        for _ in range(2):
            with pytest.raises(PolicyError):
                shop.reload()
        assert ReloadsSnapshot(succeeded=1, failed=2, last_failed=True) == shop.snapshot().reloads

        file.write_text(SHOP)
        shop.reload()
        assert ReloadsSnapshot(succeeded=2, failed=2, last_failed=False) == shop.snapshot().reloads

    def test_counts_reloads_of_many_threads_exactly(self, shop):
        """
        Each reload is counted once, whoever asks for it.
        """
        threads = [threading.Thread(target=lambda: [shop.reload() for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert ReloadsSnapshot(succeeded=20) == shop.snapshot().reloads


class TestConsistency:
    def test_parts_never_exceed_the_whole(self, tmp_path):
        """
        Whatever eight threads do meanwhile, a snapshot is consistent in itself, counters only grow, and none is lost.
        """
        (tmp_path / "shop.yaml").write_text(
            "version: 1\nlogging: {level: CRITICAL}\n"
            "targets: {shop.pay: {idempotent: true, retry: {strategy: immediate, max_attempts: 2}, "
            "fallback: [{default_value: x}]}}"
        )
        policies = load_policies(tmp_path, "shop", variables={})
        number, rounds = 8, 300
        done = threading.Event()

        def work():
            good, bad = policies.wrap("shop.pay", str), policies.wrap("shop.pay", gone)
            for _ in range(rounds):
                good()
                policies.wrap("shop.pay", flaky(1))()
                bad()

        threads = [threading.Thread(target=work) for _ in range(number)]
        seen = []

        def watch():
            while not done.is_set():
                seen.append(policies.snapshot().targets["shop.pay"])

        watcher = threading.Thread(target=watch)
        for thread in (*threads, watcher):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
        last = policies.snapshot().targets["shop.pay"]
        policies.close()

        for before, now in zip([TargetSnapshot(target="shop.pay"), *seen], [*seen, last], strict=True):
            assert now.recovered <= now.succeeded == now.latency.count
            assert now.degraded <= now.failed
            assert sum(now.errors.values()) <= now.failed
            grown = ("succeeded", "failed", "recovered", "attempts_failed", "degraded", "retries")
            assert all(getattr(before, name) <= getattr(now, name) for name in grown)
        calls = number * rounds
        assert (2 * calls, calls, calls, calls, 3 * calls) == (
            last.succeeded, last.failed, last.recovered, last.degraded, last.attempts_failed,
        )  # fmt: skip

    def test_attempts_of_a_cache_are_those_it_made(self, tmp_path, busily):
        """
        Whatever threads take from a cache that made one call, whoever looks sees that one attempt, no more, and no less
        than whoever looked before.
        """
        (tmp_path / "shop.yaml").write_text("version: 1\ntargets: {shop.list: {cache: {ttl: 1h}}}")
        policies = load_policies(tmp_path, "shop", variables={})
        show = policies.wrap("shop.list", lambda: "all", key=lambda: 1)
        show()
        assert policies.snapshot().targets["shop.list"].attempts_succeeded == 1

        def look():
            return [policies.snapshot().targets["shop.list"].attempts_succeeded for _ in range(200)]

        seen = busily([look] * 2, meanwhile=[lambda: [show() for _ in range(1000)]] * 6)
        policies.close()

        assert {1} == {number for numbers in seen for number in numbers}


class TestLatency:
    def test_sum_is_within_its_bound(self, shop, clock):
        """
        The sum that the buckets give is off by a third at most.
        """
        wait = shop.wrap("shop.ship", clock.advance)
        times = (0.001, 0.0015, 0.9, 3.0, 7.9)
        for seconds in times:
            wait(seconds)
        reckoned = shop.snapshot().targets["shop.ship"].latency_sum

        assert abs(reckoned - sum(times)) <= SUM_ERROR * sum(times)


class TestDocuments:
    def test_are_read_back_as_they_were(self, shop):
        """
        JSON and back gives an equal snapshot.
        """
        shop.wrap("shop.pay", flaky(1), cooperative=True, key=lambda: 2)()
        fail(shop.wrap("shop.ship", gone))
        fail(shop.wrap("shop.ship", gone))
        fail(shop.wrap("shop.stock", gone), item="cup")
        shop.wrap("shop.list", str, key=lambda: 2)()
        for event in OF_MODELS:
            shop.tell(event)
        shop.reload()
        snapshot = shop.snapshot()

        assert (snapshot,) == read_document(json.dumps(write_document([snapshot])))
        assert snapshot == from_dict(as_dict(snapshot))

    def test_unknown_keys_are_skipped(self, shop):
        """
        A later version may say more.
        """
        document = as_dict(shop.snapshot())
        document["weather"] = document["targets"][0]["weather"] = "fine"

        assert shop.snapshot().targets == from_dict(document).targets

    def test_of_an_earlier_package_are_read(self, shop):
        """
        One that knew nothing of reloads counted none.
        """
        document = as_dict(shop.snapshot())
        del document["reloads"]

        assert ReloadsSnapshot() == from_dict(document).reloads

    @pytest.mark.parametrize(
        ("reloads", "message"),
        [
            (3, "snapshot.reloads: must be an object (got 3)"),
            ({"failed": -1}, "snapshot.reloads.failed: must be a whole number from 0 on (got -1)"),
            ({"last_failed": 0}, "snapshot.reloads.last_failed: must be true or false (got 0)"),
        ],
    )
    def test_wrong_reloads_are_refused(self, shop, reloads, message):
        """
        What is of the policy is checked like what is of its targets.
        """
        with pytest.raises(ValidationError) as caught:
            from_dict(as_dict(shop.snapshot()) | {"reloads": reloads})

        assert message in caught.value.message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "a snapshot must be JSON"),
            ("[" * 100_000, "a snapshot must be JSON"),
            ("[]", "must be an object with version and policies"),
            ('{"version": 2, "policies": []}', "version: must be 1 (got 2)"),
            ('{"version": 1, "policies": {}}', "policies: must be a list"),
            ('{"version": 1, "policies": [3]}', "policies[0]: must be an object (got 3)"),
            ('{"version": 1, "policies": [{"profile": "a"}]}', "policies[0].version: is missing"),
        ],
    )
    def test_rubbish_is_refused(self, text, message):
        """
        What is no document is refused, with the place.
        """
        with pytest.raises(ValidationError) as caught:
            read_document(text)

        assert message in caught.value.message

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"succeeded": -1}, "snapshot.targets[0].succeeded: must be a whole number from 0 on (got -1)"),
            ({"succeeded": True}, "succeeded: must be a whole number from 0 on (got True)"),
            ({"deadline": "2s"}, "deadline: must be a number (got '2s')"),
            ({"deadline": float("nan")}, "deadline: must be a number (got nan)"),
            ({"target": None}, "target: must be a text (got None)"),
            ({"has_fallback": 1}, "has_fallback: must be true or false (got 1)"),
            ({"errors": []}, "errors: must be an object"),
            ({"errors": {"A": "x"}}, "errors.A: must be a whole number"),
            ({"refusals": [{"layer": 3}]}, "refusals[0].layer: must be a text"),
            ({"breakers": [{"state": "open"}]}, "breakers[0].key: is missing"),
            ({"breakers": {}}, "breakers: must be a list"),
            ({"latency": {"counts": [1]}}, "latency.counts: must be 32 numbers (got 1)"),
            ({"bulkhead": 3}, "bulkhead: must be an object (got 3)"),
            ({"succeeded": 10**400}, "succeeded: must be 9007199254740992 at most (got 1000"),
            ({"deadline": 10**400}, "deadline: must be a number (got 1000"),
            ({"deadline": float("-inf")}, "deadline: must be a number (got -inf)"),
            (
                {"breakers": [{"key": "", "state": "ajar"}]},
                "breakers[0].state: must be open, half_open, closed (got 'ajar')",
            ),
        ],
    )
    def test_wrong_values_are_refused(self, shop, change, message):
        """
        Each value is checked, so that whoever reads a snapshot can rely on it.
        """
        document = as_dict(shop.snapshot())
        document["targets"][0] |= change
        with pytest.raises(ValidationError) as caught:
            from_dict(document)

        assert message in caught.value.message


class TestMerged:
    def test_adds_up_policies_of_one_profile(self, tmp_path, clock):
        """
        Counters and limits add up; of states the worst counts, of errors the latest.
        """
        with load_shop(tmp_path, clock) as one, load_shop(tmp_path, clock) as other:
            fail(one.wrap("shop.ship", gone))
            for _ in range(2):
                fail(other.wrap("shop.ship", gone), error=PixelLMError)
            fail(other.wrap("shop.stock", gone), item="cup")
            one.wrap("shop.pay", str, cooperative=True, key=str)()
            snapshots = [one.snapshot(), other.snapshot()]
            (both,) = merged(snapshots)
        ship, pay = both.targets["shop.ship"], both.targets["shop.pay"]

        assert (3, {("circuit_breaker", "ERR_CB_OPEN"): 1}, "open") == (
            ship.failed,
            ship.refusals,
            ship.breakers[0].state,
        )
        assert snapshots[1].targets["shop.ship"].last_error == ship.last_error
        assert (1, 8, 200, 1) == (pay.succeeded, pay.bulkhead.limit, pay.rate_limit.max_calls, pay.latency.count)
        assert [error.target for error in both.recent_errors] == ["shop.stock", "shop.ship"]

    def test_adds_up_reloads(self, tmp_path, clock):
        """
        One policy that could not be loaded again is enough to say so.
        """
        with load_shop(tmp_path, clock) as one, load_shop(tmp_path, clock) as other:
            one.reload()
            other.reload()
            (tmp_path / "shop.yaml").write_text("targets: [")
            fail(one.reload, error=PolicyError)
            (both,) = merged([one.snapshot(), other.snapshot()])

        assert ReloadsSnapshot(succeeded=2, failed=1, last_failed=True) == both.reloads

    def test_leaves_different_profiles_alone(self, tmp_path, clock):
        """
        What stands under another profile's name is another series.
        """
        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {}}")
        with load_shop(tmp_path, clock) as shop, load_policies(tmp_path, "bar", variables={}) as bar:
            snapshots = (shop.snapshot(), bar.snapshot())

        assert snapshots == merged(snapshots)


class TestTally:
    def test_remembers_a_bounded_number_of_keys(self, shop):
        """
        When breakers changed is known of so many keys at most.
        """
        tally = Tally(max_keys=3)
        shop.add_listener(tally)
        for number in range(10):
            fail(shop.wrap("shop.stock", gone), item=number)

        assert ["0", "1", "2"] == list(tally.of("shop.stock").changed_at)
