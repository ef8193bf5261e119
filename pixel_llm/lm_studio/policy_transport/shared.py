"""What the sync and the async transport share: all but waiting."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

import httpx

from pixel_llm.errors import APIError, PixelLMError, RetryExhausted, ValidationError
from pixel_llm.events.trouble import report_trouble
from pixel_llm.lm_studio.asked import Asked
from pixel_llm.lm_studio.endpoint import public_address
from pixel_llm.lm_studio.policy_transport.bodies import OnceBody, Pace, close_forgotten
from pixel_llm.lm_studio.policy_transport.edge import EXTENSION, DoubleRetryWarning, as_transport_error
from pixel_llm.lm_studio.policy_transport.elsewhere import model_of
from pixel_llm.lm_studio.policy_transport.families import build_response, family_of, rebuild_request, stream_class
from pixel_llm.lm_studio.policy_transport.judging import judge
from pixel_llm.lm_studio.policy_transport.own import OwnAsyncTransport, OwnTransport
from pixel_llm.lm_studio.policy_transport.reply import AnsweredWithError, HTTPReply
from pixel_llm.lm_studio.policy_transport.sending import (
    fingerprint,
    held_body,
    is_spent,
    request_id_headers,
    secrets_of,
    shortened,
)
from pixel_llm.lm_studio.translation import translate
from pixel_llm.lm_studio.transport import LimitedAsyncTransport, LimitedTransport
from pixel_llm.resilience import Outcome
from pixel_llm.resilience.limits import current_limits
from pixel_llm.runtime import Policies

#: Makes a response from a request and from what a fallback served, which is a value of the policy.
MakeResponse = Callable[[Any, Any], Any]

#: What httpx demands where nobody said anything; a request with these timeouts has none of its own.
_UNSAID = httpx.Timeout(5.0).as_dict()
#: Whose code lies between a transport and the program that uses its client.
_LIBRARIES = frozenset({"pixel_llm", "httpx", "httpx2", "openai", "anthropic"})
#: Transports whose sockets end with the current limits.
_LIMITED = (OwnTransport, OwnAsyncTransport, LimitedTransport, LimitedAsyncTransport)


class UnderPolicy:
    """What both worlds share: checks, and the ways from a request to an attempt and from an outcome to a response."""

    _handler: str
    _twin: str
    _stream_base: str
    _live: type

    def __init__(
        self,
        policies: Policies,
        target: str,
        wrapped: Any,
        attempt: Callable[[Any], Any],
        alternative: Callable[[str, str], Callable[[Any], Any]],
        make_response: MakeResponse | None,
        error_bodies: bool,
    ) -> None:
        self.target = target
        self._inner = wrapped
        self._family: ModuleType | None = family_of(wrapped)
        self._limited = isinstance(wrapped, _LIMITED)
        self._error_bodies = error_bodies
        self._make_response = make_response
        self._warned = False
        self._check_wrapped()
        if not isinstance(policies, Policies):
            raise self._wrong(f"the first argument must be what load_policies() gives (got {policies!r})")
        layers = {layer.name: layer.settings for layer in policies.describe(target)}
        self._rules_time_or_attempts = bool({"retry", "deadline"} & set(layers))
        self._check_values(layers)
        self._guarded = policies.wrap(
            target,
            attempt,
            key=fingerprint,
            cooperative=self._limited,
            cacheable=_is_cacheable,
            alternative=alternative,
            breaker_key={"endpoint": lambda request: public_address(request.url), "model": model_of},
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target!r} over {self._inner!r}>"

    def _wrong(self, text: str) -> ValidationError:
        return ValidationError(f"{type(self).__name__}({self.target!r}): {text}")

    def _check_wrapped(self) -> None:
        if isinstance(self._inner, type) or not hasattr(self._inner, self._handler):
            raise self._wrong(
                f"wrapped= must be a transport with {self._handler}() (got {self._inner!r}), or use {self._twin}"
            )
        if getattr(getattr(self._inner, "_pool", None), "_retries", 0):
            raise self._wrong(
                "wrapped= retries connections by itself, which multiplies with the policy's attempts: make it with"
                " retries=0"
            )

    def _check_values(self, layers: dict[str, dict[str, Any]]) -> None:
        """Values of the policy are no responses: it must be known how they become some."""
        if self._make_response is not None:
            return
        steps = [step["strategy"] for step in layers.get("fallback", {}).get("steps", ())]
        served = next((name for name in steps if name in ("default_value", "none")), None)
        if served is None and layers.get("chaos", {}).get("result") is not None:
            served = "chaos: result"
        if served is not None:
            raise self._wrong(
                f"the target's policy serves {served}, which is no HTTP response: give make_response=, a function"
                " that makes one from the request and the value, or take it out of the policy"
            )

    # From a request to an attempt

    def _watch(self, request: Any) -> None:
        """Warn, once, of a client that retries by itself. openai and its kin count their retries in a header."""
        count = request.headers.get("x-stainless-retry-count", "0")
        if count == "0" or self._warned or not self._rules_time_or_attempts:
            return
        self._warned = True
        text = (
            f"the client above {type(self).__name__}({self.target!r}) retries by itself: its attempts multiply with the"
            " policy's and go on past its deadline. Turn them off, such as openai.OpenAI(max_retries=0, …)"
        )
        report_trouble("%s", text, level=logging.WARNING, exc_info=False)
        warnings.warn(text, DoubleRetryWarning, stacklevel=_users_level())

    def _prepare(self, request: Any) -> Any:
        """
        The request as the transport below takes it: with the id of what is being served, and a body that knows whether
        it can be sent again. The client's own request stays as it is, since it may be sent once more.
        """
        close_forgotten()
        family = self._family or family_of(request) or httpx
        body = held_body(request)
        more = request_id_headers(request)
        if body is None:
            stream = stream_class(OnceBody, getattr(family, self._stream_base))(request.stream)
            return rebuild_request(request, family, stream, request.extensions, more)
        if family_of(request) is family and not more:
            return request
        prepared = rebuild_request(request, family, family.ByteStream(body), request.extensions, more)
        prepared.read()
        return prepared

    def _begin(self, prepared: Any) -> tuple[Any, Pace]:
        """The request of one attempt, and the pace of a body that streams on after it."""
        limits = current_limits()
        now = limits.clock.monotonic()
        patience = None if limits.attempt_ends is None else limits.attempt_ends - now
        pace = Pace(self.target, public_address(prepared.url), limits.clock, limits.deadline, patience)
        remaining = limits.remaining()
        if remaining is None:
            return prepared, pace
        said = prepared.extensions.get("timeout") or {}
        timeouts = {} if said == _UNSAID else dict(said)
        if not self._limited:  # its sockets know no limits; httpx's own are the nearest to them
            timeouts = shortened(timeouts, remaining, limits.connect)
        request = rebuild_request(
            prepared, family_of(prepared) or httpx, prepared.stream, {**prepared.extensions, "timeout": timeouts}
        )
        return request, pace

    def _translated(self, error: Exception, prepared: Any) -> PixelLMError:
        ours = translate(error, public_address(prepared.url))
        ours.repeatable = not is_spent(prepared)
        return ours

    def _judges(self, prepared: Any) -> bool:
        """True if the body of a success is looked into. Answers to HEAD have none."""
        return self._error_bodies and prepared.method != "HEAD"

    def _judged(self, reply: HTTPReply, prepared: Any) -> HTTPReply:
        """*reply*, if it is a result; else it is raised."""
        judges = self._judges(prepared)
        address, asked = public_address(prepared.url), Asked(held_body(prepared))
        error = judge(reply, address, secrets_of(prepared), asked, error_bodies=judges)
        if error is None:
            return reply
        failure = AnsweredWithError(error, reply)
        failure.repeatable = not is_spent(prepared)
        raise failure

    # From an outcome to a response

    def _answer(self, outcome: Outcome[Any], request: Any) -> Any:
        """The response for a call that succeeded, or that a fallback served."""
        reply = outcome.value
        if not isinstance(reply, HTTPReply):
            reply = self._made(reply, request)
        return self._respond(
            reply,
            request,
            served_by=outcome.served_by,
            degraded=outcome.degraded,
            attempts=outcome.attempts,
            error=outcome.error,
        )

    def _made(self, value: Any, request: Any) -> HTTPReply:
        if not hasattr(value, "status_code"):
            if self._make_response is None:
                raise self._wrong(f"the target's policy served {value!r}, which is no HTTP response")
            value = self._make_response(request, value)
        if not hasattr(value, "status_code"):
            raise self._wrong(f"make_response= must give an HTTP response (got {value!r})")
        return HTTPReply.made(value)

    def _failed(self, error: PixelLMError, request: Any) -> Any:
        """
        The last response that came, if one did: what the client would have got without a policy.

        Raises:
            Exception: The client's own exception, with *error* as its cause, where there was no response.
        """
        reply = _reply_behind(error)
        if reply is not None:
            return self._respond(reply, request, served_by="call", degraded=False, attempts=error.attempts, error=error)
        family = family_of(request) or httpx
        if isinstance(error, ValidationError) and family_of(error.__cause__) is None:
            raise error  # a mistake in the program, not in the transport
        raise as_transport_error(error, family, request) from error

    def _respond(self, reply: HTTPReply, request: Any, **story: Any) -> Any:
        family = family_of(request) or httpx
        stream: Any = reply.body
        if reply.rest is not None:
            stream = stream_class(self._live, getattr(family, self._stream_base))(reply.rest, family)
        if story["error"] is not None:
            story["error"].with_traceback(None)  # its frames would live as long as the response
        return build_response(
            family, reply.status_code, reply.raw_headers, stream, {**reply.extensions, EXTENSION: story}
        )


def _users_level() -> int:
    """How many frames the code that uses the client is away from who warns."""
    depth = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame, depth = frame.f_back, depth + 1
    return depth


def _reply_behind(error: BaseException | None) -> HTTPReply | None:
    """The last answer of the call that ended in *error*; refusals lead to the failure before them."""
    while isinstance(error, PixelLMError):
        if isinstance(error, AnsweredWithError):
            return error.reply
        if isinstance(error, RetryExhausted) and isinstance(error.last_result, HTTPReply):
            return error.last_result
        if isinstance(error, APIError) and (made := HTTPReply.of_error(error)):
            return made
        error = error.__cause__
    return None


def _is_cacheable(value: Any) -> bool:
    return isinstance(value, HTTPReply) and value.is_cacheable
