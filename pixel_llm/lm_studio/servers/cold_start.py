"""
Models that are not loaded yet: one load for all callers, before any of them asks.

Several first calls at once would have LM Studio load several copies, and each would be cut off by its attempt's
timeout. So whoever comes to a model that may not be loaded waits for one load, which runs in a thread of its own and
is bound to nobody's deadline.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from math import inf

from pixel_llm.errors import ErrorCode, TimeoutError, classify_error
from pixel_llm.events import Listener, ModelLoaded, ModelLoadFailed
from pixel_llm.lm_studio.client import LMStudioClient
from pixel_llm.lm_studio.model_states import ModelState
from pixel_llm.lm_studio.model_watch import CHAT_TARGET
from pixel_llm.lm_studio.replies import is_same_model
from pixel_llm.lm_studio.servers.load import Load
from pixel_llm.lm_studio.servers.server import Server
from pixel_llm.policy import ColdStartConfig, format_duration
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.limits import Limits, current_limits, publish
from pixel_llm.resilience.threads.forking import forget_after_fork
from pixel_llm.resilience.threads.pool import WORKERS

#: Seconds for which a model that was loaded is taken to be, before LM Studio's list is asked again; and for which a
#: server that did not give the list is not asked.
REMEMBERED = 5.0
#: How long the list may take, in seconds. A server that can't even say that fails the call by itself, and that counts.
LIST_TIMEOUT = 2.0


class ColdStart:
    """
    Has models loaded before they are called. Safe for concurrent use, by threads and event loops together.

    Args:
        config: How long a load may take, and when a model counts as unloaded.
        clock: Where time comes from.
        tell: Told of every load, with :class:`ModelLoaded` or :class:`ModelLoadFailed`.
    """

    def __init__(self, config: ColdStartConfig, clock: Clock, tell: Listener) -> None:
        self._config = config
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._loads: dict[tuple[str, str], Load] = {}
        self._silent_until: dict[str, float] = {}
        forget_after_fork(self)

    def forget(self) -> None:
        """In a forked child: the threads that load are not in it."""
        self._lock = threading.Lock()
        self._loads = {}

    def wait(self, server: Server, model: str) -> None:
        """
        Wait until *model* is loaded at *server*, if it may not be, within the current limits.

        A load that fails raises nothing: the call itself meets the same trouble, and can say more of it.

        Raises:
            TimeoutError: If the time was up first. The load goes on.
        """
        load = self._load_of(server, model)
        if load is not None:
            limits = current_limits()
            load.wait(*self._until(load, limits))
            self._check(load, server, model, limits)

    async def wait_async(self, server: Server, model: str) -> None:
        """The same, in a task."""
        load = self._load_of(server, model)
        if load is not None:
            limits = current_limits()
            await load.wait_async(*self._until(load, limits))
            self._check(load, server, model, limits)

    def _until(self, load: Load, limits: Limits) -> tuple[float, Clock]:
        """The moment until which a caller with *limits* waits for *load*, and the clock that it is on."""
        return (load.ends, self._clock) if limits.ends is None else (min(load.ends, limits.ends), limits.clock)

    def _load_of(self, server: Server, model: str) -> Load | None:
        """The load to wait for, begun if it must be; None if the model is known to be loaded."""
        if not self._may_be_unloaded(server, model):
            return None
        key = (server.name, model)
        with self._lock:
            load = self._loads.get(key)
            if load is not None:
                return load
            if not self._may_be_unloaded(server, model):  # it has just been loaded
                return None
            load = self._loads[key] = Load(self._clock.monotonic() + self._config.grace)
        try:
            WORKERS.run(partial(self._work, load, server, model), f"pixel-llm load {model}")
        except RuntimeError:  # the system has no further thread: the call goes on without
            self._end(key, load)
        return load

    def _may_be_unloaded(self, server: Server, model: str) -> bool:
        now, seen = self._clock.monotonic(), server.seen_loaded(model)
        if self._silent_until.get(server.name, -inf) > now:
            return False
        if seen is None:
            return True
        return now - seen >= (self._config.idle if server.tells_states is False else REMEMBERED)

    def _work(self, load: Load, server: Server, model: str) -> Callable[[], object]:
        """What the thread does."""
        # Whatever it fails of, the callers go on and meet it themselves. It may go on when the server's own client is
        # closed. Limits are published in a context of its own: the thread is used again.
        with contextlib.suppress(Exception), server.another_client() as client:
            contextvars.Context().run(self._have_loaded, load, server, client, model)
        return partial(self._end, (server.name, model), load)

    def _have_loaded(self, load: Load, server: Server, client: LMStudioClient, model: str) -> None:
        publish(Limits(self._clock, deadline=min(load.ends, self._clock.monotonic() + LIST_TIMEOUT)))
        try:
            states = client.model_states()
        except Exception:
            self._silent_until[server.name] = self._clock.monotonic() + REMEMBERED
            raise
        server.learn(states)
        if server.has_loaded(model) or not _is_there(model, states):
            return
        publish(Limits(self._clock, deadline=load.ends))
        began = self._clock.monotonic()
        try:
            client.load(model)
        except Exception as error:
            load.ran_out_of_time = isinstance(error, builtins.TimeoutError)
            took, code = self._clock.monotonic() - began, classify_error(error).error_code
            self._tell(ModelLoadFailed(CHAT_TARGET, server.name, model, code, str(error), took))
            raise
        server.answered(model)
        self._tell(ModelLoaded(CHAT_TARGET, server.name, model, self._clock.monotonic() - began))

    def _end(self, key: tuple[str, str], load: Load) -> None:
        with self._lock:
            self._loads.pop(key, None)
        load.end()

    def _check(self, load: Load, server: Server, model: str, limits: Limits) -> None:
        """Raise if the time was up before the model was there."""
        where = f"{model} at {server.name}"
        if not load.has_ended and limits.remaining() == 0.0:
            raise TimeoutError(
                f"the time of the call was up before {where} was loaded, which goes on",
                error_code=ErrorCode.ERR_TIMEOUT_DEADLINE,
                details={"url": server.name, "model": model},
            )
        if not load.has_ended or load.ran_out_of_time:
            grace = format_duration(self._config.grace)
            raise TimeoutError(
                f"{where} was not loaded within its grace of {grace}: raise lm_studio.cold_start.grace, or load it in "
                "LM Studio",
                error_code=ErrorCode.ERR_TIMEOUT_RESPONSE,
                details={"url": server.name, "model": model},
            )


def _is_there(model: str, states: tuple[ModelState, ...] | None) -> bool:
    """False if the server has told all its models, and *model* is none: it can't be loaded, as the call will hear."""
    return states is None or any(is_same_model(state.id, model) for state in states)
