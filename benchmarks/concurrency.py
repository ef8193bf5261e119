"""Whether a stack makes concurrent callers wait for each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pybreaker

from benchmarks.measure import in_turn
from pixel_llm.runtime import load_policies

THREADS = 32
CALL = 0.05


def _wait() -> None:
    time.sleep(CALL)


def _on_threads(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        threads = [threading.Thread(target=call) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def threads() -> dict[str, float]:
    """Seconds for 32 threads that make one call of 50 ms each."""
    policies = load_policies(profile="production")
    return in_turn(
        {
            "the function itself": _on_threads(_wait),
            "pixel-llm: lm_studio.chat of production": _on_threads(
                policies.wrap("lm_studio.chat", _wait, cooperative=True)
            ),
            "pybreaker": _on_threads(pybreaker.CircuitBreaker()(_wait)),
        }
    )
