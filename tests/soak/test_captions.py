"""Some hundred captions through a server that fails at random (``make soak-captions``: 10,000), and their judges."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import threading
from collections import Counter
from typing import Any

import pytest

from pixel_llm import CaptionResult
from pixel_llm.errors import APIError, ErrorCode, ValidationError
from pixel_llm.testing import Answer
from soak.captions.__main__ import describe
from soak.captions.calls import Call, Ending, draw_call
from soak.captions.faults import draw_steps
from soak.captions.holding import Tally, complain
from soak.captions.residue import Eavesdropper, Memory, complain_of_memory
from soak.captions.running import run

CALL = Call(number=0, way="generate", picture=0, served=False)
CAPTION = "A picture in red and blue."
GOOD = CaptionResult(text=CAPTION, served_by="lm_studio", degraded=False, attempts=1, elapsed=0.1)
LOST = APIError("gone", error_code=ErrorCode.ERR_API_SERVER_ERROR)


def test_every_call_is_accounted_for():
    """Calls in all four ways end with a caption or an error, counted once, and leave nothing behind."""
    verdict = run(300, seed=7, shift=150)

    assert () == verdict.complaints
    assert 300 == sum(verdict.endings.values())
    assert verdict.endings["served by lm_studio"]
    assert "every call is accounted for" in describe(verdict, 7)


def test_same_seed_same_weather():
    """The same seed draws the same faults and calls, most requests being answered."""
    steps = list(draw_steps(1, 2000))

    assert steps == list(draw_steps(1, 2000)) != list(draw_steps(2, 2000))
    assert 0.6 < steps.count(Answer()) / len(steps) < 0.85
    assert draw_call(1, 5) == draw_call(1, 5)


class TestComplain:
    def test_good_call(self):
        """The caption of its picture in time is what a call should get; so is an error of the server."""
        assert [] == complain(Ending(CALL, 0.1, CAPTION, GOOD), [CAPTION])
        assert [] == complain(Ending(CALL, 0.1, error=LOST), [CAPTION])
        assert [] == complain(Ending(CALL, 0.1, "A picture", error=LOST), [CAPTION])

    def test_served_call(self):
        """A fallback may serve where there is one: the picture's own caption, or the default."""
        call = dataclasses.replace(CALL, served=True)
        for served_by, text in (("cache", CAPTION), ("default_value", "No caption.")):
            result = dataclasses.replace(GOOD, text=text, served_by=served_by, degraded=True, error=LOST)

            assert [] == complain(Ending(call, 0.1, text, result), [CAPTION])

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            pytest.param({"elapsed": 60.0}, "took 60.0 s", id="late"),
            pytest.param({"text": "A picture"}, "its pieces are", id="pieces are missing"),
            pytest.param({"result": dataclasses.replace(GOOD, text="Ha"), "text": "Ha"}, "served 'Ha'", id="another's"),
            pytest.param({"result": dataclasses.replace(GOOD, degraded=True)}, "is degraded", id="no fallback"),
            pytest.param({"result": None, "error": LOST, "text": "Ha"}, "not the beginning", id="another's pieces"),
            pytest.param({"result": None}, "ended with nothing", id="lost"),
            pytest.param({"result": None, "error": OSError("x")}, "its error is OSError", id="unmapped"),
            pytest.param({"result": None, "error": ValidationError("x")}, "its error is", id="of no server"),
        ],
    )
    def test_what_must_not_be(self, change: dict[str, Any], complaint: str):
        """Each thing that must not be is noticed."""
        ending = dataclasses.replace(Ending(CALL, 0.1, CAPTION, GOOD), **change)

        assert any(complaint in found for found in complain(ending, [CAPTION]))


class TestTally:
    def test_counts_that_agree(self):
        """The model's counts are compared with what its callers saw."""
        tally = Tally([CAPTION])
        tally.add([CALL], [Ending(CALL, 0.1, CAPTION, GOOD)])
        metrics = {
            "total_requests": 1,
            "successful_requests": 1,
            "degraded_requests": 0,
            "failed_requests": 0,
            "error_counts": {},
        }
        tally.compare(False, metrics)

        assert [] == tally.complaints
        tally.compare(False, metrics | {"total_requests": 2})
        assert "without fallbacks counts" in tally.complaints[0]

    def test_lost_and_doubled(self):
        """A call that never ends, or twice, is noticed."""
        other = dataclasses.replace(CALL, number=1)
        ending = Ending(CALL, 0.1, CAPTION, GOOD)
        tally = Tally([CAPTION])
        tally.add([CALL, other], [ending, ending])

        assert [f"{CALL} ended 2 times", f"{other} ended 0 times"] == tally.complaints
        assert Counter({"served by lm_studio": 2}) == tally.endings


def test_memory_that_grows():
    """Growth in the second half is noticed, in objects and in bytes; what it takes to warm up is not."""
    calm = [Memory(0, 0), Memory(1000, 2**20), Memory(1000, 2**20), Memory(2000, 2**21)]

    assert [] == complain_of_memory(calm)
    assert 2 == len(complain_of_memory([*calm[:3], Memory(10_000, 2**25)]))


def test_what_no_caller_hears():
    """What goes wrong in logs, destructors, threads and loops is heard."""
    ear = Eavesdropper()

    class Breaks:
        def __del__(self) -> None:
            raise RuntimeError("in a destructor")

    def fail() -> None:
        raise RuntimeError("in a thread")

    async def forget() -> None:
        loop = asyncio.get_running_loop()
        ear.listen_to(loop)
        loop.call_soon(fail)
        await asyncio.sleep(0)

    with ear.listening():
        Breaks()
        gc.collect()
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        asyncio.run(forget())
        logging.getLogger("pixel_llm.hybrid").error("in the log")

    assert ["unraisable", "in", "the", "logged"] == [text.replace(":", "").split()[0] for text in ear.heard]
