"""Whether a stack makes concurrent callers wait for each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker

from benchmarks.measure import in_turn
from benchmarks.stacks import OURS, ours

CALL = 0.05


def _wait() -> None:
    time.sleep(CALL)


async def _wait_async() -> None:
    await asyncio.sleep(CALL)


def threads(calls: int = 32, workers: int = 16) -> dict[str, float]:
    """Seconds for 32 calls of 50 ms on 16 threads."""

    def on_threads(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with ThreadPoolExecutor(workers) as pool:
                for future in [pool.submit(call) for _ in range(calls)]:
                    future.result()

        return run

    return in_turn(
        {
            "the function itself": on_threads(_wait),
            OURS: on_threads(ours(_wait)),
            "pybreaker": on_threads(pybreaker.CircuitBreaker()(_wait)),
        }
    )


def tasks(calls: int = 1_000) -> dict[str, float]:
    """Seconds for 1,000 calls of 50 ms on one event loop."""

    def on_a_loop(call: Callable[[], Any]) -> Callable[[], object]:
        async def run() -> None:
            await asyncio.gather(*(call() for _ in range(calls)))

        return lambda: asyncio.run(run())

    candidates = {"the coroutine function itself": on_a_loop(_wait_async), OURS: on_a_loop(ours(_wait_async))}
    return in_turn(candidates, rounds=31)  # three milliseconds make the difference between met and missed
