"""A look at every server now and then, in the background: who is well, and what is loaded where."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

from pixel_llm.lm_studio.servers.server import Server
from pixel_llm.policy import HealthConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK
from pixel_llm.resilience.limits import Limits, publish, take_back
from pixel_llm.resilience.threads.forking import forget_after_fork


class HealthProbes:
    """
    One daemon thread that asks each server for its models, from the first call on until it is closed.

    No call waits for it. It ends with whoever has it, and a forked child begins one of its own. Safe for concurrent
    use.

    Args:
        servers: Whom it asks, one after the other, and who learn from the answers.
        config: How often, and how long each may take. In real seconds, whatever clock the calls go by.
    """

    def __init__(self, servers: Iterable[Server], config: HealthConfig) -> None:
        # A look may still be under way when the servers' own clients are closed.
        self._clients = [(server, server.another_client()) for server in servers]
        self._config = config
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        forget_after_fork(self)

    def begin(self) -> None:
        """Look after them from now on, if nobody does yet."""
        if self._stop is not None:
            return
        with self._lock:
            if self._stop is None:
                stop = self._stop = threading.Event()
                weakref.finalize(self, stop.set)
                threading.Thread(
                    target=_look_again_and_again,
                    args=(weakref.ref(self), stop, self._config.interval),
                    name="pixel-llm health",
                    daemon=True,
                ).start()

    def close(self) -> None:
        """Look no longer. A look under way ends by itself; nobody waits for it."""
        with self._lock:
            stop, self._stop = self._stop, None
        if stop is not None:
            stop.set()

    def forget(self) -> None:
        """In a forked child: the thread is not in it."""
        self._lock = threading.Lock()
        self._stop = None

    def look(self) -> None:
        """Ask every server once, now, in this thread."""
        for server, client in self._clients:
            ends = SYSTEM_CLOCK.monotonic() + self._config.timeout
            token = publish(Limits(SYSTEM_CLOCK, deadline=ends))
            try:
                client.models()
                server.learn(client.model_states())
                server.is_well = True
            except Exception:  # noqa: BLE001 - whatever it is, the server is not well
                server.is_well = False
            finally:
                take_back(token)
                client.close()


def _look_again_and_again(reference: weakref.ref[HealthProbes], stop: threading.Event, interval: float) -> None:
    while not stop.is_set():
        probes = reference()
        if probes is None:
            return
        probes.look()
        del probes
        stop.wait(min(interval, threading.TIMEOUT_MAX))
