import contextlib
import os
import platform
import shutil
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from shop import SHOP, fail, gone, load_shop

from pixel_llm.errors import PolicyError, ValidationError
from pixel_llm.events import ModelLoadFailed, types
from pixel_llm.events.types import Event
from pixel_llm.monitoring.exposition.families import BUCKETS, FAMILIES, MAX_KEYS, OTHER_EVENTS, POLICY_FAMILIES, Kind
from pixel_llm.monitoring.exposition.text import write_text
from pixel_llm.monitoring.prometheus import PolicyCollector
from pixel_llm.runtime import load_policies

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


def parse(text):
    """Every series of an exposition and its value, as `prometheus_client` reads it."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


def of(text, name, **labels):
    """The value of one series; the profile goes without saying."""
    return parse(text)[name, *sorted({"profile": "shop", **labels}.items())]


@pytest.fixture
def busy(shop):
    """The shop's policies after a bad day: every metric has a series."""
    fail(shop.wrap("shop.ship", gone))
    fail(shop.wrap("shop.ship", gone))
    fail(shop.wrap("shop.stock", gone), item='a "cup"\nand \\ more')
    show = shop.wrap("shop.list", lambda: "all", key=lambda: 1)
    show()
    show()
    shop.wrap("shop.pay", str, cooperative=True, key=lambda: 2)()
    shop.wrap("shop.pay", gone, key=lambda: 1)()
    shop.reload()
    shop.tell(ModelLoadFailed("lm_studio.chat", "http://127.0.0.1:1234", "qwen", None, "gone", 3.0))
    return shop


