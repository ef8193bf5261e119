"""Streams over real sockets: httpx against the scripted LM Studio."""

import asyncio

import httpx
import pytest

from pixel_llm.policy import (
    BulkheadConfig,
    CircuitBreakerConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import Answer, Drip, Hang, Reset, ScriptedLMStudio

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def make_stack(idle=5.0, first_token=5.0, slots=1):
    return Stack(
        "chat.stream",
        TargetPolicy(
            retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3),
            timeout=TimeoutConfig(first_token=first_token, idle=idle),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=9),
            bulkhead=BulkheadConfig(max_concurrent=slots, max_waiting=0),
        ),
    )


def ask(url):
    try:
        with (
            httpx.Client(trust_env=False, timeout=30) as client,
            client.stream("POST", f"{url}/chat/completions", json=REQUEST) as response,
        ):
            yield from response.iter_raw()
    except httpx.TransportError as error:
        raise ConnectionError(str(error)) from error


async def ask_async(url):
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as client,
            client.stream("POST", f"{url}/chat/completions", json=REQUEST) as response,
        ):
            async for chunk in response.aiter_raw():
                yield chunk
    except httpx.TransportError as error:
        raise ConnectionError(str(error)) from error


def read_sync(stack, url):
    return list(guard(stack, ask)(url))


def read_async(stack, url):
    async def main():
        chunks = [chunk async for chunk in guard(stack, ask_async)(url)]
        assert {asyncio.current_task()} == asyncio.all_tasks()
        return chunks

    return asyncio.run(main())


@pytest.fixture(params=[read_sync, read_async])
def read(request):
    return request.param


class TestSockets:
    def test_a_connection_that_is_reset_before_the_first_content(self, read):
        """
        The next attempt delivers, chunk by chunk.
        """
        with ScriptedLMStudio([Reset(), Drip(text="A cat.", interval=0.001)]) as server:
            stack = make_stack()
            chunks = read(stack, server.base_url)

            assert len(chunks) > 1
            assert b"A cat." in b"".join(chunks)
            assert 2 == len(server.requests)
            assert (1, 0) == (stack.stats().succeeded, stack.admission.bulkhead.in_use)

    def test_a_server_that_says_nothing(self, read):
        """
        Each attempt has the time to the first content. A thread that is left behind keeps its slot.
        """
        with ScriptedLMStudio([Hang(), Answer(text="A cat.")]) as server:
            chunks = read(make_stack(first_token=0.2, slots=2), server.base_url)

            assert b"A cat." in b"".join(chunks)
            assert 2 == len(server.requests)

    def test_a_server_that_stops_in_the_middle(self, read):
        """
        A gap that is longer than `idle` breaks the stream: it is not asked for again.
        """
        with ScriptedLMStudio([Drip(text="A cat.", interval=1.5)]) as server:
            stack = make_stack(idle=0.1)
            with pytest.raises(TimeoutError, match="nothing came for") as caught:
                read(stack, server.base_url)

            assert caught.value.arrived.chunks >= 1
            assert (1, 1) == (len(server.requests), stack.breaker.failures)
