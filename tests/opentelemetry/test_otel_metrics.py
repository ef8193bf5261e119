"""Metrics: histograms of calls and chats, and what the stacks know."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from spanning import WORLDS, Failing, Spans, call, in_world, policies_of

from pixel_llm import HybridPixelLLM, LimitExceeded, PixelLMError, Policies
from pixel_llm.monitoring.exposition.families import DURATION, FAMILIES, POLICY_FAMILIES, Kind
from pixel_llm.opentelemetry import instrument, uninstrument
from pixel_llm.opentelemetry.instruments import NAMES
from pixel_llm.testing import Answer, BrokenStream, ScriptedLMStudio, Status, VirtualClock

MODEL = "qwen2.5-vl-7b-instruct"
SHOP = (
    "{shop.pay: {retry: {strategy: immediate, max_attempts: 2, budget: {}}, idempotent: true, deadline: 10s, "
    "timeout: 5s, circuit_breaker: {}, bulkhead: {max_concurrent: 4}, rate_limit: {max_calls: 100, period: 1s}, "
    "cache: {ttl: 1m}, fallback: [{default_value: later}]}}"
)


class Meters:
    """A provider of meters, and what a reader of it gets."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def read(self):
        """The points of all metrics by name, each a pair of attributes and number or histogram point."""
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        self.units = {metric.name: metric.unit for metric in metrics}
        return {
            metric.name: [(dict(point.attributes), getattr(point, "value", point)) for point in metric.data.data_points]
            for metric in metrics
        }

    def value(self, name, **attributes):
        (value,) = [value for found, value in self.read()[name] if attributes.items() <= found.items()]
        return value


@pytest.fixture
def meters():
    meters = Meters()
    yield meters
    meters.provider.shutdown()


@pytest.fixture
def seen(tmp_path, meters):
    made = []

    def make(targets, **options):
        policies = policies_of(tmp_path, targets, **options)
        instrument(policies, tracer_provider=Spans().provider, meter_provider=meters.provider)
        made.append(policies)
        return policies

    yield make
    for policies in made:
        policies.close()


class TestNames:
    def test_every_family_has_an_instrument(self):
        """
        Each family of the exposition has a name here, but for the durations, which are recorded one by one.
        """
        assert {family.name for family in (*POLICY_FAMILIES, *FAMILIES)} - {DURATION.name} == set(NAMES)

    @pytest.mark.parametrize("family", [one for one in (*POLICY_FAMILIES, *FAMILIES) if one is not DURATION])
    def test_prometheus_has_the_same_name(self, family):
        """
        What an exporter for Prometheus makes of name and unit is the name of our own exposition.
        """
        name, unit = NAMES[family.name]
        ends = {"s": "_seconds", "1": "_ratio"}.get(unit, "") + ("_total" if family.kind is Kind.COUNTER else "")

        assert family.name == name.replace(".", "_") + ends