class TestText:
    def test_says_what_prometheus_client_says(self, busy):
        """
        The text that we write is that of `prometheus_client` for the same metrics.
        """
        registry = CollectorRegistry()
        registry.register(PolicyCollector(busy))

        assert parse(generate_latest(registry).decode()) == parse(write_text([busy.snapshot()]))

    def test_has_native_names_and_units(self, busy):
        """
        Series by target and by what happened.
        """
        text = write_text([busy.snapshot()])

        assert 1 == of(text, "pixel_llm_calls_total", target="shop.pay", outcome="succeeded")
        assert 1 == of(text, "pixel_llm_calls_total", target="shop.pay", outcome="failed")
        assert 2 == of(text, "pixel_llm_attempts_total", target="shop.pay", outcome="failed")
        assert 1 == of(text, "pixel_llm_retries_total", target="shop.pay")
        assert 1 == of(text, "pixel_llm_fallbacks_total", target="shop.pay", step="default_value")
        assert 1 == of(text, "pixel_llm_errors_total", target="shop.pay", error_code="ERR_CONN_LOST")
        assert 1 == of(
            text, "pixel_llm_refusals_total", target="shop.ship", layer="circuit_breaker", error_code="ERR_CB_OPEN"
        )
        assert 1 == of(text, "pixel_llm_cache_requests_total", target="shop.list", result="hit")
        assert 4 == of(text, "pixel_llm_bulkhead_limit", target="shop.pay")
        assert 2 == of(text, "pixel_llm_attempt_errors_total", target="shop.pay", error_code="ERR_CONN_LOST")
        assert 0.25 == of(text, "pixel_llm_retry_budget_ratio", target="shop.pay", budget="shared")
        assert 5 == of(text, "pixel_llm_attempt_timeout_seconds", target="shop.pay")
        assert 1 == of(text, "pixel_llm_circuit_state", target="shop.ship", key="", state="open")
        assert 0 == of(text, "pixel_llm_circuit_state", target="shop.ship", key="", state="closed")
        assert busy.snapshot().targets["shop.pay"].last_error.at == of(
            text, "pixel_llm_last_error_timestamp_seconds", target="shop.pay"
        )

    def test_tells_of_models(self, shop):
        """
        What a client tells stands under the target of its calls.
        """
        shop.tell(ModelLoadFailed("lm_studio.chat", "http://127.0.0.1:1234", "qwen", None, "gone", 3.0))
        text = write_text([shop.snapshot()])

        assert 1 == of(text, "pixel_llm_events_total", target="lm_studio.chat", event="model_load_failed")

    def test_tells_of_reloads(self, shop, tmp_path):
        """
        Both outcomes are there from the start, so that an increase is seen; the last one says what is in force.
        """
        shown = []
        for text in (None, SHOP, "targets: [", SHOP):
            if text is not None:
                (tmp_path / "shop.yaml").write_text(text)
                with contextlib.suppress(PolicyError):
                    shop.reload()
            text = write_text([shop.snapshot()])
            counts = [of(text, "pixel_llm_policy_reloads_total", outcome=one) for one in ("succeeded", "failed")]
            shown.append((*counts, of(text, "pixel_llm_policy_last_reload_successful")))

        assert [(0, 0, 1), (1, 0, 1), (1, 1, 0), (2, 1, 1)] == shown

    def test_has_a_histogram(self, shop, clock):
        """
        Buckets are cumulated; those below the first are in it, those above the last in +Inf.
        """
        wait = shop.wrap("shop.ship", clock.advance)
        for seconds in (0.0000001, 0.003, 10_000.0):
            wait(seconds)
        text = write_text([shop.snapshot()])
        name = "pixel_llm_call_duration_seconds"
        counts = [of(text, f"{name}_bucket", target="shop.ship", le=repr(bound)) for bound in BUCKETS]

        assert [1, 1, *[2] * (len(BUCKETS) - 2)] == counts
        assert (
            3
            == of(text, f"{name}_bucket", target="shop.ship", le="+Inf")
            == of(text, f"{name}_count", target="shop.ship")
        )
        assert of(text, f"{name}_sum", target="shop.ship") > 1000

    def test_says_which_versions_run(self, shop):
        """
        Build and start of the process.
        """
        series = parse(write_text([shop.snapshot()]))
        python = ("python_version", platform.python_version())

        assert 1 == series["pixel_llm_build_info", ("profile", "shop"), python, ("version", "0.1.0")]
        assert shop.snapshot().since == series["pixel_llm_started_timestamp_seconds", ("profile", "shop")]

    def test_is_empty_without_policies(self):
        """
        Without a snapshot there are metrics, and no series.
        """
        assert {} == parse(write_text([]))

    def test_folds_keys_beyond_the_limit(self, tmp_path, clock):
        """
        So many breakers have series of their own; the others are counted under one key, so series stay bounded.
        """
        with load_shop(tmp_path, clock) as shop:
            stock = shop.wrap("shop.stock", lambda item: gone() if item % 2 else item)
            for number in range(MAX_KEYS + 10):
                fail(stock, item=number) if number % 2 else stock(item=number)
            text = write_text([shop.snapshot()])
        keys = {dict(labels)["key"] for name, *labels in parse(text) if name == "pixel_llm_circuit_state"}

        assert MAX_KEYS + 2 == len(keys)  # the empty one of other targets, and the rest
        for state in ("open", "closed"):
            assert 5 == of(text, "pixel_llm_circuit_state", target="shop.stock", key="other", state=state)

    @pytest.mark.parametrize("others", [3, MAX_KEYS + 10])
    def test_a_key_may_be_called_like_the_rest(self, shop, others):
        """
        One named other is a key like any while there are few, and one of the rest where there are many.
        """
        stock = shop.wrap("shop.stock", lambda item: gone() if item == "other" else item)
        fail(stock, item="other")
        for number in range(others):
            stock(item=f"z{number:03}")
        text = write_text([shop.snapshot()])
        registry = CollectorRegistry()
        registry.register(PolicyCollector(shop))

        assert 1 == of(text, "pixel_llm_circuit_state", target="shop.stock", key="other", state="open")
        assert max(0, others - MAX_KEYS) == of(
            text, "pixel_llm_circuit_state", target="shop.stock", key="other", state="closed"
        )
        assert parse(text) == parse(generate_latest(registry).decode())

    def test_keys_that_look_alike_are_one_series(self, shop):
        """
        The number 1 and the text "1" are two breakers; the worse state is shown.
        """
        stock = shop.wrap("shop.stock", lambda item: gone() if item == 1 else item)
        stock(item="1")
        fail(stock, item=1)
        text = write_text([shop.snapshot()])

        assert 1 == of(text, "pixel_llm_circuit_state", target="shop.stock", key="1", state="open")
        assert 0 == of(text, "pixel_llm_circuit_state", target="shop.stock", key="1", state="closed")

    def test_shadows_are_told_apart(self, tmp_path, clock):
        """
        A breaker that only watches is not among those that refuse calls.
        """
        text = "version: 1\ntargets: {shop.pay: {circuit_breaker: {failure_threshold: 1, mode: shadow}}}"
        with load_shop(tmp_path, clock, text) as policies:
            fail(policies.wrap("shop.pay", gone))
            series = parse(write_text([policies.snapshot()]))
        labels = {"profile": "shop", "target": "shop.pay", "key": "", "state": "open"}

        assert 1 == series["pixel_llm_circuit_shadow_state", *sorted(labels.items())]
        assert not [
            name for name, *labels in series if name == "pixel_llm_circuit_state" and ("target", "shop.pay") in labels
        ]

    def test_tells_of_what_attempts_failed(self, shop):
        """
        By code, whether the call recovered or not.
        """
        answers = iter([gone, str])
        shop.wrap("shop.pay", lambda: next(answers)(), cooperative=True, key=lambda: 1)()
        text = write_text([shop.snapshot()])

        assert 1 == of(text, "pixel_llm_attempt_errors_total", target="shop.pay", error_code="ERR_CONN_LOST")
        assert 0 == of(text, "pixel_llm_calls_total", target="shop.pay", outcome="failed")

    def test_shows_several_policies(self, tmp_path, clock):
        """
        Each has its profile as a label; those of one profile are summed up.
        """
        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {}}")
        with (
            load_shop(tmp_path, clock) as one,
            load_shop(tmp_path, clock) as other,
            load_policies(tmp_path, "bar", variables={}) as bar,
        ):
            for policies in (one, other):
                policies.wrap("shop.ship", str)()
            bar.wrap("bar.serve", str)()
            text = write_text([one.snapshot(), other.snapshot(), bar.snapshot()])

        assert 2 == of(text, "pixel_llm_calls_total", target="shop.ship", outcome="succeeded")
        assert 1 == of(text, "pixel_llm_calls_total", profile="bar", target="bar.serve", outcome="succeeded")

    def test_takes_keys_that_are_no_unicode(self, shop):
        """
        What can't be sent is escaped.
        """
        shop.wrap("shop.stock", lambda item: item)(item="\udc80")

        registry = CollectorRegistry()
        registry.register(PolicyCollector(shop))

        assert "\\udc80" in write_text([shop.snapshot()]).encode().decode()
        assert parse(write_text([shop.snapshot()])) == parse(generate_latest(registry).decode())


