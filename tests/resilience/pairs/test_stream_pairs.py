"""Streams, and what each layer means for them: up to the first content they are calls, then nothing is tried again."""

from __future__ import annotations

import pytest
from pair_parts import (
    AT_ONCE,
    DEADLINE,
    FULL,
    LOST,
    MINUTE,
    ONE_SLOT,
    RATE,
    REFUSED,
    SORRY,
    TIMEOUT,
    beside,
    delays,
    injects,
    lost,
    opens_after,
    rate,
    seed_that,
    timeout,
    waits,
)
from pair_table import STREAM, pair
from streaming import TARGET, Hang

from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.events import HedgeSent, StreamAbandoned, StreamBroken
from pixel_llm.policy import TimeoutConfig
from pixel_llm.resilience import CircuitState


async def failure(stream):
    """What reading *stream* to its end fails of, and the chunks before that."""
    chunks = []
    try:
        while len(chunks) < 9:
            chunks.append(await stream.next())
    except PixelLMError as error:
        return error, chunks
    raise AssertionError(f"it gave {chunks}")


@pair("deadline", STREAM)
def test_the_deadline_covers_the_whole_stream_and_its_reader(streams):
    """
    It ends a stream between two chunks as well; that the reader took his time says nothing of the target.
    """

    async def case():
        stack = streams.stack(deadline=10.0, circuit_breaker=opens_after(1))
        stream = streams.open([1, 2, 3], stack=stack)
        await stream.next()
        await streams.pause(11.0)
        error, _ = await failure(stream)

        assert (DEADLINE, CircuitState.CLOSED) == (error.error_code, stack.breaker.state)

    streams.run(case)


@pair("fallback", STREAM)
def test_a_fallback_serves_only_before_the_first_content(streams):
    """
    Its value is a stream of one chunk. What has delivered content is broken, and is not begun anew by another.
    """

    async def case():
        before = streams.open([lost()], fallback=SORRY)

        assert ["sorry"] == await before.rest()
        assert before.stream.outcome().degraded

        error, chunks = await failure(streams.open([1, lost()], fallback=SORRY))

        assert (LOST, [1], 1) == (error.error_code, chunks, error.arrived.chunks)

    streams.run(case)


@pair("cache", STREAM)
def test_streams_are_neither_kept_nor_shared(streams):
    """
    What its first reader uses up is nobody else's: equal streams are calls of their own.
    """

    async def case():
        guarded = streams.guarded([1, 2], cache=MINUTE, key=lambda: "same")
        first, second = streams.reader(guarded()), streams.reader(guarded())

        assert [1, 1] == [await first.next(), await second.next()]
        assert [[2], [2]] == [await first.rest(), await second.rest()]
        assert [1, 2] == await streams.reader(guarded()).rest()
        assert 3 == guarded.script.calls

    streams.run(case)


@pair("retry", STREAM)
def test_retries_end_with_the_first_content(streams):
    """
    Before it a stream is tried again like any call; after it the reader has something that can't be taken back.
    """

    async def case():
        retried = streams.open([lost()], [1, 2], retry=waits(1.0))

        assert ([1, 2], 2) == (await retried.rest(), retried.script.calls)

        broken = streams.open([1, lost()], [1, 2], retry=waits(1.0))
        error, chunks = await failure(broken)

        assert (LOST, [1], 1) == (error.error_code, chunks, broken.script.calls)

    streams.run(case)


@pair("hedge", STREAM)
def test_streams_are_not_hedged(streams):
    """
    However long the first content takes, no second stream is begun beside it.
    """

    async def case():
        stream = streams.open([Hang(5.0), 1, 2], hedge=beside(1.0), cooperative=True)

        assert ([1, 2], 1) == (await stream.rest(), stream.script.calls)

    streams.run(case)

    assert [] == [event for event in streams.events if isinstance(event, HedgeSent)]