class TestSnapshot:
    def test_counters(self, seen, meters):
        """
        What the stacks have counted, with profile and target.
        """
        policies = seen(SHOP)
        pay = policies.wrap("shop.pay", Failing(ConnectionResetError(), ConnectionResetError()), key=lambda: 1)
        assert ["later", "done", "done"] == [pay() for _ in range(3)]

        assert [
            ({"profile": "test", "target": "shop.pay", "outcome": "succeeded"}, 2),
            ({"profile": "test", "target": "shop.pay", "outcome": "failed"}, 1),
        ] == [point for point in meters.read()["pixel_llm.calls"] if point[0]["target"] == "shop.pay"]
        assert 1 == meters.value("pixel_llm.errors", error_code="ERR_CONN_LOST")
        assert 1 == meters.value("pixel_llm.fallbacks", step="default_value")
        assert 1 == meters.value("pixel_llm.circuit.state", state="closed")
        assert 4 == meters.value("pixel_llm.bulkhead.limit", target="shop.pay")
        assert 10 == meters.value("pixel_llm.deadline", target="shop.pay")
        assert ("{call}", "s", "1") == tuple(
            meters.units[name] for name in ("pixel_llm.calls", "pixel_llm.deadline", "pixel_llm.retry_budget")
        )

    def test_one_look_a_collection(self, seen, meters, monkeypatch):
        """
        All instruments share one snapshot, and each collection has its own.
        """
        seen(SHOP)
        looks, snapshot = [], Policies.snapshot
        monkeypatch.setattr(Policies, "snapshot", lambda self: (looks.append(None), snapshot(self))[1])

        meters.read()
        assert 1 == len(looks)
        meters.read()
        assert 2 == len(looks)

    def test_uninstrument(self, seen, meters):
        """
        Then nothing is told of them.
        """
        policies = seen(SHOP)
        assert "pixel_llm.calls" in meters.read()
        uninstrument(policies)
        policies.wrap("shop.pay", Failing(), key=lambda: 1)()

        assert {} == meters.read()

    def test_again(self, seen, meters):
        """
        Instrumented again, by the same provider or another one, they are told of once.
        """
        policies = seen(SHOP)
        instrument(policies, tracer_provider=Spans().provider, meter_provider=meters.provider)
        policies.wrap("shop.pay", Failing(), key=lambda: 1)()
        assert 1 == meters.value("pixel_llm.calls", target="shop.pay", outcome="succeeded")
        assert 1 == meters.value("pixel_llm.call.duration").count
        others = Meters()
        instrument(policies, tracer_provider=Spans().provider, meter_provider=others.provider)

        assert 1 == others.value("pixel_llm.calls", target="shop.pay", outcome="succeeded")
        assert "pixel_llm.calls" not in meters.read()

    def test_several(self, seen, meters, tmp_path):
        """
        Several policies of one profile are summed up, as everywhere.
        """
        for _ in range(2):
            seen(SHOP).wrap("shop.pay", Failing(), key=lambda: 1)()

        assert 2 == meters.value("pixel_llm.calls", target="shop.pay", outcome="succeeded")

    def test_not_kept_alive(self, seen, meters, tmp_path):
        """
        Policies that nobody has any more are gone, with their metrics.
        """
        policies = policies_of(tmp_path, SHOP)
        instrument(policies, tracer_provider=Spans().provider, meter_provider=meters.provider)
        meters.read()
        policies.close()
        gone = weakref.ref(policies)
        del policies
        gc.collect()

        meters.read()  # the look that was taken is over
        assert gone() is None
        assert {} == meters.read()


@pytest.mark.parametrize("world", WORLDS)
class TestDurations:
    def test_outcomes(self, seen, meters, world):
        """
        How long calls took, by what became of them.
        """
        policies = seen("{shop.pay: {}, shop.list: {fallback: [{default_value: none}]}}")
        pay = policies.wrap("shop.pay", in_world(world, Failing(LookupError())))
        with pytest.raises(LookupError):
            call(world, pay)
        call(world, pay)
        call(world, policies.wrap("shop.list", in_world(world, Failing(ConnectionResetError()))))

        points = [(attributes, point.count) for attributes, point in meters.read()["pixel_llm.call.duration"]]
        assert [
            ({"profile": "test", "target": "shop.pay", "outcome": "failed", "error.type": "LookupError"}, 1),
            ({"profile": "test", "target": "shop.pay", "outcome": "succeeded"}, 1),
            ({"profile": "test", "target": "shop.list", "outcome": "degraded", "error.type": "ERR_CONN_LOST"}, 1),
        ] == points
        bounds = meters.value("pixel_llm.call.duration", outcome="succeeded").explicit_bounds
        assert (0.001, 20) == (pytest.approx(bounds[0], rel=0.1), len(bounds))


def test_cancelled(seen, meters):
    """
    A call that was left is neither a success nor a failure.
    """
    policies = seen("{shop.pay: {}}")

    async def cancel():
        task = asyncio.ensure_future(policies.wrap("shop.pay", asyncio.sleep)(10))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancel())

    assert 1 == meters.value("pixel_llm.call.duration", outcome="left").count