class TestCollector:
    def test_can_be_registered(self, shop):
        """
        A registry takes it beside other metrics, and only once.
        """
        registry = CollectorRegistry()
        registry.register(PolicyCollector([shop]))
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(PolicyCollector(shop))

        labels = {"profile": "shop", "target": "shop.pay", "outcome": "failed"}
        assert 0 == registry.get_sample_value("pixel_llm_calls_total", labels)

    def test_says_what_is_missing(self):
        """
        Without `prometheus_client` the error says how to get it.
        """
        code = (
            "import sys; sys.modules['prometheus_client'] = None\n"
            "try:\n    import pixel_llm.monitoring.prometheus\nexcept ImportError as error:\n    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert "PolicyCollector needs prometheus_client: pip install 'pixel-llm[prometheus]'\n" == done.stdout

    @pytest.mark.parametrize("policies", [3, [], [3], None, "shop"])
    def test_takes_policies_only(self, policies):
        """
        What has no snapshot is refused when it is given.
        """
        with pytest.raises(ValidationError, match="metrics are those of policies"):
            PolicyCollector(policies)


class TestFamilies:
    def test_keep_the_rules_of_names(self):
        """
        Counters end in _total, times in _seconds; a name is there once.
        """
        families = [*POLICY_FAMILIES, *FAMILIES]
        names = [family.name for family in families]

        assert len(set(names)) == len(names)
        for family in families:
            assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
            assert family.help.endswith(".")

    def test_tell_of_every_event(self):
        """
        Each event has a metric of its own, or is in the one of the others.
        """
        own = {
            "attempt_failed", "call_failed", "call_recovered", "call_refused", "circuit_state_changed",
            "fallback_served", "retry_scheduled",
        }  # fmt: skip
        of_policies = {"policy_reloaded", "policy_reload_failed"}
        names = {
            kind.name
            for kind in vars(types).values()
            if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
        }

        assert names == own | of_policies | set(OTHER_EVENTS)

    @pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there (Debian has it in the package prometheus)")
    def test_please_promtool(self, busy):
        """
        Prometheus' own linter has nothing to say.
        """
        text = write_text([busy.snapshot()])
        done = subprocess.run(
            [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
