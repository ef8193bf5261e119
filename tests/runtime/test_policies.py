import asyncio
import inspect
import json
import threading

import pytest

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, PolicyError, ValidationError
from pixel_llm.events import AttemptFailed, RetryScheduled
from pixel_llm.monitoring import get_logger
from pixel_llm.resilience import CircuitState, Layer
from pixel_llm.runtime import active, load_policies
from pixel_llm.testing import VirtualClock

SHOP = """
version: 1
description: A shop.
targets:
  shop.pay:
    deadline: 20s
    retry: {strategy: fixed_delay, max_attempts: 3, initial_delay: 2s, jitter: none}
    circuit_breaker: {failure_threshold: 3, cooldown: 30s}
    idempotent: true
  shop.stock:
    fallback: [{cache: {ttl: 1m}}, {default_value: [none left]}]
  shop.list: {}
"""


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "shop.yaml").write_text(SHOP)
    return folder


@pytest.fixture
def load(folder, clock):
    """Loads the shop's policy and closes it at the end."""
    loaded = []

    def load(profile="shop", **more):
        loaded.append(load_policies(folder, profile, **({"clock": clock, "variables": {}} | more)))
        return loaded[-1]

    yield load
    for policies in loaded:
        policies.close()


def gone():
    raise ConnectionError("gone")


async def listen_async(event):
    pass


class TestWhatIsNotTaken:
    @pytest.mark.parametrize("listener", [3, listen_async], ids=["not callable", "async"])
    def test_listeners(self, load, listener):
        """
        What can't be told about events is refused when it is given, not when something goes wrong.
        """
        with pytest.raises(ValidationError, match="must be a plain function"):
            load(listeners=[listener])
        with pytest.raises(ValidationError, match="must be a plain function"):
            load().add_listener(listener)

    def test_targets(self, load):
        """
        A target is named by a text.
        """
        with pytest.raises(ValidationError, match="named by a text"):
            load().wrap(3, gone)

    def test_functions_that_count_tokens(self, folder, load):
        """
        Tokens are counted in the middle of a call, where nothing is awaited.
        """
        (folder / "ask.yaml").write_text(
            "version: 1\ntargets: {shop.ask: {rate_limit: {tokens: {max_tokens: 5, usage: count}}}}"
        )
        with pytest.raises(ValidationError, match="must name a plain function"):
            load("ask", functions={"count": listen_async})


