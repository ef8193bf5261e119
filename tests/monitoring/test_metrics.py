import asyncio
import gc
import logging
import math
import os
import random
import statistics
import sys
import threading
import tracemalloc

import pytest
from shop import fail, gone

from pixel_llm.errors import ConnectionError, ErrorCode, ValidationError
from pixel_llm.events import CallFailed
from pixel_llm.monitoring.error_metrics import ErrorMetrics, MetricPoint, MetricType, RollingCounter, get_metrics
from pixel_llm.monitoring.error_metrics.latencies import LONGEST, PARTS, SHORTEST, Latencies
from pixel_llm.monitoring.error_metrics.ledger import MAX_NAMES
from pixel_llm.resilience import CircuitState
from pixel_llm.resilience.counters import BOUNDS, Counters

LOST = ErrorCode.ERR_CONN_LOST
NOON = 1_700_000_000.0


@pytest.fixture
def metrics(clock):
    return ErrorMetrics(clock=clock, now=lambda: NOON + clock.monotonic())


@pytest.fixture
def reports(caplog):
    caplog.set_level(logging.DEBUG, "pixel_llm")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "pixel_llm"]


class TestErrors:
    def test_by_type_code_and_target(self, metrics):
        """
        The code is the classifier's, unless one is given; a type may be given by its name.
        """
        metrics.record_error(ConnectionError("gone"), target="shop.pay")
        metrics.record_error(KeyError("x"))
        metrics.record_error("Timeout", error_code="ERR_MINE")
        summary = metrics.get_error_summary()

        assert 3 == summary.total
        assert {"ConnectionError": 1, "KeyError": 1, "Timeout": 1} == summary.by_type
        assert {"ERR_CONN_LOST": 1, "unknown": 1, "ERR_MINE": 1} == summary.by_code
        assert {"shop.pay": 1, "": 2} == summary.by_target

    def test_names_are_bounded(self, metrics):
        """
        Beyond so many names of a kind the others are counted together.
        """
        for number in range(MAX_NAMES + 10):
            metrics.record_error(f"Type{number}", error_code=LOST)
        summary = metrics.get_error_summary()

        assert (MAX_NAMES + 10, MAX_NAMES + 1, 10) == (summary.total, len(summary.by_type), summary.by_type["other"])

    def test_names_are_cut(self, metrics):
        """
        A name of a megabyte takes no more memory than one of 200 characters, in the sums as in the history.
        """
        long = "x" * 1_000_000
        metrics.record_error(long, error_code=long, target=long)
        metrics.record_retry(target=long)
        metrics.record_fallback_activation(long, target=long)
        metrics.record_circuit_state_change(long, "open")
        metrics.record_success(target=long, latency=1.0)
        summary, full = metrics.get_error_summary(), metrics.get_full_summary()
        names = [*summary.by_type, *summary.by_code, *summary.by_target, *full.circuit_breakers]
        names += [*full.retries.by_target, *full.fallbacks.by_step]
        points = [text for point in metrics.get_history() for text in (point.name, point.target)]

        assert {200} == {len(name) for name in names}
        assert 200 == max(map(len, points))
        assert 1 == metrics.get_circuit_breaker_summary(long).opens

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (lambda metrics: metrics.record_error("x", attempts="2"), "attempts must be a whole number from 0 on"),
            (lambda metrics: metrics.record_error("x", attempts=-1), r"attempts must be a whole .* \(got -1\)"),
            (lambda metrics: metrics.record_success(attempts=True), r"attempts must be a whole .* \(got True\)"),
            (lambda metrics: metrics.record_error("x", target=3), r"target must be a text \(got 3\)"),
            (lambda metrics: metrics.record_retry(target=None), r"target must be a text \(got None\)"),
            (lambda metrics: metrics.record_retry(delay=-1), r"a delay must be a number of seconds .* \(got -1\)"),
            (lambda metrics: metrics.record_latency(10**400), r"a latency must be a number .* \(got 0x"),
            (lambda metrics: metrics.record_latency(10**5000), r"a latency must be a number .* \(got 0x"),
            (lambda metrics: metrics.record_fallback_activation(b"cache"), "step must be a text"),
            (lambda metrics: metrics.record_circuit_state_change(1, "open"), "the name of a circuit breaker must be"),
        ],
    )
    def test_arguments_are_checked(self, metrics, record, message):
        """
        What makes no sense is named, and nothing is recorded.
        """
        with pytest.raises(ValidationError, match=message):
            record(metrics)

        assert () == metrics.get_history()

    def test_summaries_are_of_their_moment(self, metrics):
        """
        What is recorded later does not change a summary, and nobody can.
        """
        metrics.record_error("A")
        summary = metrics.get_error_summary()
        metrics.record_error("A")

        assert (1, {"A": 1}) == (summary.total, dict(summary.by_type))
        with pytest.raises(TypeError):
            summary.by_type["A"] = 5


