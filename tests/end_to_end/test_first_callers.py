"""Many callers who come before the encoder is there: it is loaded once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from staging import UNSHOWN, red

from pixel_llm import EncoderError, ErrorCode, HybridPixelLLM, PixelLMError, encoder
from pixel_llm.hybrid.turns import Turns
from pixel_llm.resilience import SYSTEM_CLOCK
from pixel_llm.resilience.limits import Limits, publish, reset_published
from pixel_llm.testing import Answer, ScriptedLMStudio


class Loads:
    """Counts the encoders that are built, and lets the first of them wait, or fail."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        self.count = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, config: Any) -> Any:
        self.count += 1
        if self.count == 1:
            self.begun.set()
            self.go_on.wait(20)
            if self.fails:
                raise EncoderError("the disk is busy", error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
        return self._build(config)


@pytest.fixture
def loads(monkeypatch) -> Loads:
    loads = Loads(encoder.build_encoder)
    monkeypatch.setattr(encoder, "build_encoder", loads)
    return loads


@pytest.fixture
def model(tmp_path, monkeypatch) -> Iterator[HybridPixelLLM]:
    monkeypatch.chdir(tmp_path)
    with (
        ScriptedLMStudio(then=Answer(text="A red picture.")) as server,
        HybridPixelLLM(
            "development", error_config={"lm_studio": {"base_url": server.base_url}, "logging": UNSHOWN}
        ) as model,
    ):
        yield model


def in_threads(count: int, function: Callable[[], Any], got: list[Any]) -> list[threading.Thread]:
    def run() -> None:
        try:
            got.append(str(function()))
        except PixelLMError as error:
            got.append(error.error_code)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


class TestFirstCallers:
    def test_threads(self, model, loads):
        """
        Eight threads find no encoder: one loads it, the others wait for that.
        """
        got: list[Any] = []
        threads = in_threads(8, lambda: model.generate(red()), got)
        assert loads.begun.wait(20)
        time.sleep(0.1)
        loads.go_on.set()
        for thread in threads:
            thread.join(30)

        assert ["A red picture."] * 8 == got
        assert 1 == loads.count

    def test_tasks(self, model, loads):
        """
        So do eight tasks, and the event loop goes on meanwhile.
        """

        async def main() -> list[Any]:
            asking = [asyncio.create_task(model.generate_async(red())) for _ in range(8)]
            while not loads.begun.is_set():
                await asyncio.sleep(0.01)
            loads.go_on.set()
            return await asyncio.gather(*asking)

        assert ["A red picture."] * 8 == [str(result) for result in asyncio.run(main())]
        assert 1 == loads.count

    def test_after_one_that_failed_the_next_tries(self, model, loads):
        """
        Who loaded in vain gets the error; who waited for that loads it then.
        """
        loads.fails = True
        got: list[Any] = []
        threads = in_threads(3, model.load, got)
        assert loads.begun.wait(20)
        loads.go_on.set()
        for thread in threads:
            thread.join(30)

        assert sorted(["None", "None", str(ErrorCode.ERR_ENC_LOAD_FAILED)]) == sorted(map(str, got))
        assert 2 == loads.count

    def test_who_has_no_time_left_does_not_wait(self, model, loads):
        """
        Each waits within its own deadline, which is not that of whoever loads.
        """
        got: list[Any] = []
        threads = in_threads(1, model.load, got)
        assert loads.begun.wait(20)
        token = publish(Limits(deadline=SYSTEM_CLOCK.monotonic() + 0.05))
        try:
            with pytest.raises(TimeoutError) as caught:
                model.load()
        finally:
            reset_published(token)
        loads.go_on.set()
        threads[0].join(30)

        assert ErrorCode.ERR_TIMEOUT_DEADLINE == caught.value.error_code
        assert ["None"] == got


class TestTurns:
    def test_attempt_that_ends_before_its_deadline(self):
        """
        An attempt that ran out of time waiting may be tried again.
        """
        turns = Turns("counting")
        now = SYSTEM_CLOCK.monotonic()
        with turns.mine():
            token = publish(Limits(deadline=now + 60.0, attempt_ends=now + 0.01))
            try:
                with (
                    pytest.raises(TimeoutError, match="another call was still busy with counting") as caught,
                    turns.mine(),
                ):
                    pass
            finally:
                reset_published(token)

        assert ErrorCode.ERR_TIMEOUT_REQUEST == caught.value.error_code

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from 3.12 on, as threads are running
    def test_forked_child_does_not_wait_for_its_parent(self):
        """
        A thread of the parent never gives its turn back in a child, which has none of its threads.
        """
        turns = Turns("counting")
        with turns.mine():
            child = os.fork()
            if child == 0:
                with turns.mine():
                    os._exit(7)
            _, status = os.waitpid(child, 0)

        assert 7 == os.waitstatus_to_exitcode(status)
