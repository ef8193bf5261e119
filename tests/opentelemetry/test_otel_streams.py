"""Spans of streams: from when the first chunk is asked for until the stream ends, whichever way."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from opentelemetry import trace
from spanning import WORLDS, Spans, policies_of, wait_until

from pixel_llm import LimitExceeded, PixelLMError, TimeoutError
from pixel_llm.opentelemetry import instrument

TOLD = ("pixel_llm.attempt", "pixel_llm.left", "error.type")


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture(params=WORLDS)
def world(request):
    return request.param


@pytest.fixture
def writer(tmp_path, spans, world):
    """``writer(script, …, layers="…")``: a guarded stream; each attempt takes the next script of chunks and errors."""
    made = []

    def make(*scripts, layers="{}"):
        policies = policies_of(tmp_path, f"{{book.write: {layers}}}")
        instrument(policies, tracer_provider=spans.provider)
        made.append(policies)
        left, tracer = list(scripts), spans.provider.get_tracer("book")

        def write():
            for step in left.pop(0):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    time.sleep(step)
                    continue
                with tracer.start_as_current_span(step):
                    pass
                yield step

        async def write_async():
            for step in left.pop(0):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                with tracer.start_as_current_span(step):
                    pass
                yield step

        return policies.wrap("book.write", write if world == "sync" else write_async)

    yield make
    for policies in made:
        policies.close()


def read(world, guarded, count=None, leave="closed"):
    """Read a stream, or so many chunks of it, and leave it then."""
    if world == "sync":
        stream = guarded()
        if count is None:
            return list(stream)
        chunks = [next(stream) for _ in range(count)]
        if leave == "closed":
            stream.close()
        return chunks

    async def read_async():
        stream = guarded()
        if count is None:
            return [chunk async for chunk in stream]
        chunks = [await anext(stream) for _ in range(count)]
        if leave == "closed":
            await stream.aclose()
        del stream
        gc.collect()
        await asyncio.sleep(0.01)
        return chunks

    return asyncio.run(read_async())


class TestStreams:
    def test_to_the_end(self, writer, spans, world):
        """
        What its code begins lies inside of the attempt, and of each step of it.
        """
        assert ["a", "b"] == read(world, writer(["a", "b"]))
        assert ["book.write", "  book.write attempt attempt=1", "    a", "    b"] == spans.tree(*TOLD)
        assert trace.get_current_span() is trace.INVALID_SPAN

    def test_not_begun(self, writer, spans, world):
        """
        A stream that nobody reads is no call.
        """
        stream = writer(["a"])()
        assert [] == spans.all()
        del stream

    def test_retried_before_its_content(self, writer, spans, world):
        """
        Attempts without content are attempts of the one call.
        """
        guarded = writer([ConnectionResetError()], ["a"], layers="{retry: {strategy: immediate}, idempotent: true}")

        assert ["a"] == read(world, guarded)
        assert [
            "book.write",
            "  book.write attempt attempt=1 type=ERR_CONN_LOST ERROR",
            "  book.write attempt attempt=2",
            "    a",
        ] == spans.tree(*TOLD)

    def test_broken(self, writer, spans, world):
        """
        A stream that breaks is an error, of the attempt and of the call, which is told that it broke.
        """
        with pytest.raises(ConnectionResetError):
            read(world, writer(["a", ConnectionResetError()]))

        assert [
            "book.write type=ERR_CONN_LOST ERROR",
            "  book.write attempt attempt=1 type=ERR_CONN_LOST ERROR",
            "    a",
        ] == spans.tree(*TOLD)
        (broken,) = [event for event in spans.one("book.write").events if event.name == "stream_broken"]
        assert 1 == broken.attributes["pixel_llm.chunks"]

    @pytest.mark.parametrize("leave", ["closed", "dropped"])
    def test_left(self, writer, spans, world, leave, caplog):
        """
        A stream that its reader leaves is no error, whether it is closed or dropped.
        """
        assert ["a"] == read(world, writer(["a", "b"]), 1, leave)
        gc.collect()
        spans.wait_for(3)

        assert ["book.write left=closed", "  book.write attempt attempt=1 left=closed", "    a"] == spans.tree(*TOLD)
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert [] == caplog.records

    def test_paused_for_too_long(self, writer, spans, world):
        """
        One that was closed because its reader let it lie is no error either, also if the reader comes back to it.
        """
        guarded = writer(["a", "b"], layers="{timeout: {max_pause: 20ms}}")
        if world == "sync":
            stream = guarded()
            assert "a" == next(stream)
            spans.wait_for(3)
            with pytest.raises(LimitExceeded):
                next(stream)
        else:

            async def come_back():
                stream = guarded()
                assert "a" == await anext(stream)
                while not spans.named("book.write"):
                    await asyncio.sleep(0.01)
                with pytest.raises(LimitExceeded):
                    await anext(stream)

            asyncio.run(come_back())
        spans.wait_for(3)

        assert ["book.write left=paused", "  book.write attempt attempt=1 left=closed", "    a"] == spans.tree(*TOLD)

    def test_pause_of_another_s_stream(self, tmp_path, spans):
        """
        Whoever goes on with a stream that was closed meanwhile has failed of that.
        """
        targets = "{book.write: {timeout: {max_pause: 20ms}}, book.print: {}}"
        with policies_of(tmp_path, targets) as policies:
            instrument(policies, tracer_provider=spans.provider)

            @policies.guard("book.write")
            def write():
                yield from "ab"

            @policies.guard("book.print")
            def print_it():
                yield from write()

            stream = print_it()
            next(stream)
            spans.wait_for(2)
            with pytest.raises(LimitExceeded):
                next(stream)

        assert [
            "book.print type=ERR_LIMIT_BULKHEAD ERROR",
            "  book.print attempt type=ERR_LIMIT_BULKHEAD ERROR",
            "    book.write left=paused",
            "      book.write attempt left=closed",
        ] == spans.tree("pixel_llm.left", "error.type")
        assert 1 == policies.stats("book.print").failed

    def test_out_of_time(self, writer, spans, world):
        """
        One that is silent for too long is an error of the type timeout.
        """
        guarded = writer(["a", 0.4, "b"], layers="{timeout: {first_token: 10s, idle: 50ms}}")
        with pytest.raises(TimeoutError):
            read(world, guarded)
        wait_until(lambda: spans.named("book.write attempt"))

        assert [
            "book.write type=ERR_TIMEOUT_IDLE ERROR",
            "  book.write attempt attempt=1 type=timeout ERROR",
            "    a",
        ] == spans.tree(*TOLD)[:3]

    def test_fallback(self, writer, spans, world):
        """
        A stream that a fallback serves is degraded.
        """
        guarded = writer([ConnectionResetError()], layers="{fallback: [{default_value: later}]}")

        assert ["later"] == read(world, guarded)
        assert [
            "book.write served_by=default_value degraded=True type=ERR_CONN_LOST",
            "  book.write attempt type=ERR_CONN_LOST ERROR",
        ] == spans.tree("pixel_llm.served_by", "pixel_llm.degraded", "error.type")

    def test_refused(self, writer, spans, world):
        """
        One that is refused has no attempt.
        """
        guarded = writer([ConnectionResetError()], layers="{circuit_breaker: {failure_threshold: 1}}")
        for _ in range(2):
            with pytest.raises((OSError, PixelLMError)):
                read(world, guarded)

        assert ["book.write type=ERR_CB_OPEN ERROR"] == spans.tree(*TOLD)[2:]