class TestRetries:
    def test_what_came_of_them(self, metrics):
        """
        Retries and their waits; calls that recovered, and calls for which they were in vain.
        """
        metrics.record_retry(delay=1.5, target="shop.pay")
        metrics.record_retry(delay=0.5)
        metrics.record_success(attempts=2)
        metrics.record_success()
        metrics.record_error("A", attempts=3)
        metrics.record_error("A")
        summary = metrics.get_retry_summary()

        assert (2, 1, 1, 2.0) == (summary.total, summary.recovered, summary.exhausted, summary.total_delay_seconds)
        assert {"shop.pay": 1, "": 1} == summary.by_target


class TestCircuits:
    def test_transitions_and_open_time(self, metrics, clock):
        """
        How often it opened, closed and tried, and how long it was open, until now if it still is.
        """
        metrics.record_circuit_state_change("shop.pay", "open", "closed")
        clock.advance(30)
        metrics.record_circuit_state_change("shop.pay", CircuitState.HALF_OPEN, CircuitState.OPEN)
        clock.advance(5)
        metrics.record_circuit_state_change("shop.pay", "open", "half_open")
        clock.advance(10)
        now = metrics.get_circuit_breaker_summary("shop.pay")

        assert ("shop.pay", CircuitState.OPEN, 3, 40.0) == (
            now.name, now.current_state, now.transitions, now.total_open_seconds,
        )  # fmt: skip
        assert (2, 0, 1) == (now.opens, now.closes, now.half_opens)
        metrics.record_circuit_state_change("shop.pay", "closed", "open")
        clock.advance(100)
        later = metrics.get_circuit_breaker_summary("shop.pay")
        assert (CircuitState.CLOSED, 40.0, 1) == (later.current_state, later.total_open_seconds, later.closes)

    def test_one_of_which_nothing_is_known(self, metrics):
        """
        It may be closed, misspelt, or one beyond those that are told apart: nothing is made up.
        """
        for number in range(MAX_NAMES + 10):
            metrics.record_circuit_state_change(f"shop.pay[{number}]", "open")

        assert metrics.get_circuit_breaker_summary("shop.pya") is None
        assert metrics.get_circuit_breaker_summary(f"shop.pay[{MAX_NAMES}]") is None
        assert CircuitState.OPEN is metrics.get_circuit_breaker_summary("shop.pay[0]").current_state
        assert 10 == metrics.get_circuit_breaker_summary("other").opens

    def test_states_are_checked(self, metrics):
        """
        An unknown state is named, with those that there are.
        """
        with pytest.raises(ValidationError, match="there is no state 'ajar' of a circuit breaker; there are closed, "):
            metrics.record_circuit_state_change("shop.pay", "ajar")


