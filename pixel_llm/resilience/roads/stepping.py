"""
Awaiting within a time limit that costs nothing while nothing has to be waited for.

A coroutine's first step runs in the task that is running already, and a good many end with it: what they
need is in a cache, a buffer, a connection that is open. So a limit is only set up when a coroutine suspends.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any

from pixel_llm.resilience.limits import Published
from pixel_llm.resilience.roads.watchdog import Watch

#: What :func:`next` gives for a step that was the last one.
DONE: Any = object()

Step = Generator[Any, Any, None]


@types.coroutine
def into(box: list[Any], coroutine: Coroutine[Any, Any, Any]) -> Step:
    """
    Run *coroutine* and put its value into *box*.

    ``next(into(box, coroutine), DONE)`` takes the first step. ``coroutine.send(None)`` would do so as well,
    but gives the value by an exception, whose traceback alone costs as much as all the rest.
    """
    box.append((yield from coroutine))


@types.coroutine
def into_last(limits: Published, coroutine: Coroutine[Any, Any, Any]) -> Step:
    """The same, with the value in the place that is kept for it after *limits*: the short road saves a list."""
    limits[4] = yield from coroutine


@types.coroutine
def rest(step: Step, suspended: Any) -> Step:
    """Go on with *step*, which has taken its first step and *suspended* with it."""
    while True:
        try:
            yield suspended
        except BaseException as error:  # noqa: BLE001 - cancellation, mostly; what it means is the coroutine's business
            try:
                suspended = step.throw(error)
            except StopIteration:
                return
        else:
            yield from step
            return


@types.coroutine
def rest_within(step: Step, suspended: Any, limits: Published, cut: Callable[[Published], Exception]) -> Step:
    """
    Go on with *step* like :func:`rest`, but cancel it when *limits* end.

    Raises:
        Exception: What *cut* gives for *limits*, if it was cancelled for that and nothing else happened.
    """
    # One generator rather than three coroutines that await each other: this is the road of every call that waits.
    try:
        watch = Watch(limits)
    except BaseException:
        step.close()
        raise
    try:
        while True:
            try:
                yield suspended
            except BaseException as error:  # noqa: BLE001 - as above
                try:
                    suspended = step.throw(error)
                except StopIteration:
                    break
            else:
                yield from step
                break
    except asyncio.CancelledError as error:
        if watch.stop():
            raise cut(limits) from error
        raise
    except BaseException:
        watch.stop()
        raise
    watch.stop()


async def within(limits: Published, coroutine: Coroutine[Any, Any, Any], cut: Callable[[Published], Exception]) -> Any:
    """Await *coroutine* within *limits*; see :func:`rest_within`."""
    box: list[Any] = []
    step = into(box, coroutine)
    suspended = next(step, DONE)
    if suspended is not DONE:
        await (rest(step, suspended) if limits[0] == inf else rest_within(step, suspended, limits, cut))
    return box[0]