class TestLoadPolicies:
    def test_from_a_folder_by_name(self, load, folder):
        """
        The arguments say which folder and which profile; what was loaded can be looked at.
        """
        policies = load()

        assert ("shop", folder / "shop.yaml", "A shop.") == (
            policies.profile,
            policies.file,
            policies.config.description,
        )
        assert f"<Policies 'shop' from {folder / 'shop.yaml'}>" == repr(policies)

    def test_shipped_profiles_from_any_folder(self, load):
        """
        A profile that the folder lacks is the shipped one.
        """

        assert "production" == load("production").profile

    def test_from_where_the_environment_says(self, folder, monkeypatch):
        """
        Without arguments ``$PIXEL_LLM_POLICIES`` and ``$PIXEL_LLM_PROFILE`` decide.
        """
        monkeypatch.setenv("PIXEL_LLM_POLICIES", str(folder))
        monkeypatch.setenv("PIXEL_LLM_PROFILE", "shop")
        with load_policies() as policies:
            assert folder / "shop.yaml" == policies.file

    def test_from_the_working_directory(self, folder, monkeypatch):
        """
        Without either, ``./policies`` is looked into, for the profile ``basic``.
        """
        monkeypatch.chdir(folder.parent)
        monkeypatch.delenv("PIXEL_LLM_POLICIES", raising=False)
        monkeypatch.delenv("PIXEL_LLM_PROFILE", raising=False)
        (folder / "basic.yaml").write_text("version: 1\ndescription: Ours.\n")
        with load_policies() as policies:
            assert ("basic", "Ours.") == (policies.profile, policies.config.description)

    def test_the_arguments_win(self, folder, monkeypatch):
        """
        What is passed beats what the environment says.
        """
        monkeypatch.setenv("PIXEL_LLM_POLICIES", "/nowhere")
        monkeypatch.setenv("PIXEL_LLM_PROFILE", "nobody")
        with load_policies(folder, "shop") as policies:
            assert "shop" == policies.profile

    def test_with_overrides(self, load):
        """
        Sections from code lie over the profile's: maps merge, lists replace.
        """
        policies = load(overrides={"targets": {"shop.pay": {"deadline": "5s"}, "shop.new": {"timeout": "1s"}}})

        assert (5.0, 3) == (
            policies.config.targets["shop.pay"].deadline,
            policies.config.targets["shop.pay"].retry.max_attempts,
        )
        assert 1.0 == policies.config.targets["shop.new"].timeout.attempt

    def test_with_variables(self, folder, load):
        """
        ``${VAR}`` sees the variables that were passed.
        """
        (folder / "shop.yaml").write_text("version: 1\nlm_studio: {model: '${MODEL}'}\n")

        assert "tiny" == load(variables={"MODEL": "tiny"}).config.lm_studio.model

    def test_overrides_are_checked_like_a_file(self, load):
        """
        A wrong override is a PolicyError that names its place.
        """
        with pytest.raises(PolicyError) as caught:
            load(overrides={"targets": {"shop.pay": {"deadline": 5}}})

        assert "<overrides>: targets.shop.pay.deadline: 5 has no unit: write 5s or 5ms" == str(caught.value)

    def test_a_wrong_policy_starts_nothing(self, folder, load, monkeypatch):
        """
        Every problem is told at once, and nothing is made: no file, no folder, no thread.
        """
        monkeypatch.chdir(folder.parent)
        (folder / "shop.yaml").write_text(
            "version: 1\n"
            "logging: {file: logs/shop.log}\n"
            "targets:\n"
            "  shop.pay:\n"
            "    retry: {max_attempts: 0}\n"
            "    circuit_breaker: {colldown: 3s}\n"
        )
        before = threading.active_count()
        with pytest.raises(PolicyError) as caught:
            load()

        unknown = "unknown key 'colldown'; did you mean \"cooldown\"?"

        assert [
            f"{folder}/shop.yaml:5:27: targets.shop.pay.retry.max_attempts: must be at least 1 (got 0)",
            f"{folder}/shop.yaml:6:23: targets.shop.pay.circuit_breaker.colldown: {unknown}",
        ] == str(caught.value).splitlines()
        assert [folder] == list(folder.parent.iterdir())
        assert before == threading.active_count()

    def test_an_unknown_profile_is_an_error_with_a_suggestion(self, load, folder):
        """
        No default is put in the place of a profile that is not there.
        """
        with pytest.raises(PolicyError) as caught:
            load("shpo")

        assert f"{folder}: there is no profile 'shpo'; did you mean \"shop\"?" == str(caught.value)

    def test_a_right_policy_makes_no_file_yet(self, folder, load, monkeypatch):
        """
        The log is made by its first record, not by loading.
        """
        monkeypatch.chdir(folder.parent)
        load("production")

        assert [folder] == list(folder.parent.iterdir())


