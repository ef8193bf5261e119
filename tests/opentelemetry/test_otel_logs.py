"""Log records that say in which span they were written."""

from __future__ import annotations

import json

import pytest
from spanning import WORLDS, Spans, call, in_world

from pixel_llm import LogContext, get_logger, load_policies
from pixel_llm.monitoring import current_context
from pixel_llm.opentelemetry import instrument, uninstrument


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture
def policies(tmp_path, spans):
    log = f"{{level: DEBUG, file: {tmp_path}/log.jsonl}}"
    (tmp_path / "test.yaml").write_text(f"version: 1\nlogging: {log}\ntargets: {{shop.pay: {{fallback: [none]}}}}\n")
    with load_policies(tmp_path, "test", variables={}) as policies:
        instrument(policies, tracer_provider=spans.provider)
        yield policies


def records(policies, tmp_path):
    assert policies.log.flush(30)
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("world", WORLDS)
def test_events_and_records_of_the_program(policies, spans, tmp_path, world):
    """
    Records of events have the ids of the call's span, those that the callable writes the ids of the attempt's.
    """
    policies.activate()

    def fail():
        get_logger("shop").info("paying")
        raise ConnectionResetError

    call(world, policies.wrap("shop.pay", in_world(world, fail)))

    paying, *events = records(policies, tmp_path)
    attempt, paid = spans.one("shop.pay attempt").context, spans.one("shop.pay").context
    assert (f"{attempt.trace_id:032x}", f"{attempt.span_id:016x}") == (
        paying["context"]["trace_id"],
        paying["context"]["span_id"],
    )
    assert {(f"{paid.trace_id:032x}", f"{paid.span_id:016x}")} == {
        (record["context"]["trace_id"], record["context"]["span_id"]) for record in events
    }
    assert {"attempt_failed", "call_failed", "fallback_served"} == {record["message"] for record in events}


def test_outside_of_spans(policies):
    """
    Where there is no span there are no ids.
    """
    assert {} == current_context()


def test_the_programs_own_fields_win(policies, spans):
    """
    A field that the program has set stays as it is.
    """
    with spans.provider.get_tracer("shop").start_as_current_span("request"), LogContext(trace_id="mine"):
        assert "mine" == current_context()["trace_id"]


def test_not_instrumented(policies, spans):
    """
    When nothing is instrumented any more, records have no ids.
    """
    with spans.provider.get_tracer("shop").start_as_current_span("request"):
        assert {"trace_id", "span_id"} == set(current_context())
        uninstrument(policies)
        assert {} == current_context()
