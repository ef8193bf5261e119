"""The calls: what each is, how it is made, and how it ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixel_llm import CaptionResult, HybridPixelLLM

WAYS = ("generate", "stream", "generate_async", "stream_async")
#: So many pictures there are, each of other colours than the others.
PICTURES = 48


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call. Immutable.

    Attributes:
        number: Its number, from 0.
        way: One of :data:`WAYS`.
        picture: Which picture, from 0.
        served: Whether it is made of the model with fallbacks.
        leaves: Whether its stream is left after the first piece.
        cancelled_after: Seconds after which its task is cancelled, if it then still runs; None for never.
    """

    number: int
    way: str
    picture: int
    served: bool
    leaves: bool = False
    cancelled_after: float | None = None

    @property
    def is_async(self) -> bool:
        """True if it is for event loops."""
        return self.way.endswith("_async")


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a call ended: with a *result*, with an *error*, or neither, since it was left or cancelled. Immutable.

    *text* is what was read of it, *elapsed* seconds.
    """

    call: Call
    elapsed: float
    text: str = ""
    result: CaptionResult | None = None
    error: BaseException | None = None


def draw_call(seed: int, number: int) -> Call:
    """Call *number* of *seed*."""
    chance = random.Random(f"{seed}: call {number}")
    way = chance.choice(WAYS)
    return Call(
        number=number,
        way=way,
        picture=chance.randrange(PICTURES),
        served=chance.random() < 0.5,
        leaves=way.startswith("stream") and chance.random() < 0.1,
        cancelled_after=chance.random() * 0.1 if way.endswith("_async") and chance.random() < 0.1 else None,
    )


def draw_pictures(seed: int) -> list[Any]:
    """All pictures: 32×32, in four flat colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (PICTURES, 2, 2, 3), np.uint8)
    return [np.kron(colour, np.ones((16, 16, 1), np.uint8)) for colour in colours]


def make(call: Call, model: HybridPixelLLM, picture: Any) -> Ending:
    """Make a call in this thread."""
    started, pieces = time.monotonic(), list[str]()
    try:
        if call.way == "generate":
            result = model.generate(picture)
            return _ended(call, started, [result.text], result)
        with model.stream(picture) as stream:
            for piece in stream:
                pieces.append(piece)
                if call.leaves:
                    return _ended(call, started, pieces)
        return _ended(call, started, pieces, stream.result)
    except Exception as error:  # noqa: BLE001 - which one it is, is judged later
        return _ended(call, started, pieces, error=error)


async def make_async(call: Call, model: HybridPixelLLM, picture: Any) -> Ending:
    """Make a call in a task of its own, and cancel that when its time has come."""
    started, pieces = time.monotonic(), list[str]()
    task = asyncio.create_task(_run(call, model, picture, pieces, started))
    cancel = None
    if call.cancelled_after is not None:
        cancel = asyncio.get_running_loop().call_later(call.cancelled_after, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return _ended(call, started, pieces)
    except Exception as error:  # noqa: BLE001 - which one it is, is judged later
        return _ended(call, started, pieces, error=error)
    finally:
        if cancel is not None:
            cancel.cancel()


async def _run(call: Call, model: HybridPixelLLM, picture: Any, pieces: list[str], started: float) -> Ending:
    if call.way == "generate_async":
        result = await model.generate_async(picture)
        return _ended(call, started, [result.text], result)
    async with model.stream_async(picture) as stream:
        async for piece in stream:
            pieces.append(piece)
            if call.leaves:
                return _ended(call, started, pieces)
    return _ended(call, started, pieces, stream.result)


def _ended(
    call: Call,
    started: float,
    pieces: list[str],
    result: CaptionResult | None = None,
    error: BaseException | None = None,
) -> Ending:
    return Ending(call, time.monotonic() - started, "".join(pieces), result, error)


#: Gives the model that a call is made of.
ModelOf = Callable[[Call], HybridPixelLLM]