def test_paused_for_too_long(seen, meters):
    """
    Nor is a stream that was closed because its reader let it lie: it is counted as the stacks count it.
    """
    clock = VirtualClock()
    policies = seen("{shop.tell: {timeout: {max_pause: 2s}}}", clock=clock)

    @policies.guard("shop.tell")
    def tell():
        yield from "ab"

    stream = tell()
    next(stream)
    clock.advance(2.4)
    with pytest.raises(LimitExceeded):
        next(stream)

    assert [{"profile": "test", "target": "shop.tell", "outcome": "left"}] == [
        attributes for attributes, _ in meters.read()["pixel_llm.call.duration"]
    ]
    assert 0 == policies.stats("shop.tell").failed


class TestChats:
    @pytest.fixture
    def model_of(self, meters):
        models = []

        def make(server, **target):
            config = {
                "lm_studio": {"vision": "image", "model": MODEL, "base_url": server.base_url},
                "targets": {"lm_studio.chat": {"retry": None, **target}, "pixel_llm.generate": {"fallback": None}},
            }
            model = HybridPixelLLM("basic", error_config=config)
            models.append(model)
            instrument(model.policies, tracer_provider=Spans().provider, meter_provider=meters.provider)
            return model

        yield make
        for model in models:
            model.close()

    @pytest.fixture
    def picture(self):
        np = pytest.importorskip("numpy")
        return np.full((8, 8, 3), 200, np.uint8)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_operation_and_tokens(self, model_of, meters, picture, streamed):
        """
        Chats have the metrics of the GenAI conventions.
        """
        with ScriptedLMStudio(then=Answer(text="A red square.", model="other")) as server:
            model = model_of(server)
            if streamed:
                list(model.stream(picture))
            else:
                model.generate(picture)
        read = meters.read()

        basics = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "lm_studio",
            "gen_ai.request.model": MODEL,
            "gen_ai.response.model": "other",
            "server.address": "127.0.0.1",
            "server.port": int(server.base_url.split(":")[-1].partition("/")[0]),
        }
        ((attributes, point),) = read["gen_ai.client.operation.duration"]
        assert (basics, 1, 0.01, 81.92) == (
            attributes,
            point.count,
            point.explicit_bounds[0],
            point.explicit_bounds[-1],
        )
        tokens = {point[0].pop("gen_ai.token.type"): point for point in read["gen_ai.client.token.usage"]}
        assert {"input": basics, "output": basics} == {kind: attributes for kind, (attributes, _) in tokens.items()}
        assert (3, 1, 67108864) == (
            tokens["output"][1].sum,
            tokens["output"][1].count,
            tokens["output"][1].explicit_bounds[-1],
        )
        assert ("s", "{token}") == (
            meters.units["gen_ai.client.operation.duration"],
            meters.units["gen_ai.client.token.usage"],
        )

    def test_failed(self, model_of, meters, picture):
        """
        One that failed says of what, and has used nothing that is known.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server, pytest.raises(PixelLMError):
            model_of(server).generate(picture)

        assert 1 == meters.value("gen_ai.client.operation.duration", **{"error.type": "ERR_API_SERVER_ERROR"}).count
        assert "gen_ai.client.token.usage" not in meters.read()

    def test_broken_stream(self, model_of, meters, picture):
        """
        So does a stream that broke.
        """
        broken = BrokenStream(text="A red square", chunks=2, how="truncated")
        with ScriptedLMStudio(then=broken) as server, pytest.raises(PixelLMError):
            list(model_of(server).stream(picture))

        assert 1 == meters.value("gen_ai.client.operation.duration", **{"error.type": "ERR_CONN_LOST"}).count

    def test_from_the_cache(self, model_of, meters, picture):
        """
        What the cache serves is no operation, and has used no tokens.
        """
        with ScriptedLMStudio(then=Answer(text="A red square.")) as server:
            model = model_of(server, cache={"ttl": "1m"})
            for _ in range(3):
                model.generate(picture)

        assert 1 == meters.value("gen_ai.client.operation.duration").count
        assert 1 == meters.value("gen_ai.client.token.usage", **{"gen_ai.token.type": "output"}).count
        assert 3 == meters.value("pixel_llm.call.duration", target="lm_studio.chat").count