class TestFallbacks:
    def test_by_step_with_the_hit_rate(self, metrics):
        """
        What served; of the cache also how often it could not.
        """
        metrics.record_fallback_activation("cache")
        metrics.record_fallback_activation("cache", served=False)
        metrics.record_fallback_activation("cache", served=False)
        metrics.record_fallback_activation("default_value")
        metrics.record_fallback_activation("custom_function:apologise", served=False)
        summary = metrics.get_fallback_summary()

        assert (2, {"cache": 1, "default_value": 1}) == (summary.total, summary.by_step)
        assert (1, 2, pytest.approx(1 / 3)) == (summary.cache_hits, summary.cache_misses, summary.cache_hit_rate)

    def test_nothing_looked_for(self, metrics):
        """
        Without a look into the cache the rate is 0.
        """
        assert 0.0 == metrics.get_fallback_summary().cache_hit_rate


class TestLatencies:
    def test_exact_where_it_can_be(self, metrics):
        """
        Least, most and average are exact.
        """
        for seconds in (0.5, 1.0, 4.5):
            metrics.record_latency(seconds)
        stats = metrics.get_latency_stats()

        assert (3, 0.5, 4.5, 2.0) == (stats.count, stats.min, stats.max, stats.avg)

    def test_without_any(self, metrics):
        """
        What nobody measured is None.
        """
        stats = metrics.get_latency_stats()

        assert (0, None, None, None, None) == (stats.count, stats.min, stats.avg, stats.p50, stats.p99)

    @pytest.mark.parametrize("seed", range(5))
    def test_quantiles_are_within_their_bound(self, metrics, seed):
        """
        They are off by 1/32 at most, whatever the distribution.
        """
        chance = random.Random(seed)
        draw = [
            lambda: chance.expovariate(2.0),
            lambda: chance.lognormvariate(0, 2),
            lambda: chance.uniform(0.9, 1.1),
            lambda: chance.choice([0.001, 10.0]),
            lambda: 3.0,
        ][seed]
        values = sorted(draw() for _ in range(2001))
        for value in values:
            metrics.record_latency(value)
        stats = metrics.get_latency_stats()

        for share, answer in ((0.5, stats.p50), (0.95, stats.p95), (0.99, stats.p99)):
            true = values[math.ceil(share * len(values)) - 1]
            assert true * (1 - 1 / PARTS) <= answer <= true * (1 + 1 / PARTS)

    @pytest.mark.parametrize("seconds", [0.0, SHORTEST / 2, SHORTEST, 1e-3, 1.0, 2.0**20, LONGEST, LONGEST * 4, 1e300])
    def test_extremes(self, metrics, seconds):
        """
        A single latency is every quantile, however short or long.
        """
        metrics.record_latency(seconds)
        stats = metrics.get_latency_stats()

        assert seconds == stats.p50 == stats.p99 == stats.min == stats.max

    @pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, "1s", None, True])
    def test_what_is_none(self, metrics, seconds):
        """
        What is no number of seconds from 0 on is refused, and nothing is recorded.
        """
        with pytest.raises(ValidationError, match=r"a latency must be a number of seconds from 0 on \(got "):
            metrics.record_latency(seconds)
        if seconds is not None:
            with pytest.raises(ValidationError, match="a latency must be"):
                metrics.record_success(latency=seconds)
        with pytest.raises(ValidationError, match="a delay must be"):
            metrics.record_retry(delay=seconds)

        assert (0, 0) == (metrics.get_latency_stats().count, metrics.get_full_summary().successes)

    def test_stacks_counts_are_taken_over_by_buckets(self):
        """
        Quantiles of what a stack has counted are off by a factor of two at most; so are the outermost bounds.
        """
        counters, latencies = Counters(), Latencies()
        values = [0.0, 3e-6, 0.01, 0.3, 0.31, 0.9, 2.5, 7.0, 5000.0]
        for value in values:
            counters.record_success(value)
        latencies.add_counts(counters.latency().counts)
        stats = latencies.stats()

        assert len(values) == stats.count
        assert 0.31 / 2 <= stats.p50 <= 0.31 * 2
        assert (0.0, BOUNDS[-1]) == (stats.min, stats.max)


