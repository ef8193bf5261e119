"""Captions that are closed, interrupted or misused while they are read: none passes for a whole one, none runs on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from staging import red

from pixel_llm import CircuitState, HybridPixelLLM, LimitExceeded
from pixel_llm.events import StreamAbandoned
from pixel_llm.testing import Answer, BrokenStream, Drip, Hang, ScriptedLMStudio, Status

CHAT = "lm_studio.chat"
SLOW = Drip(part="chunks", interval=30.0, text="one two three")


@pytest.fixture
def server() -> Iterator[ScriptedLMStudio]:
    with ScriptedLMStudio(then=Answer(text="one two three")) as server:
        yield server


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def model(server, events, tmp_path, monkeypatch) -> Iterator[HybridPixelLLM]:
    monkeypatch.chdir(tmp_path)
    config = {"lm_studio": {"base_url": server.base_url}}
    with HybridPixelLLM("production", error_config=config, listeners=[events.append]) as model:
        model.load()
        yield model


def until(condition: Callable[[], object]) -> None:
    assert any(condition() or time.sleep(0.01) for _ in range(1000))


class Reader:
    """Reads a stream in a thread of its own."""

    def __init__(self, stream: Any) -> None:
        self.pieces: list[str] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        try:
            for piece in stream:
                self.pieces.append(piece)
        except BaseException as error:  # noqa: BLE001 - it is looked at by the test
            self.error = error

    def ends(self) -> bool:
        self._thread.join(20)
        return not self._thread.is_alive()


class TestInterrupted:
    def test_async(self, model, server):
        """
        A reader that gave up waiting can't go on as if the caption were whole, and it counts as nothing.
        """
        server.extend([SLOW])

        async def main() -> Any:
            stream = model.stream_async(red())
            assert "one" == await anext(stream)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
            with pytest.raises(RuntimeError, match="interrupted by CancelledError, which has ended it"):
                [piece async for piece in stream]
            return stream

        stream = asyncio.run(main())

        assert "one" == stream.text
        with pytest.raises(RuntimeError, match="interrupted by CancelledError"):
            stream.result  # noqa: B018 - reading it raises
        assert 0 == model.get_error_metrics()["total_requests"]

    def test_async_while_the_image_is_read(self, model, server):
        """
        So it is before anything was asked.
        """

        async def main() -> None:
            stream = model.stream_async(red())
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            with pytest.raises(RuntimeError, match="interrupted"):
                await anext(stream)

        asyncio.run(main())

        assert () == server.requests
        assert 0 == model.get_error_metrics()["total_requests"]

    def test_sync(self, model, server):
        """
        Ctrl-C in next() is the same for threads.
        """
        server.extend([SLOW])
        stream = model.stream(red())
        next(stream)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt):
            next(stream)

        with pytest.raises(RuntimeError, match="interrupted by KeyboardInterrupt"):
            list(stream)
        with pytest.raises(RuntimeError, match="interrupted by KeyboardInterrupt"):
            stream.result  # noqa: B018 - reading it raises
        assert 0 == model.get_error_metrics()["total_requests"]

    def test_failed(self, stage):
        """
        A caption that broke has no result either: asking for it says of what it failed.
        """
        made = stage(then=BrokenStream(text="A red square", chunks=2, how="truncated"))
        stream = made.model.stream(red())

        with pytest.raises(ConnectionError):
            list(stream)

        with pytest.raises(RuntimeError, match=r"failed, so it has no result: .*broke before the answer was complete"):
            stream.result  # noqa: B018 - reading it raises
        assert [] == list(stream)
        assert 1 == made.model.get_error_metrics()["failed_requests"]


class TestClosedMeanwhile:
    def test_while_the_image_is_read(self, model, server):
        """
        A stream that is closed while its image is read asks nobody; to its reader it has ended.
        """

        async def main() -> None:
            stream = model.stream_async(np.zeros((1500, 1500, 3), np.uint8))
            reading = asyncio.create_task(anext(stream, "the end"))
            await asyncio.sleep(0)
            await stream.aclose()
            assert "the end" == await reading
            assert [] == [piece async for piece in stream]

        asyncio.run(main())

        assert () == server.requests

    def test_before_the_first_piece(self, model, server, events):
        """
        Closed by another thread, a stream that waits for its server ends at once, and is not tried again.
        """
        server.extend([Hang()])
        stream = model.stream(red())
        reader = Reader(stream)
        until(lambda: server.requests)

        stream.close()

        assert reader.ends()
        assert ([], None, 1) == (reader.pieces, reader.error, len(server.requests))
        assert [] == events
        assert (0, CircuitState.CLOSED) == (
            model.policies.breaker(CHAT).failures,
            model.policies.breaker(CHAT).state,
        )
        assert 0 == model.get_error_metrics()["total_requests"]

    def test_between_two_attempts(self, tmp_path, monkeypatch):
        """
        So is one that waits for its next attempt: that is not made.
        """
        monkeypatch.chdir(tmp_path)
        retry = {"targets": {CHAT: {"retry": {"strategy": "fixed_delay", "initial_delay": "300ms", "jitter": "none"}}}}
        with ScriptedLMStudio(then=Status(status=503)) as server:
            config = {"lm_studio": {"base_url": server.base_url}, **retry}
            scheduled = threading.Event()
            with HybridPixelLLM(
                "production", error_config=config, listeners=[lambda event: "retry" in event.name and scheduled.set()]
            ) as model:
                stream = model.stream(red())
                reader = Reader(stream)
                assert scheduled.wait(20)
                stream.close()

                assert reader.ends()

            assert ([], None, 1) == (reader.pieces, reader.error, len(server.requests))

    def test_in_mid_stream(self, model, server, events):
        """
        In mid-stream, too, its reader hears of it at once, not when the server says something; nobody is to blame.
        """
        server.extend([SLOW])
        stream = model.stream(red())
        reader = Reader(stream)
        until(lambda: reader.pieces)

        stream.close()

        assert reader.ends()
        assert (["one"], None) == (reader.pieces, reader.error)
        assert ["closed"] * 2 == [event.reason for event in events if isinstance(event, StreamAbandoned)]
        assert 0 == model.policies.stats(CHAT).failed
        assert 0 == model.policies.breaker(CHAT).failures
        assert 0 == model.get_error_metrics()["total_requests"]

    def test_second_reader_of_a_closed_one(self, model, server):
        """
        Whoever comes to read one that is being closed finds that it has ended.
        """
        server.extend([SLOW])
        stream = model.stream(red())
        next(stream)
        stream._busy.acquire()  # as its reader does
        stream.close()

        assert [] == list(stream)


class TestMisuse:
    def test_second_thread(self, model, server):
        """
        A second reader gets an error of its own: the stream goes on, and counts as the success that it is.
        """
        server.extend([Drip(part="chunks", interval=0.2, text="one two three")])
        stream = model.stream(red())
        reader = Reader(stream)
        until(lambda: server.requests)

        with pytest.raises(RuntimeError, match="is being read by another thread"):
            list(stream)

        assert reader.ends()
        assert "one two three" == "".join(reader.pieces)
        metrics = model.get_error_metrics()
        assert (1, {}) == (metrics["successful_requests"], metrics["error_counts"])

    def test_second_task(self, model, server):
        """
        So does a second task, from when the image is read on; and one of another event loop.
        """
        server.extend([SLOW])

        async def main() -> Any:
            stream = model.stream_async(red())
            both = await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)
            assert "one" == both[0]
            assert "the caption is being read by another task" == str(both[1])
            reading = asyncio.create_task(anext(stream, "the end"))
            await asyncio.sleep(0)
            await stream.aclose()
            assert "the end" == await reading
            return stream

        stream = asyncio.run(main())

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="belongs to the event loop that began to read it"):
                await anext(stream)

        asyncio.run(elsewhere())
        assert {} == model.get_error_metrics()["error_counts"]

    def test_second_task_of_a_closed_one(self, model):
        """
        Whoever comes to read one that is being closed while its image is read finds that it has ended.
        """

        async def main() -> None:
            stream = model.stream_async(red())
            reading = asyncio.create_task(anext(stream, "the end"))
            await asyncio.sleep(0)
            await stream.aclose()
            assert "the end" == await anext(stream, "the end")
            assert "the end" == await reading

        asyncio.run(main())

    def test_pause_that_was_too_long(self, stage):
        """
        A consumer that let it lie for longer than `max_pause` is told so; the caption is neither success nor failure.
        """
        made = stage(
            then=Answer(text="one two three"), overrides={"targets": {CHAT: {"timeout": {"max_pause": "10s"}}}}
        )
        stream = made.model.stream(red())
        next(stream)
        made.clock.advance(11.0)

        with pytest.raises(LimitExceeded, match="it had not been read for 10 s"):
            next(stream)

        assert [] == list(stream)
        assert 0 == made.model.get_error_metrics()["total_requests"]
        with pytest.raises(RuntimeError, match="it had not been read for 10 s"):
            stream.result  # noqa: B018 - reading it raises


class TestLeftHalfRead:
    def test_at_the_end_of_the_loop(self, model, caplog):
        """
        An async caption that is left by `break` is closed with the loop, without a complaint, and no connection stays.
        """
        caplog.set_level(logging.WARNING, "asyncio")

        async def main() -> None:
            async for _ in model.stream_async(red()):
                break

        for _ in range(3):
            asyncio.run(main())

        assert [] == [record.getMessage() for record in caplog.records]

    def test_while_the_loop_goes_on(self, model, server, events):
        """
        It is closed soon after it was left, wherever that is: the breaker's permit goes back.
        """
        server.extend([SLOW, SLOW])

        async def main() -> None:
            stream = model.stream_async(red())
            await anext(stream)
            del stream
            other = model.stream_async(red())
            await anext(other)
            held = [other]
            del other
            await asyncio.to_thread(held.clear)
            for _ in range(200):
                await asyncio.sleep(0.01)
                if 4 == sum(isinstance(event, StreamAbandoned) for event in events):
                    break
            assert 1 == len(asyncio.all_tasks())

        asyncio.run(main())

        assert ["closed"] * 4 == [event.reason for event in events if isinstance(event, StreamAbandoned)]

    def test_after_the_loop(self, model, server):
        """
        One that outlives its loop was closed with it; dropping it then is harmless.
        """
        server.extend([SLOW])
        held = []

        async def main() -> None:
            held.append(model.stream_async(red()))
            await anext(held[0])

        asyncio.run(main())
        held.clear()

        assert 0 == model.get_error_metrics()["total_requests"]
