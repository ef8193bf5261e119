"""In processes of their own: what is imported, the API without an SDK, forks, and the batch processor."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

POLICY = (
    "version: 1\nlogging: {level: CRITICAL}\ntargets: {shop.pay: {retry: {strategy: immediate}, idempotent: true}}\n"
)

LOAD = """
from pixel_llm import load_policies
policies = load_policies(".", "test", variables={})
pay = policies.wrap("shop.pay", lambda: "paid")
"""

KEPT = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "test.yaml").write_text(POLICY)

    def run(*programs, check=True):
        program = "\n".join(map(textwrap.dedent, programs))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        if check:
            assert (0, "") == (done.returncode, done.stderr)
        return done

    return run


def test_nothing_is_imported(run):
    """
    The package, its policies, and calls of them import nothing of OpenTelemetry.
    """
    run(
        LOAD,
        """
        import sys
        from pixel_llm import HybridPixelLLM
        from pixel_llm.lm_studio import LMStudioClient
        pay()
        assert not [name for name in sys.modules if name.startswith(("opentelemetry", "pixel_llm.opentelemetry"))]
        """,
    )


def test_missing_package(run):
    """
    Without the package the error says which extra is needed.
    """
    done = run(
        """
        import sys
        sys.modules["opentelemetry"] = None
        import pixel_llm.opentelemetry
        """,
        check=False,
    )

    assert "pixel_llm.opentelemetry needs opentelemetry-api: pip install 'pixel-llm[opentelemetry]'" in done.stderr


def test_without_an_sdk(run):
    """
    The API alone does nothing, and harms nothing.
    """
    run(
        LOAD,
        """
        import sys
        from pixel_llm.opentelemetry import instrument, uninstrument
        instrument(policies)
        assert pay() == "paid"
        uninstrument(policies)
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
        """,
    )


def test_global_providers_that_come_later(run):
    """
    The program's own provider counts, be it set after instrumenting.
    """
    run(
        LOAD,
        KEPT,
        """
        from opentelemetry import trace
        from pixel_llm.opentelemetry import instrument
        instrument(policies)
        trace.set_tracer_provider(provider)
        pay()
        provider.force_flush()
        assert [span.name for span in exporter.get_finished_spans()] == ["shop.pay attempt", "shop.pay"]
        """,
    )


def test_global_meters_that_come_later(run):
    """
    Policies that were instrumented before the provider was set, and after, are told of alike.
    """
    run(
        LOAD,
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from pixel_llm.opentelemetry import instrument, uninstrument
        reader = InMemoryMetricReader()
        instrument(policies)
        metrics.set_meter_provider(MeterProvider([reader]))
        others = load_policies(".", "test", variables={}, overrides={"targets": {"shop.list": {}}})
        instrument(others)
        pay()
        others.wrap("shop.list", lambda: [])()
        read = reader.get_metrics_data().to_json()
        assert all(word in read for word in ("shop.pay", "shop.list", "pixel_llm.call.duration", "pixel_llm.calls"))
        uninstrument(others)
        uninstrument(policies)
        assert "pixel_llm.calls" not in reader.get_metrics_data().to_json()
        """,
    )


def test_batches(run):
    """
    The batch processor gets what the simple one gets.
    """
    run(
        LOAD,
        KEPT,
        """
        from pixel_llm.opentelemetry import instrument
        instrument(policies, tracer_provider=provider)
        for _ in range(100):
            pay()
        provider.force_flush()
        assert len(exporter.get_finished_spans()) == 200
        """,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_fork(run):
    """
    A forked child makes spans and metrics of its own calls.
    """
    done = run(
        LOAD,
        KEPT,
        """
        import os
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from pixel_llm.opentelemetry import instrument
        reader = InMemoryMetricReader()
        instrument(policies, tracer_provider=provider, meter_provider=MeterProvider([reader]))
        pay()
        provider.force_flush()
        exporter.clear()
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        pay()
        provider.force_flush()
        print(len(exporter.get_finished_spans()), "pixel_llm.calls" in reader.get_metrics_data().to_json(), flush=True)
        if not child:
            os._exit(0)
        """,
    )

    assert ["2 True"] * 2 == done.stdout.splitlines()