class TestRates:
    def test_over_windows(self, metrics, clock):
        """
        The share of errors and of successes among the calls of the window.
        """
        metrics.record_error("A")
        clock.advance(100)
        for _ in range(3):
            metrics.record_success()
        metrics.record_error("A")

        assert (0.25, 0.75) == (metrics.get_error_rate(50), metrics.get_success_rate(50))
        assert pytest.approx(0.4) == metrics.get_error_rate(200)

    def test_without_calls(self, metrics):
        """
        Nothing failed.
        """
        assert (0.0, 1.0) == (metrics.get_error_rate(), metrics.get_success_rate())

    @pytest.mark.parametrize("window", [0, -1, 3601, math.nan, "60", None, True])
    def test_windows_are_checked(self, metrics, window):
        """
        What is not remembered can't be asked for.
        """
        with pytest.raises(ValidationError, match="window_seconds must be from 1 to 3600"):
            metrics.get_error_rate(window)


class TestRollingCounter:
    def test_counts_what_is_within_the_window(self):
        """
        To the second, of which the first may be missing.
        """
        counter = RollingCounter()
        for moment in (0.5, 1.5, 2.5, 3.5):
            counter.add(moment)

        assert [4, 2, 1, 0] == [counter.count(window, 3.9) for window in (10, 2, 1)] + [counter.count(1, 9.0)]
        assert 0.4 == counter.rate(10, 3.9)

    def test_a_moment_before_the_last_counts_as_that(self):
        """
        Threads may be late by a hair: nothing is lost.
        """
        counter = RollingCounter()
        counter.add(5.0)
        counter.add(4.9)

        assert 2 == counter.count(1, 5.5)

    @pytest.mark.parametrize(("since", "now", "number"), [(0, 10, 100), (0, 10, 3), (5, 5, 7), (0, 50_000, 123_456)])
    def test_spreads_evenly(self, since, now, number):
        """
        What came at unknown moments lies evenly between them; what is older than the horizon is forgotten.
        """
        counter = RollingCounter()
        counter.add_evenly(since, now, number)
        remembered = min(1.0, 3600 / (now - since + 1))

        assert pytest.approx(number * remembered, abs=1) == counter.count(3600, now)

    def test_goes_round(self):
        """
        An hour of seconds is kept; what is older is written over, also after a long pause.
        """
        counter = RollingCounter()
        for moment in range(10_000):
            counter.add(moment)
        assert 3600 == counter.count(3600, 9_999)
        counter.add(50_000.5, 7)

        assert (7, 7, 0) == (counter.count(3600, 50_000.9), counter.count(1, 50_000.9), counter.count(60, 50_100))

    def test_counts_nothing_at_first(self):
        """
        Without a count there is none.
        """
        assert 0 == RollingCounter().count(60, 1000.0)


class TestHistory:
    def test_keeps_the_last_points(self, clock):
        """
        The oldest first, of one type or of all; older ones are forgotten.
        """
        metrics = ErrorMetrics(history=3, clock=clock, now=lambda: NOON + clock.monotonic())
        for number in range(5):
            metrics.record_latency(float(number), target="shop.pay")
            clock.advance(1)
            metrics.record_error("KeyError")
        latencies = metrics.get_history("latency")
        start = latencies[0].at

        assert [2.0, 3.0, 4.0] == [point.value for point in latencies]
        assert MetricPoint(MetricType.LATENCY, start, "", 2.0, "shop.pay") == latencies[0]
        assert ["KeyError"] == [point.name for point in metrics.get_history(MetricType.ERROR, 1)]
        assert ["latency", "error"] * 3 == [point.metric_type for point in metrics.get_history()]
        assert () == metrics.get_history(limit=0)

    def test_types_and_limits_are_checked(self, metrics):
        """
        An unknown type is named, with those that there are.
        """
        with pytest.raises(ValidationError, match="there is no metric type 'weather'; there are error, success, retry"):
            metrics.get_history("weather")
        with pytest.raises(ValidationError, match="there is no metric type 3"):
            metrics.register_callback(print, 3)
        for limit in (-1, True, "5", None):
            with pytest.raises(ValidationError, match="limit must be a whole number from 0 on"):
                metrics.get_history(limit=limit)
        with pytest.raises(ValidationError, match="history must be a whole number from 0 on"):
            ErrorMetrics(history=-1)


