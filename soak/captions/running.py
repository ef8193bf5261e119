"""The run: shifts of calls by threads and a loop, and the verdict."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pixel_llm import HybridPixelLLM
from pixel_llm.testing import ScriptedLMStudio
from soak.captions.calls import Call, Ending, draw_call, draw_pictures, make, make_async
from soak.captions.holding import Tally
from soak.captions.policies import policy
from soak.captions.residue import (
    Eavesdropper,
    Memory,
    busy_threads,
    complain_of_memory,
    complain_of_tasks,
    open_sockets,
    settle,
)
from soak.captions.server import running

_THREADS = 6
_TASKS = 12
_SHIFT = 500
#: A shift that takes longer, in seconds a call, hangs: where every thread is is printed then.
_LONGEST = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What came of a run. Immutable.

    Attributes:
        calls: How many were made.
        seconds: How long it took.
        endings: How many ended how.
        memory: What was in use after each shift.
        complaints: What must not be.
    """

    calls: int
    seconds: float
    endings: Counter[str]
    memory: tuple[Memory, ...]
    complaints: tuple[str, ...]


def run(count: int, seed: int, *, shift: int = _SHIFT, progress: Callable[[int], object] | None = None) -> Verdict:
    """Make *count* calls of *seed*, *shift* at a time; *progress* is told how many there were."""
    pictures = draw_pictures(seed)
    tally, ear, memory = Tally(expected_captions(pictures)), Eavesdropper(), list[Memory]()
    started = time.monotonic()
    # More steps than requests: an attempt of a call takes one, and there are three at most.
    with running(seed, 3 * count) as base_url, ear.listening():
        sockets, threads = open_sockets(), busy_threads()
        with contextlib.ExitStack() as exits:
            models = {
                served: exits.enter_context(HybridPixelLLM("basic", error_config=policy(base_url, fallback=served)))
                for served in (True, False)
            }
            for model in models.values():
                model.load()
            for first in range(0, count, shift):
                calls = [draw_call(seed, number) for number in range(first, min(first + shift, count))]
                faulthandler.dump_traceback_later(60 + _LONGEST * len(calls), exit=True)
                tally.add(calls, _work(calls, models, pictures, ear, tally))
                faulthandler.cancel_dump_traceback_later()
                memory.append(Memory.now())
                if progress is not None:
                    progress(first + len(calls))
            for served, model in models.items():
                tally.compare(served, model.get_error_metrics())
        left = settle(open_sockets, sockets) - sockets, settle(busy_threads, threads) - threads
    names = "sockets", "threads"
    residue = [f"{number} {name} are left" for number, name in zip(left, names, strict=True) if number > 0]
    complaints = [*tally.complaints, *residue, *complain_of_memory(memory), *ear.heard]
    return Verdict(count, time.monotonic() - started, tally.endings, tuple(memory), tuple(complaints))


def expected_captions(pictures: Sequence[Any]) -> list[str]:
    """What the scripted LM Studio says of each picture when all is well."""
    with ScriptedLMStudio() as server:
        config = {"lm_studio": {"base_url": server.base_url}}
        with HybridPixelLLM("basic", error_config=config) as model:
            "".join(
                model.stream(pictures[0])
            )  # what the process has one of, such as a thread that keeps time, is there
            return [item.unwrap().text for item in model.generate_batch(pictures)]


def _work(
    calls: Sequence[Call],
    models: dict[bool, HybridPixelLLM],
    pictures: Sequence[Any],
    ear: Eavesdropper,
    tally: Tally,
) -> list[Ending]:
    """One shift: the sync calls on threads, the others on a loop of their own, all at once."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        futures = [
            pool.submit(make, call, models[call.served], pictures[call.picture]) for call in calls if not call.is_async
        ]
        on_loop = [partial(make_async, c, models[c.served], pictures[c.picture]) for c in calls if c.is_async]
        endings, complaints = asyncio.run(_on_loop(on_loop, ear))
        tally.complaints += complaints
        return [*endings, *(future.result() for future in futures)]


async def _on_loop(calls: Sequence[Callable[[], Any]], ear: Eavesdropper) -> tuple[list[Ending], list[str]]:
    ear.listen_to(asyncio.get_running_loop())
    slots, endings = asyncio.Semaphore(_TASKS), list[Ending]()

    async def one(call: Callable[[], Any]) -> None:
        async with slots:
            endings.append(await call())

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))
    return endings, await complain_of_tasks()
