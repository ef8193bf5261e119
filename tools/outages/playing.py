"""Calls through the stacks of a profile, in virtual time: what became of each, and of the breaker. Seconds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from pixel_llm import load_policies
from pixel_llm.errors import PixelLMError, classify_error
from pixel_llm.events import CircuitStateChanged, Event
from pixel_llm.runtime import Policies
from soak.clock import SoakClock
from soak.loop import ShuffledLoop
from tools.outages.outage import CALLS, Server

POLICIES = Path(__file__).parents[2] / "policies"

#: Jitter is drawn from here, so that the pictures are the same in every run.
SEED = 1

#: Every second call asks about one of the pictures of the first calls, which were captioned before the outage.
SEEN = 5


@dataclass(slots=True)
class Attempt:
    """A request to the server. *error_code* is None if it answered."""

    began: float
    ended: float = 0.0
    error_code: str | None = None


@dataclass(slots=True)
class PlayedCall:
    """A call for a caption. It has been *served_by* somebody, or has failed of *error_code*."""

    number: int
    began: float
    ended: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    served_by: str | None = None
    error_code: str | None = None

    @property
    def picture(self) -> int:
        """Which picture it asks about: one seen before the outage, or a new one."""
        return self.number % SEEN if self.number % 2 == 0 else self.number


@dataclass(frozen=True, slots=True)
class Played:
    """What a profile made of the outage. *states* are the breaker's with their beginnings; none without one."""

    profile: str
    calls: tuple[PlayedCall, ...]
    states: tuple[tuple[float, str], ...]

    @property
    def ended(self) -> float:
        """When the last call had ended."""
        return max(call.ended for call in self.calls)


_current: ContextVar[PlayedCall] = ContextVar("call")


def play(profile: str) -> Played:
    """Let the shipped *profile* go through the outage."""
    clock = SoakClock()
    loop = ShuffledLoop(clock, None, clock.advance_to)
    server = Server(clock)
    states: list[tuple[float, str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, CircuitStateChanged):
            states.append((server.now(), event.new_state))

    with (
        _same_chance(),
        load_policies(
            POLICIES,
            profile,
            overlays=(),
            variables={},
            clock=clock,
            listeners=[listen],
            overrides={"logging": {"level": "CRITICAL", "file": None, "rotation": None, "console": False}},
        ) as policies,
    ):
        if policies.has_breaker("lm_studio.chat"):
            states.append((0.0, "closed"))
        try:
            calls = loop.run_until_complete(_all_calls(policies, server, clock))
        finally:
            loop.close()
    return Played(profile, tuple(calls), tuple(states))


async def _all_calls(policies: Policies, server: Server, clock: SoakClock) -> list[PlayedCall]:
    async def ask(picture: int) -> str:
        attempt = Attempt(server.now())
        _current.get().attempts.append(attempt)
        try:
            return await server.caption(picture)
        except OSError as error:
            attempt.error_code = str(classify_error(error).error_code)
            raise
        except asyncio.CancelledError:
            attempt.error_code = "ERR_TIMEOUT_REQUEST"
            raise
        finally:
            attempt.ended = server.now()

    chat = policies.wrap("lm_studio.chat", ask)

    async def caption(picture: int) -> str:
        return await chat(picture)

    generate = policies.wrap("pixel_llm.generate", caption, key=lambda picture: picture)

    async def call_once(call: PlayedCall) -> PlayedCall:
        _current.set(call)
        await clock.sleep_async(call.began)
        try:
            call.served_by = (await generate.outcome(call.picture)).served_by
        except (OSError, PixelLMError) as error:
            call.error_code = str(classify_error(error).error_code)
        call.ended = server.now()
        return call

    return await asyncio.gather(*(call_once(PlayedCall(number, began)) for number, began in enumerate(CALLS)))


@contextmanager
def _same_chance() -> Iterator[None]:
    before = random.getstate()
    random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(before)