class TestCallbacks:
    def test_are_told_of_points(self, metrics):
        """
        Of all, or of one type, until they are ended.
        """
        every, errors = [], []
        end = metrics.register_callback(every.append)
        metrics.register_callback(errors.append, "error")
        metrics.record_error("A", target="shop.pay")
        metrics.record_latency(2.0)
        end()
        metrics.record_error("B", error_code=LOST)

        assert [("error", "A"), ("latency", "")] == [(point.metric_type, point.name) for point in every]
        assert ["A", "ERR_CONN_LOST"] == [point.name for point in errors]

    def test_one_that_raises_is_reported_once(self, metrics, reports):
        """
        The call goes on, and so do the other callbacks.
        """
        seen = []

        def broken(point):
            raise RuntimeError("callback fault")

        metrics.register_callback(broken)
        metrics.register_callback(seen.append)
        for _ in range(3):
            metrics.record_error("A")

        assert 3 == len(seen) == metrics.get_error_summary().total
        (report,) = reports()
        assert "raised; this is reported once" in report

    def test_run_in_the_thread_of_the_call(self, shop):
        """
        One that blocks blocks its call, and no other thread's.
        """
        metrics, blocked, entered = ErrorMetrics(), threading.Event(), threading.Event()
        metrics.watch(shop)

        def block(point):
            if point.target == "shop.ship":
                entered.set()
                blocked.wait(30)

        metrics.register_callback(block, "error")
        slow = threading.Thread(target=lambda: fail(shop.wrap("shop.ship", gone)))
        slow.start()
        entered.wait(30)
        fail(shop.wrap("shop.stock", gone), item="cup")

        assert 2 == metrics.get_error_summary().total
        blocked.set()
        slow.join()

    def test_may_ask(self, metrics):
        """
        A callback may ask the metrics themselves.
        """
        totals = []
        metrics.register_callback(lambda point: totals.append(metrics.get_error_summary().total))
        metrics.record_error("A")

        assert [1] == totals

    @pytest.mark.parametrize("callback", [3, asyncio.sleep])
    def test_must_be_plain_functions(self, metrics, callback):
        """
        What can't be called, or would have to be awaited, is refused when it is registered.
        """
        with pytest.raises(ValidationError, match="a callback must be a plain function"):
            metrics.register_callback(callback)


