"""Makes spans of the calls of one policy."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from pixel_llm.opentelemetry.gen_ai import ChatSpan, chat_request
from pixel_llm.opentelemetry.http import server_of
from pixel_llm.opentelemetry.recorder import Recorder
from pixel_llm.opentelemetry.spans import CallSpan
from pixel_llm.runtime import Policies


class SpanTracer:
    """
    A :class:`pixel_llm.resilience.tracing.Tracer`. Safe for concurrent use.

    Args:
        policies: Whose calls it sees; they are not kept alive.
        tracer: Makes the spans.
        recorder: Takes the durations.

    Attributes:
        server: Host and port that chats go to; None if they can go to several.
    """

    def __init__(self, policies: Policies, tracer: trace.Tracer, recorder: Recorder) -> None:
        self._policies = weakref.ref(policies)
        self.tracer = tracer
        self.recorder = recorder
        # Models keep the server that they began with, whatever policy is loaded again.
        servers = policies.config.lm_studio.servers
        self.server = server_of(servers[0].base_url) if len(servers) == 1 else None

    def profile(self) -> str:
        """The name of the profile in force."""
        policies = self._policies()
        return "" if policies is None else policies.profile

    def call(self, target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallSpan:
        """A call of *target* begins."""
        request = chat_request(target, args, kwargs)
        return CallSpan(self, target) if request is None else ChatSpan(self, target, request)
