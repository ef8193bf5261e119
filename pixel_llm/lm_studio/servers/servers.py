"""The servers of a policy, and which of them is asked first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pixel_llm.events import Listener, Listeners
from pixel_llm.lm_studio.client import LMStudioClient
from pixel_llm.lm_studio.servers.cold_start import ColdStart
from pixel_llm.lm_studio.servers.probes import HealthProbes
from pixel_llm.lm_studio.servers.server import Server
from pixel_llm.policy import Balance, LMStudioConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock, was_ended
from pixel_llm.resilience.error_words import code_of, text_of
from pixel_llm.resilience.limits import current_limits


class Servers:
    """
    All servers of a policy; the :class:`pixel_llm.resilience.routes.routes.Guide` of its calls. Safe for concurrent
    use, and after fork.

    Asked first is who is well, then who has the model loaded (or does not tell); among these they take turns, or the
    one with the fewest calls under way is first.

    Args:
        config: Which servers, and how they are looked after.
        clock: Where time comes from.
        listeners: Told when another model answers than the one that was asked, and of models that are loaded.
    """

    def __init__(
        self, config: LMStudioConfig, clock: Clock = SYSTEM_CLOCK, *, listeners: Iterable[Listener] = ()
    ) -> None:
        listeners = tuple(listeners)
        self._servers = tuple(Server(endpoint, clock, listeners) for endpoint in config.servers)
        self._by_name = {server.name: server for server in self._servers}
        clients = [server.client for server in self._servers]
        #: Tells the servers, and the keys for them, from others, in the keys of caches.
        self.identity = (
            " ".join(client.base_url for client in clients),
            " ".join(client.key_fingerprint for client in clients),
        )
        self._least_busy_first = config.balance is Balance.LEAST_BUSY
        self._turns = itertools.count()
        # One server alone has no order that looking after it could change.
        several = len(self._servers) > 1
        self._probes = HealthProbes(self._servers, config.health) if several else None
        self._cold_start = None
        if config.cold_start is not None:
            self._cold_start = ColdStart(config.cold_start, clock, Listeners(listeners))

    def __iter__(self) -> Iterator[Server]:
        return iter(self._servers)

    @property
    def first(self) -> LMStudioClient:
        """The client of the server that the policy names first."""
        return self._servers[0].client

    def best(self, model: str) -> LMStudioClient:
        """The client of the server that would be asked first for *model*."""
        return self._in_order(model)[0].client

    @property
    def last_errors(self) -> dict[str, str]:
        """What each of those failed of that have not answered since, by their names."""
        return {server.name: error for server in self._servers if (error := server.last_error) is not None}

    def close(self) -> None:
        """Look after them no longer, and close the connections of threads. A later call begins anew."""
        if self._probes is not None:
            self._probes.close()
        for server in self._servers:
            server.client.close()

    async def aclose(self) -> None:
        """:meth:`close`, and close the connections of the running event loop."""
        self.close()
        for server in self._servers:
            await server.client.aclose()

    # What a Guide does; its calls have a request as their argument, or none

    def order(self, args: tuple[Any, ...]) -> Sequence[str]:
        """The names of the servers, best first."""
        if self._probes is not None:
            self._probes.begin()
        return [server.name for server in self._in_order(_model_in(args))]

    def prepare(self, name: str, args: tuple[Any, ...]) -> None:
        """See that the model is loaded there, or has been given its time."""
        model = _model_in(args)
        if self._cold_start is not None and model is not None:
            self._cold_start.wait(self._by_name[name], model)

    async def prepare_async(self, name: str, args: tuple[Any, ...]) -> None:
        """The same, in a task."""
        model = _model_in(args)
        if self._cold_start is not None and model is not None:
            await self._cold_start.wait_async(self._by_name[name], model)

    def enter(self, name: str) -> None:
        """A call goes there."""
        self._by_name[name].enter()

    def leave(self, name: str) -> None:
        """It is over."""
        self._by_name[name].leave()

    def answered(self, name: str, args: tuple[Any, ...]) -> None:
        """The server has answered."""
        model = _model_in(args)
        if model is not None:
            self._by_name[name].answered(model)

    def failed(self, name: str, error: Exception) -> None:
        """The server was asked in vain. What was broken off from outside says nothing of it."""
        if not was_ended(current_limits().clock):
            self._by_name[name].last_error = f"{code_of(error) or type(error).__name__}: {text_of(error)}"

    def _in_order(self, model: str | None) -> list[Server]:
        turn, count = next(self._turns), len(self._servers)

        def rank(numbered: tuple[int, Server]) -> tuple[bool, bool, int, int]:
            number, server = numbered
            lacks_model = model is not None and server.has_loaded(model) is False
            busy = server.busy if self._least_busy_first else 0
            return not server.is_well, lacks_model, busy, (number - turn) % count

        return [server for _, server in sorted(enumerate(self._servers), key=rank)]


def _model_in(args: tuple[Any, ...]) -> str | None:
    """The model that a call is for; None where it is for none."""
    model: str | None = args[0].model if args else None
    return model