class TestWatch:
    def watched(self, shop, clock):
        metrics = ErrorMetrics(clock=clock)
        metrics.watch(shop)
        return metrics

    def test_counts_successes_and_failures_once(self, shop, clock):
        """
        Successes are read from the stacks, the rest is told by events; watching twice, or listening as well, changes
        nothing.
        """
        shop.wrap("shop.ship", str)()  # before it is watched
        metrics = self.watched(shop, clock)
        metrics.watch(shop)
        shop.add_listener(metrics)
        attempts = iter([ConnectionError("gone"), None])

        def flaky():
            if error := next(attempts, None):
                raise error
            clock.advance(0.3)

        shop.wrap("shop.pay", flaky, cooperative=True, key=lambda: 1)()
        shop.wrap("shop.pay", gone, cooperative=True, key=lambda: 2)()
        for _ in range(5):
            shop.wrap("shop.ship", str)()
        summary = metrics.get_full_summary()

        assert (6, 1) == (summary.successes, summary.errors.total)
        assert ({"ConnectionError": 1}, {"ERR_CONN_LOST": 1}) == (summary.errors.by_type, summary.errors.by_code)
        assert (2, 1, 1) == (summary.retries.total, summary.retries.recovered, summary.retries.exhausted)
        assert (1, 1, 0) == (summary.fallbacks.total, summary.fallbacks.cache_misses, summary.fallbacks.cache_hits)
        assert 6 == summary.latency.count
        assert 0.3 / 2 <= summary.latency.max <= 0.3 * 2
        assert pytest.approx(1 / 7) == summary.error_rate == metrics.get_error_rate(10)

    def test_follows_breakers(self, shop, clock):
        """
        By target, and by key where the target has a breaker for each.
        """
        metrics = self.watched(shop, clock)
        fail(shop.wrap("shop.ship", gone))
        fail(shop.wrap("shop.stock", gone), item="cup")
        clock.advance(31)
        shop.wrap("shop.ship", str)()
        summary = metrics.get_full_summary().circuit_breakers

        assert {"shop.ship", "shop.stock[cup]"} == set(summary)
        assert ("half_open", 31.0, 1) == (
            summary["shop.ship"].current_state, summary["shop.ship"].total_open_seconds, summary["shop.ship"].opens,
        )  # fmt: skip
        assert 31.0 == summary["shop.stock[cup]"].total_open_seconds

    def test_spreads_successes_between_two_looks(self, shop, clock):
        """
        Nobody knows when they came, so half of them count for half of the time.
        """
        metrics = self.watched(shop, clock)
        ship = shop.wrap("shop.ship", str)
        for _ in range(100):
            ship()
        clock.advance(100)
        fail(shop.wrap("shop.stock", gone), item="cup")

        assert pytest.approx(1 / 51, abs=0.001) == metrics.get_error_rate(50)
        assert pytest.approx(1 / 101, abs=0.001) == metrics.get_error_rate(1000)

    def test_goes_on_after_reset(self, shop, clock):
        """
        Reset forgets what was, and watches on.
        """
        metrics = self.watched(shop, clock)
        shop.wrap("shop.ship", str)()
        fail(shop.wrap("shop.stock", gone), item="cup")
        metrics.reset()
        assert (0, 0) == (metrics.get_full_summary().successes, metrics.get_full_summary().errors.total)
        shop.wrap("shop.ship", str)()

        assert 1 == metrics.get_full_summary().successes

    def test_keeps_nothing_alive(self, tmp_path):
        """
        Policies that nobody uses any more are forgotten.
        """
        from pixel_llm.runtime import load_policies

        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {}}")
        metrics = ErrorMetrics()
        policies = load_policies(tmp_path, "bar", variables={})
        metrics.watch(policies)
        policies.close()
        del policies
        gc.collect()
        metrics.get_full_summary()

        assert () == metrics._watched

    @pytest.mark.parametrize("policies", [3, None, "shop"])
    def test_takes_policies_only(self, metrics, policies):
        """
        What can't be watched is refused.
        """
        with pytest.raises(ValidationError, match="takes what load_policies"):
            metrics.watch(policies)

    @pytest.mark.parametrize(
        ("text", "code", "kind"),
        [
            ("gone", LOST, "ConnectionError"),
            ("KeyError: 'x'", None, "KeyError"),
            ("JSONDecodeError: line 3", ErrorCode.ERR_API_INVALID_RESPONSE, "JSONDecodeError"),
            ("an error: of words", None, "Exception"),
            ("slow: 3 s", ErrorCode.ERR_TIMEOUT_REQUEST, "TimeoutError"),
        ],
    )
    def test_finds_the_type_of_an_error(self, metrics, text, code, kind):
        """
        By its text, which begins with it for exceptions of others, or by its code.
        """
        metrics(CallFailed("shop.pay", 1, code, text, 1.0, "why"))

        assert {kind: 1} == metrics.get_error_summary().by_type

    def test_takes_calls_that_were_refused(self, metrics, shop):
        """
        An open breaker, a limit: there was no attempt, and the call failed all the same.
        """
        metrics.watch(shop)
        ship = shop.wrap("shop.ship", gone)
        for _ in range(3):
            fail(ship)

        assert (3, {"ERR_CONN_LOST": 1, "ERR_CB_OPEN": 2}) == (
            metrics.get_error_summary().total, metrics.get_error_summary().by_code,
        )  # fmt: skip

    def test_leaves_places_out(self, metrics):
        """
        What a place of a target tells, the target tells as well.
        """
        metrics(CallFailed("lm_studio.chat[endpoint=a]", 1, LOST, "gone", 1.0, "why"))

        assert 0 == metrics.get_error_summary().total


