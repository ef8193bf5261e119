"""One schedule, from playing it to a verdict."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import traceback
from collections.abc import Callable, Iterator

from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.threads.pool import WORKERS
from soak.calm import calm
from soak.invariants import violations
from soak.loop import Stuck
from soak.playing import Play
from soak.primitives import replaced
from soak.schedule import Schedule
from soak.trials import breakers_watched


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """Within, schedules can be judged. No garbage is collected during one, since chance would say when."""
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()  # what is there already need not be looked at each time
    try:
        with replaced(), breakers_watched():
            yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def judge(schedule: Schedule) -> list[str]:
    """Play *schedule* and give what should not have happened, in words; nothing is the good answer."""
    return judged(schedule)[0]


def judged(schedule: Schedule) -> tuple[list[str], Play]:
    """The same, with what was played."""
    for forget in _caches():
        forget()
    WORKERS.forget()
    LATER.forget()
    play, found = Play(schedule), []
    try:
        with play.trials.watching(), play.set_up():
            play.storm()
            found = violations(play)
            found += calm(play)
            found += play.look_around()
    except Stuck as stuck:
        found.append(f"stuck: {stuck}")
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        found.append(traceback.format_exc())
    return found, play


@functools.cache
def _caches() -> tuple[Callable[[], None], ...]:
    """What empties the engine's cached functions: each schedule begins without knowing of the ones before."""
    rooms = [vars(module) for name, module in sys.modules.items() if name.startswith("pixel_llm.resilience")]
    return tuple({id(made): made.cache_clear for room in rooms for made in room.values() if _is_cached(made)}.values())


def _is_cached(made: object) -> bool:
    return isinstance(made, functools._lru_cache_wrapper) and made.__module__.startswith("pixel_llm.resilience")
