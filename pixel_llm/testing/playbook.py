"""Which step answers a request: the script's next one, the last one for ever, or LM Studio's own manners."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Iterable

from pixel_llm.testing.request import Request
from pixel_llm.testing.steps import (
    CHAT_PATH,
    EMBEDDINGS_PATH,
    LOAD_PATH,
    Answer,
    ErrorBody,
    ModelList,
    Refuse,
    Status,
    Step,
)

_MODEL_PATHS = ("/v1/models", "/api/v0/models", "/api/v1/models")
_POSTED_PATHS = (LOAD_PATH, EMBEDDINGS_PATH)


class Playbook:
    """The steps that are left, in one queue for each path. Not thread-safe: the server guards it."""

    def __init__(
        self,
        *,
        then: Step,
        models: tuple[str, ...],
        loaded: tuple[str, ...] | None,
        api_key: str | None,
        check_model: bool,
        own_api: bool = True,
    ) -> None:
        self._queues: dict[str, deque[Step]] = {}
        self._then = then
        self._models = models
        self._loaded = set(models if loaded is None else loaded)
        self._api_key = api_key
        self._check_model = check_model
        self._own_api = own_api

    @property
    def pending(self) -> int:
        """How many steps have not begun."""
        return sum(map(len, self._queues.values()))

    @property
    def default_model(self) -> str:
        """The model that answers where a request names none."""
        return self._models[0] if self._models else ""

    def extend(self, steps: Iterable[Step]) -> list[Refuse]:
        """Queue the steps; returns those that refuse from now on, as no step is in front of them."""
        refusals = []
        for step in steps:
            queue = self._queues.setdefault(step.path or CHAT_PATH, deque())
            if isinstance(step, Refuse) and not queue:
                refusals.append(step)
            else:
                queue.append(step)
        return refusals

    def take(self, request: Request) -> tuple[Step, bool, list[Refuse]]:
        """The step for *request*, whether the script says so, and the refusals that follow it."""
        if obstacle := self._find_obstacle(request):
            return obstacle, False, []
        queue = self._queues.get(request.path)
        if queue and (_is_chat(request) or request.path != CHAT_PATH):
            return queue.popleft(), True, _pop_refusals(queue)
        if _is_chat(request):
            return self._then, True, []
        if request.path.startswith("/api/") and not self._own_api:
            return Status(status=404, message="File Not Found"), False, []
        if request.method == "GET" and request.path in _MODEL_PATHS:
            loaded = tuple(model for model in self._models if model in self._loaded)
            return ModelList(models=self._models, loaded=loaded), False, []
        if request.method == "POST" and request.path in _POSTED_PATHS:
            return Answer(), False, []
        message = f"Unexpected endpoint or method. ({request.method} {request.path})"
        return ErrorBody(message=message, envelope="string"), False, []

    def note_served(self, step: Step, request: Request) -> None:
        """A request is about to be answered with *step*: a chat loads its model just in time, and so does a load."""
        if isinstance(step, Answer) and _names_model(request):
            model = request.body.get("model") if isinstance(request.body, dict) else None
            if model in self._models:
                self._loaded.add(model)

    def _find_obstacle(self, request: Request) -> Step | None:
        if self._api_key is not None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._api_key.encode()):
                message = "An LM Studio API token is required to make requests to this server."
                return Status(status=401, message=message, type="invalid_request", code="invalid_api_key")
        if self._check_model and _names_model(request):
            model = request.body.get("model") if isinstance(request.body, dict) else None
            if model not in self._models:
                known = ", ".join(self._models)
                message = (
                    f'Invalid model identifier "{model}". Please specify a valid downloaded model (e.g., {known}).'
                )
                return Status(status=400, message=message, type="invalid_request_error", code="model_not_found")
        return None


def _names_model(request: Request) -> bool:
    return _is_chat(request) or request.path == LOAD_PATH


def _is_chat(request: Request) -> bool:
    return (request.method, request.path) == ("POST", CHAT_PATH)


def _pop_refusals(queue: deque[Step]) -> list[Refuse]:
    refusals: list[Refuse] = []
    while queue and isinstance(first := queue[0], Refuse):
        refusals.append(first)
        queue.popleft()
    return refusals