@pair("circuit_breaker", STREAM)
def test_a_broken_stream_counts_once_and_a_closed_one_not_at_all(streams):
    """
    What breaks after its first content is a failure; what its reader closes has proved nothing, and gives a trial's
    permit back.
    """

    async def case():
        stack = streams.stack(circuit_breaker=opens_after(2, 8.0))
        for expected in (CircuitState.CLOSED, CircuitState.OPEN):
            await failure(streams.open([1, lost()], stack=stack))

            assert expected is stack.breaker.state

        error, _ = await failure(streams.open([1], stack=stack))

        assert REFUSED is error.error_code

        await streams.pause(9.0)
        trial = streams.open([1, 2], stack=stack)
        await trial.next()

        assert ErrorCode.ERR_CB_HALF_OPEN is (await failure(streams.open([1], stack=stack)))[0].error_code

        await trial.close()

        assert CircuitState.HALF_OPEN is stack.breaker.state
        assert [1, 2] == await streams.open([1, 2], stack=stack).rest()
        assert CircuitState.CLOSED is stack.breaker.state

    streams.run(case)

    assert 2 == len([event for event in streams.events if isinstance(event, StreamBroken)])


@pair("rate_limit", STREAM)
def test_a_stream_is_one_start_when_it_is_first_read(streams):
    """
    However many chunks it has; one that is never read uses none.
    """

    async def case():
        stack = streams.stack(rate_limit=rate(1, 10.0))
        streams.open([1, 2, 3], stack=stack)
        read, refused = streams.open([1, 2, 3], stack=stack), streams.open([1], stack=stack)

        assert [1, 2, 3] == await read.rest()
        assert RATE is (await failure(refused))[0].error_code
        assert 1 == len(stack.admission.rate_limit.starts)

    streams.run(case)


@pair("bulkhead", STREAM)
@pytest.mark.parametrize("end", ["read", "closed", "broken"])
def test_a_stream_holds_its_slot_until_it_ends(streams, end):
    """
    Half read it still loads the server: nobody else gets its slot until it is read to its end, closed or broken.
    """

    async def case():
        stack = streams.stack(bulkhead=ONE_SLOT)
        stream = streams.open([1, lost() if end == "broken" else 2], stack=stack)
        await stream.next()

        assert FULL is (await failure(streams.open([1], stack=stack)))[0].error_code

        if end == "read":
            await stream.rest()
        elif end == "closed":
            await stream.close()
        else:
            await failure(stream)

        assert 0 == stack.admission.bulkhead.in_use
        assert [1] == await streams.open([1], stack=stack).rest()

    streams.run(case)

    assert (end == "closed") == any(isinstance(event, StreamAbandoned) for event in streams.events)


@pair("timeout", STREAM)
def test_the_timeout_bounds_the_first_content(streams):
    """
    What comes after it may take longer, as long as no single wait for the server is longer than `idle`; the pauses of
    the reader are no such wait.
    """

    async def case():
        late = streams.open([Hang(3.0), 1], timeout=timeout(2.0))

        assert TIMEOUT is (await failure(late))[0].error_code

        limits = TimeoutConfig(attempt=2.0, idle=4.0)
        stream = streams.open([1, Hang(3.0), 2, Hang(3.0), 3, Hang(5.0), 4], timeout=limits, cooperative=True)
        chunks = [await stream.next()]
        await streams.pause(20.0)
        chunks += [await stream.next(), await stream.next()]

        assert [1, 2, 3] == chunks

    streams.run(case)


@pair("chaos", STREAM)
def test_chaos_comes_before_the_first_content(streams):
    """
    An injected error is retried like that of a call; an injected delay is part of the time to the first content. No
    chunk is touched.
    """

    async def case():
        chaos = injects(LOST, 0.5, seed=seed_that(True, False, target=TARGET))
        stream = streams.open([1, 2, 3], retry=AT_ONCE, chaos=chaos)

        assert [1, 2, 3] == await stream.rest()
        assert (2, 1) == (stream.stream.outcome().attempts, stream.script.calls)

        late = streams.open([1], timeout=timeout(2.0), chaos=delays(3.0), cooperative=True)

        assert (TIMEOUT, 0) == ((await failure(late))[0].error_code, late.script.calls)

    streams.run(case)