class TestThreads:
    def test_nothing_is_lost(self, metrics):
        """
        What eight threads record at once, while others ask, is all there.
        """
        number, rounds = 8, 500
        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            done = threading.Event()

            def work(mine):
                for nth in range(rounds):
                    metrics.record_error(f"Type{mine}", error_code=LOST, attempts=2)
                    metrics.record_success(attempts=2, latency=nth / 100)
                    metrics.record_retry(delay=0.5)
                    metrics.record_fallback_activation("cache")
                    metrics.record_circuit_state_change("a", "open")

            def ask():
                while not done.is_set():
                    metrics.get_full_summary()

            asking = threading.Thread(target=ask)
            working = [threading.Thread(target=work, args=(mine,)) for mine in range(number)]
            for thread in (asking, *working):
                thread.start()
            for thread in working:
                thread.join()
            done.set()
            asking.join()
        finally:
            sys.setswitchinterval(switch)
        summary = metrics.get_full_summary()
        calls = number * rounds

        assert (calls, calls, calls) == (summary.errors.total, summary.successes, summary.latency.count)
        assert {f"Type{mine}": rounds for mine in range(number)} == summary.errors.by_type
        assert (calls, calls, calls, calls * 0.5) == (
            summary.retries.total, summary.retries.recovered, summary.retries.exhausted,
            summary.retries.total_delay_seconds,
        )  # fmt: skip
        assert (calls, calls) == (summary.fallbacks.cache_hits, summary.circuit_breakers["a"].transitions)
        assert statistics.mean(nth / 100 for nth in range(rounds)) == pytest.approx(summary.latency.avg)

    def test_a_finaliser_may_record(self, metrics):
        """
        What is recorded by the very thread that is at the books, as a finaliser may, is entered, and nothing hangs.
        """

        def question(ledger):
            metrics.record_error("Late")
            return ledger.errors

        assert 0 == metrics._books.ask(question)
        assert 1 == metrics.get_error_summary().total

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
    def test_works_after_fork(self, metrics):
        """
        A lock that another thread held when the process forked does not hold up the child.
        """
        metrics._books._lock.acquire()
        child = os.fork()
        if child == 0:
            metrics.record_error("A")
            os._exit(metrics.get_error_summary().total)
        metrics._books._lock.release()

        assert 1 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestMemory:
    def test_is_bounded(self, metrics, clock):
        """
        Once histories are full, a hundred thousand records take no more.
        """

        def record(number):
            for nth in range(number):
                metrics.record_error(f"Type{nth}", target=f"target {nth}")
                metrics.record_success(latency=nth / 1000)
                metrics.record_circuit_state_change(f"breaker {nth}", "open")
                clock.advance(0.5)

        record(10_000)
        tracemalloc.start()
        record(2_000)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        record(20_000)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

        assert after - before < 256 * 1024


class TestProcessWide:
    def test_is_one(self):
        """
        Everybody gets the same instance.
        """
        assert get_metrics() is get_metrics()
        assert isinstance(get_metrics(), ErrorMetrics)
