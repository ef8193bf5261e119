"""One of the servers, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable

from pixel_llm.events import Listener
from pixel_llm.lm_studio.client import LMStudioClient
from pixel_llm.lm_studio.model_states import ModelState, is_loaded
from pixel_llm.policy import EndpointConfig
from pixel_llm.resilience.clock import Clock


class Server:
    """
    A client, and what its server has shown of itself. Safe for concurrent use: each fact is replaced in one step.

    Args:
        endpoint: Where it is, and its key.
        clock: Where time comes from.
        listeners: Told when another model answers than the one that was asked.

    Attributes:
        client: Talks to it.
        is_well: False since it has failed to say how it is, until it does again.
        tells_states: Whether it has LM Studio's own list, which says what is loaded; None if nobody has asked.
        last_error: What the last chat with it failed of; None if it has answered since.
    """

    def __init__(self, endpoint: EndpointConfig, clock: Clock, listeners: Iterable[Listener] = ()) -> None:
        self._endpoint = endpoint
        self.client = self._make_client(listeners)
        self.is_well = True
        self.tells_states: bool | None = None
        self.last_error: str | None = None
        self._clock = clock
        self._states: tuple[ModelState, ...] | None = None
        self._learned = 0.0
        self._answered: dict[str, float] = {}
        # Appending to a list, and taking from it, are single steps: they need no lock.
        self._busy: list[None] = []

    @property
    def name(self) -> str:
        """Its address."""
        return self.client.base_url

    def another_client(self) -> LMStudioClient:
        """One with connections of its own, for what may go on when the client is closed; to be closed by who has it."""
        return self._make_client(())

    @property
    def busy(self) -> int:
        """How many calls are under way to it, those that wait for it included."""
        return len(self._busy)

    def enter(self) -> None:
        """One more is under way."""
        self._busy.append(None)

    def leave(self) -> None:
        """One less."""
        self._busy.pop()

    def answered(self, model: str) -> None:
        """*model* has answered now, so it is loaded."""
        self.last_error = None
        self._answered[model] = self._clock.monotonic()

    def learn(self, states: tuple[ModelState, ...] | None) -> None:
        """It has given LM Studio's list, or shown that it has none."""
        self._learned = self._clock.monotonic()
        self._states = states
        self.tells_states = states is not None

    def has_loaded(self, model: str) -> bool | None:
        """Whether *model* is loaded there, as far as is known; None if the server does not tell."""
        if self._states is None:
            return None
        return self._answered.get(model, -1.0) >= self._learned or is_loaded(model, self._states)

    def seen_loaded(self, model: str) -> float | None:
        """The moment at which *model* was last known to be loaded; None if it never was, or is known not to be."""
        loaded, answered = self.has_loaded(model), self._answered.get(model)
        if loaded is None or answered is None:
            return self._learned if loaded else answered if loaded is None else None
        return max(self._learned, answered) if loaded else None

    def _make_client(self, listeners: Iterable[Listener]) -> LMStudioClient:
        key = self._endpoint.api_key
        api_key = None if key is None else key.reveal()
        return LMStudioClient(self._endpoint.base_url, api_key=api_key, listeners=listeners)