class TestWrap:
    def test_puts_the_target_s_stack_around_a_function(self, load, clock):
        """
        Calls go through the layers that the policy has for the target.
        """
        left = [1, 1]
        guarded = load().wrap("shop.pay", lambda card: gone() if left and left.pop() else card)

        assert "visa" == guarded("visa")
        assert [2.0, 2.0] == clock.sleeps
        assert "shop.pay" == guarded.target

    def test_async_functions_too(self, load, clock):
        """
        A coroutine function stays one.
        """
        left = [1]

        async def pay(card):
            return gone() if left and left.pop() else card

        guarded = load().wrap("shop.pay", pay)

        assert inspect.iscoroutinefunction(guarded)
        assert ("visa", 2) == (lambda outcome: (outcome.value, outcome.attempts))(asyncio.run(guarded.outcome("visa")))

    def test_an_unknown_target_is_an_error_with_a_suggestion(self, load, folder):
        """
        No target runs unguarded by accident: a name that matches nothing is an error.
        """
        with pytest.raises(PolicyError) as caught:
            load().wrap("shop.pya", print)

        assert (
            f"{folder / 'shop.yaml'}: targets.shop.pya: this policy has no target 'shop.pya'; "
            'did you mean "shop.pay"?' == str(caught.value)
        )

    def test_a_target_like_no_other_gets_the_list(self, load):
        """
        Where nothing is close enough to suggest, the message lists what there is.
        """
        with pytest.raises(PolicyError) as caught:
            load().wrap("billing.charge", print)

        assert str(caught.value).endswith(
            "this policy has no target 'billing.charge'; there are encoder.forward, encoder.load, lm_studio.chat, "
            "lm_studio.models, pixel_llm.generate, shop.list, shop.pay or shop.stock"
        )

    @pytest.mark.parametrize(
        "target", ["pixel_llm.generate", "encoder.load", "encoder.forward", "lm_studio.chat", "lm_studio.models"]
    )
    def test_a_system_target_without_a_section_is_passed_through(self, load, target):
        """
        The system's own targets may always be wrapped; a policy that says nothing of one leaves it alone.
        """
        policies = load()
        error = ValueError("as it was")

        def fail():
            raise error

        with pytest.raises(ValueError) as caught:
            policies.wrap(target, fail)()

        assert error is caught.value
        assert (Layer("call", {}),) == policies.describe(target)

    def test_a_cache_needs_a_key(self, load):
        """
        A target whose fallback caches can't be wrapped without a key function.
        """
        policies = load()
        with pytest.raises(ValidationError, match="needs key="):
            policies.wrap("shop.stock", print)

        assert "ok" == policies.wrap("shop.stock", lambda: "ok", key=lambda: 1)()

    def test_passes_its_options_on(self, load, clock):
        """
        key, cooperative and cacheable reach the guard.
        """
        policies = load(overrides={"targets": {"shop.stock": {"timeout": "5s"}}})
        threads = []

        def stock(article):
            threads.append(threading.current_thread())
            return gone() if len(threads) > 2 else article

        guarded = policies.wrap(
            "shop.stock", stock, key=lambda article: article, cooperative=True, cacheable=lambda found: found != "pear"
        )

        assert ["apple", "pear"] == [guarded("apple"), guarded("pear")]
        assert ["apple", ["none left"]] == [guarded("apple"), guarded("pear")]
        assert {threading.current_thread()} == set(threads)


class TestPatterns:
    @pytest.fixture
    def policies(self, folder, load):
        (folder / "shop.yaml").write_text(
            "version: 1\n"
            "defaults: {deadline: 60s, circuit_breaker: {failure_threshold: 1}}\n"
            "targets:\n"
            "  billing.*: {timeout: 9s, idempotent: true, retry: {strategy: immediate, max_attempts: 2}}\n"
            "  billing.eu.*: {timeout: 5s}\n"
            "  billing.eu.refund: {timeout: 1s}\n"
            "  lm_studio.*: {deadline: 30s}\n"
        )
        return load()

    @pytest.mark.parametrize(
        ("target", "timeout"),
        [("billing.charge", 9.0), ("billing.eu.charge", 5.0), ("billing.eu.de.x", 5.0), ("billing.eu.refund", 1.0)],
    )
    def test_cover_names_that_only_the_program_knows(self, policies, target, timeout):
        """
        A name that the policy does not have takes the most specific pattern that covers it.
        """
        layers = {layer.name: layer.settings for layer in policies.describe(target)}

        assert (60.0, 2, timeout) == (
            layers["deadline"]["deadline"],
            layers["retry"]["max_attempts"],
            layers["timeout"]["attempt"],
        )

    def test_give_each_name_a_stack_of_its_own(self, policies):
        """
        Targets of one pattern fail by themselves: each has its own breaker, shared by all that is wrapped for it.
        """
        with pytest.raises(ConnectionError):
            policies.wrap("billing.charge", gone)()

        assert CircuitState.OPEN is policies.breaker("billing.charge").state
        assert CircuitState.CLOSED is policies.breaker("billing.refund").state
        assert policies.breaker("billing.charge") is policies.breaker("billing.charge")
        assert "billing.charge" == policies.wrap("billing.charge", gone).target

    def test_compile_once_whoever_comes_first(self, policies):
        """
        Threads that wrap the same new name at once share one stack.
        """
        start = threading.Barrier(8)
        breakers = []

        def ask(turn):
            start.wait()
            breakers.append((turn, policies.breaker(f"billing.t{turn}")))

        for turn in range(20):
            threads = [threading.Thread(target=ask, args=(turn,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert 160 == len(breakers)
        assert 20 == len({id(breaker) for _, breaker in breakers})
        assert 20 == len({(turn, id(breaker)) for turn, breaker in breakers})

    @pytest.mark.parametrize(
        "target",
        [
            "billing",
            "billings.x",
            "mail",
            "billing.*",
            "billing.eu.*",
            "billing.",
            "billing.Charge",
            "billing. x",
            "*",
            "",
        ],
    )
    def test_cover_nothing_else(self, policies, target):
        """
        Neither the prefix alone, nor a pattern, nor what is no name of a target.
        """
        with pytest.raises(PolicyError, match="this policy has no target"):
            policies.wrap(target, gone)

    def test_cover_no_misspelt_name_of_the_system_s(self, policies):
        """
        Under the system's prefixes every name is known: ``lm_studio.*`` is no licence for a slip.
        """
        with pytest.raises(PolicyError) as caught:
            policies.wrap("lm_studio.chta", gone)

        assert str(caught.value).endswith(
            "this policy has no target 'lm_studio.chta'; did you mean \"lm_studio.chat\"?"
        )
        assert 30.0 == policies.describe("lm_studio.chat")[0].settings["deadline"]

    def test_are_no_targets(self, policies):
        """
        What can be wrapped is listed without the patterns.
        """
        with pytest.raises(PolicyError) as caught:
            policies.wrap("zzzzzz", gone)

        assert ".*" not in str(caught.value)


class TestGuard:
    def test_is_wrap_as_a_decorator(self, load):
        """
        A decorated function is guarded and keeps its name, its text and its signature.
        """
        policies = load()

        @policies.guard("shop.pay")
        def pay(card: str) -> str:
            """Take money."""
            return card

        assert ("visa", "pay", "Take money.") == (pay("visa"), pay.__name__, pay.__doc__)
        assert "(card: str) -> str" == str(inspect.signature(pay))

    def test_takes_the_same_options(self, load):
        """
        key= is for the decorator too.
        """

        @load().guard("shop.stock", key=lambda article: article)
        def stock(article):
            return gone()

        assert ["none left"] == stock("apple")


class TestBreaker:
    def test_is_the_target_s(self, load, clock):
        """
        The breaker that guards a target can be looked at, and follows its calls.
        """
        policies = load()

        assert CircuitState.CLOSED is policies.breaker("shop.pay").state

        with pytest.raises(ConnectionError):
            policies.wrap("shop.pay", gone)()

        assert CircuitState.OPEN is policies.breaker("shop.pay").state

    def test_is_shared_by_two_wraps(self, load):
        """
        Two callables of one target, sync and async, share its breaker.
        """
        policies = load()

        async def pay():
            return "paid"

        other = policies.wrap("shop.pay", pay)
        with pytest.raises(ConnectionError):
            policies.wrap("shop.pay", gone)()
        with pytest.raises(CircuitBreakerOpen):
            asyncio.run(other())
        policies.breaker("shop.pay").reset()

        assert "paid" == asyncio.run(other())

    def test_is_not_shared_by_two_policies(self, load):
        """
        Loading a policy again starts afresh.
        """
        first, second = load(), load()
        with pytest.raises(ConnectionError):
            first.wrap("shop.pay", gone)()

        assert CircuitState.CLOSED is second.breaker("shop.pay").state

    def test_of_a_target_without_one_is_an_error(self, load, folder):
        """
        A target without a breaker has none to look at; has_breaker() asks beforehand.
        """
        policies = load()

        assert [True, False] == [policies.has_breaker(target) for target in ("shop.pay", "shop.list")]

        with pytest.raises(PolicyError) as caught:
            policies.breaker("shop.list")

        assert f"{folder / 'shop.yaml'}: targets.shop.list: shop.list has no circuit_breaker" == str(caught.value)

    def test_of_an_unknown_target_is_an_error(self, load):
        """
        Asking about a target that is not there is a mistake, whatever is asked.
        """
        policies = load()
        for ask in (policies.breaker, policies.has_breaker, policies.describe):
            with pytest.raises(PolicyError, match="did you mean"):
                ask("shop.pya")


class TestBreakersOfKeys:
    @pytest.fixture
    def policies(self, tmp_path):
        (tmp_path / "keys.yaml").write_text(
            "version: 1\nlogging: {level: CRITICAL}\n"
            "targets: {shop.ask: {circuit_breaker: {failure_threshold: 1, per: model}}, "
            "shop.pay: {circuit_breaker: {}}, shop.list: {deadline: 5s}}\n",
            "utf-8",
        )
        return load_policies(tmp_path, "keys", variables={})

    def test_are_looked_at_by_key(self, policies):
        """
        Each key has a breaker, which follows the calls of that key.
        """

        @policies.guard("shop.ask", cooperative=True)
        def ask(model):
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            ask("small")

        assert CircuitState.OPEN is policies.breaker("shop.ask", key="small").state
        assert CircuitState.CLOSED is policies.breaker("shop.ask", key="large").state
        assert ["small", "large"] == list(policies.breakers("shop.ask"))
        assert policies.has_breaker("shop.ask")

    def test_a_program_says_how_keys_are_found(self, policies):
        """
        wrap() takes breaker_key=.
        """
        policies.wrap("shop.ask", lambda request: request, breaker_key=lambda request: request[0])("small")

        assert ["s"] == list(policies.breakers("shop.ask"))

    def test_which_one_must_be_said(self, policies):
        """
        A key is needed where there is a breaker for each, and names none where there is one only.
        """
        with pytest.raises(PolicyError, match=r"shop.ask has a circuit breaker for each model: name one with key="):
            policies.breaker("shop.ask")
        with pytest.raises(PolicyError, match=r"shop.pay has one circuit breaker for all calls: key= names none"):
            policies.breaker("shop.pay", key="small")

    def test_without_keys(self, policies):
        """
        The only breaker of a target has no key.
        """
        assert {None: policies.breaker("shop.pay")} == policies.breakers("shop.pay")
        assert {} == policies.breakers("shop.list")


class TestDescribe:
    def test_gives_the_layers_outermost_first(self, load):
        """
        describe() shows what a call goes through, with the defaults that the policy left out.
        """

        deadline, retry, breaker, call = load().describe("shop.pay")
        retries = {
            "strategy": "fixed_delay",
            "max_attempts": 3,
            "initial_delay": 2.0,
            "max_delay": 60.0,
            "jitter": "none",
            "retry_on": ["THROTTLED", "TRANSIENT"],
        }
        breaks = {
            "failure_threshold": 3,
            "cooldown": 30.0,
            "success_threshold": 2,
            "count": ["TRANSIENT", "UNKNOWN"],
        }

        assert ["deadline", "retry", "circuit_breaker", "call"] == [
            layer.name for layer in (deadline, retry, breaker, call)
        ]
        assert ({"deadline": 20.0}, {}) == (deadline.settings, call.settings)
        assert retries == {name: retry.settings[name] for name in retries}
        assert breaks == {name: breaker.settings[name] for name in breaks}


class TestListeners:
    def test_hear_of_every_target(self, load):
        """
        Listeners that were passed and listeners that were added get the events, in that order.
        """
        seen = []
        policies = load(listeners=[lambda event: seen.append(("passed", type(event)))])
        policies.add_listener(lambda event: seen.append(("added", type(event))))
        left = [1]
        policies.wrap("shop.pay", lambda: gone() if left and left.pop() else 1)()

        assert [
            ("passed", AttemptFailed),
            ("added", AttemptFailed),
            ("passed", RetryScheduled),
            ("added", RetryScheduled),
        ] == seen[:4]

    def test_that_raise_fail_no_call(self, load, caplog):
        """
        A call does not notice a listener's fault.
        """

        def broken(event):
            raise RuntimeError("listener fault")

        left = [1]
        guarded = load(listeners=[broken]).wrap("shop.pay", lambda: gone() if left and left.pop() else "paid")

        assert "paid" == guarded()
        assert 1 == sum("reported once" in record.getMessage() for record in caplog.records)


class TestLog:
    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "logs" / "shop.log"

    def test_is_written_where_the_policy_says(self, load, file):
        """
        Events go to the policy's file, with profile and target.
        """
        policies = load(overrides={"logging": {"file": str(file), "level": "ERROR"}})
        with pytest.raises(ConnectionError):
            policies.wrap("shop.list", gone)()
        policies.log.flush()
        (record,) = [json.loads(line) for line in file.read_text().splitlines()]

        assert ("call_failed", {"profile": "shop", "target": "shop.list"}) == (record["message"], record["context"])

    def test_of_two_policies_do_not_mix(self, load, tmp_path):
        """
        Each policy writes its own file.
        """
        files = [tmp_path / "first.log", tmp_path / "second.log"]
        for file in files:
            policies = load(overrides={"logging": {"file": str(file)}})
            with pytest.raises(ConnectionError):
                policies.wrap("shop.list", gone)()
            policies.log.flush()

        assert [2, 2] == [len(file.read_text().splitlines()) for file in files]

    def test_that_cannot_be_written_fails_no_call(self, load, tmp_path, caplog):
        """
        A log file that can't be written is reported once, and calls give what they gave before.
        """
        policies = load(overrides={"logging": {"file": str(tmp_path)}})
        with pytest.raises(ConnectionError):
            policies.wrap("shop.list", gone)()
        policies.log.flush()

        assert 1 == sum("cannot be written" in record.getMessage() for record in caplog.records)


class TestClose:
    def test_ends_no_calls(self, load, tmp_path):
        """
        What was told before is written by then; stacks still work, and what they tell later opens the log again.
        """
        file = tmp_path / "shop.log"
        with load(overrides={"logging": {"file": str(file)}}) as policies:
            guarded = policies.wrap("shop.list", gone)
            with pytest.raises(ConnectionError):
                guarded()
        first = file.read_text().splitlines()
        with pytest.raises(ConnectionError):
            guarded()
        policies.close()

        assert (2, 4) == (len(first), len(file.read_text().splitlines()))

    def test_may_be_done_twice(self, load):
        """
        Closing what is closed does nothing.
        """
        policies = load()
        policies.close()
        policies.close()

    def test_touches_no_other_policy(self, load, tmp_path):
        """
        Another policy's log goes on.
        """
        first = load(overrides={"logging": {"file": str(tmp_path / "first.log")}})
        second = load(overrides={"logging": {"file": str(tmp_path / "second.log")}})
        first.close()
        with pytest.raises(ConnectionError):
            second.wrap("shop.list", gone)()
        second.log.flush()

        assert (tmp_path / "second.log").exists()


class TestSnapshot:
    def test_sees_what_the_stacks_know(self, load):
        """
        Snapshot and health are of all targets, those that nobody has called included.
        """
        policies = load()
        with pytest.raises(ConnectionError):
            policies.wrap("shop.list", gone)()
        snapshot = policies.snapshot()

        assert ("shop", 1, 0) == (
            snapshot.profile, snapshot.targets["shop.list"].failed, snapshot.targets["shop.pay"].calls,
        )  # fmt: skip
        assert "ok" == policies.health().status


class TestLoggers:
    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch):
        """No policies are loaded so far."""
        monkeypatch.setattr(active, "_active", None)
        monkeypatch.setattr(active, "_loaded", [])

    def test_write_where_the_active_policies_say(self, load, tmp_path):
        """
        A logger that was got before any policy was loaded writes to the active ones' log, and to no other's.
        """
        log = get_logger("till")
        log.error("before")
        first = load(overrides={"logging": {"file": str(tmp_path / "first.log")}})
        first.activate()
        log.error("one")
        second = load(overrides={"logging": {"file": str(tmp_path / "second.log")}})
        log.error("two")
        second.activate()
        log.error("three")
        second.close()
        log.error("four")
        first.close()

        assert [["one", "two", "four"], ["three"]] == [
            [json.loads(line)["message"] for line in (tmp_path / name).read_text().splitlines()]
            for name in ("first.log", "second.log")
        ]

    def test_have_the_level_of_the_policy(self, load, tmp_path):
        """
        The policy's level for a logger's name holds; what programs change stays changed.
        """
        logging = {"level": "ERROR", "levels": {"till.*": "DEBUG"}, "file": str(tmp_path / "shop.log")}
        policies = load(overrides={"logging": logging})
        policies.activate()

        assert [True, False] == [get_logger(name).is_enabled_for("debug") for name in ("till.two", "other")]

        policies.close()
