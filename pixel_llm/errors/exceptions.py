"""
The exceptions of the system.

::

    PixelLMError
     ├── ConnectionError      also the built-in ConnectionError
     ├── TimeoutError         also the built-in TimeoutError
     ├── ValidationError
     │    └── PolicyError     lists every problem of a policy
     ├── APIError
     ├── EncoderError
     ├── CircuitBreakerOpen
     ├── RetryExhausted
     └── LimitExceeded

``except TimeoutError`` written by someone who never imported ours works too.
Every exception pickles, so it crosses a process pool; its cause pickles as a
:class:`CauseSummary`, because a pickled httpx error would carry the request's
headers, the API key among them.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pixel_llm.errors.arrived import Arrived
from pixel_llm.errors.codes import ErrorCode, ErrorCodeInfo
from pixel_llm.errors.problem import Problem
from pixel_llm.request import current_request_id


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """
    One failed attempt of a call.

    *number* counts from 1, *elapsed* is how long the attempt took and *waited* the
    wait after it, both in seconds. *inner* are the failed attempts of the guarded call
    inside of it whose error ended it, if there was one; they may have inner ones, too.
    """

    number: int
    error: str
    error_code: ErrorCode | None
    elapsed: float
    waited: float = 0.0
    inner: tuple[AttemptRecord, ...] = ()


class CauseSummary(Exception):
    """What is left of a cause after pickling: its type, and its text only if it was ours."""


class PixelLMError(Exception):
    """
    Base class of everything the system raises.

    Attributes:
        error_code: One of :class:`ErrorCode`.
        details: Facts about the error, by name. Never holds secrets.
        retry_after: Seconds after which a server asked to be called again, or None.
        target: The policy target the error came from, or None.
        attempt: The attempt it came from, counted from 1, or None.
        attempts: How many attempts the call made before it gave up, or None while it goes on. Where one guarded call
            made another one: the outer one's, if it made several, else the inner one's.
        history: One :class:`AttemptRecord` for each failed attempt of that call.
        repeatable: False where no policy may try again, because what was sent can't be sent a second time.
        arrived: What a stream had delivered before it broke; None if it had not begun, or is none.
        request_id: The id of the request that was being served when the error came about, or None.
        advice: What to do, where the message ends with that; empty where :attr:`info` has the only suggestion.
    """

    default_code: ClassVar[ErrorCode] = ErrorCode.ERR_API_SERVER_ERROR

    error_code: ErrorCode
    message: str
    details: dict[str, Any]
    # What most errors never have stands in the class: an error is made quickly where calls are refused.
    attempt: int | None = None
    attempts: int | None = None
    history: tuple[AttemptRecord, ...] = ()
    repeatable: bool = True
    arrived: Arrived | None = None
    request_id: str | None = None
    advice: str = ""

    def __init__(
        self,
        message: str = "",
        *,
        error_code: ErrorCode | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        target: str | None = None,
        attempt: int | None = None,
    ) -> None:
        self.error_code = error_code if error_code is not None else self.default_code
        self.message = message or self.error_code.info.message
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.target = target
        if attempt is not None:
            self.attempt = attempt
        if (request_id := current_request_id()) is not None:
            self.request_id = request_id
        super().__init__(self.message)

    @property
    def info(self) -> ErrorCodeInfo:
        """The row of the error's code in the table of codes."""
        return self.error_code.info

    def __str__(self) -> str:
        return f"{self.target}: {self.message}" if self.target else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if self.__cause__ is not None:
            state["__cause__"] = _summarise(self.__cause__)
        return _restore, (type(self), state)


def _summarise(cause: BaseException) -> CauseSummary:
    if isinstance(cause, CauseSummary):
        return cause
    name = f"{type(cause).__module__}.{type(cause).__qualname__}"
    return CauseSummary(f"{name}: {cause}" if isinstance(cause, PixelLMError) else name)


def _restore(cls: type[PixelLMError], state: dict[str, Any]) -> PixelLMError:
    error = cls.__new__(cls)
    cause = state.pop("__cause__", None)
    error.__dict__.update(state)
    error.args = (state["message"],)
    if cause is not None:
        error.__cause__ = cause
    return error


class ConnectionError(PixelLMError, builtins.ConnectionError):
    """The server cannot be reached, or the connection broke."""

    # Not UNAVAILABLE: that one would promise that nothing was sent, so that a repetition does no harm.
    default_code = ErrorCode.ERR_CONN_LOST


class TimeoutError(PixelLMError, builtins.TimeoutError):
    """Something took longer than the policy allows."""

    default_code = ErrorCode.ERR_TIMEOUT_REQUEST


class ValidationError(PixelLMError):
    """What was passed in is wrong; passing it in again will not help."""

    default_code = ErrorCode.ERR_VAL_INVALID_RANGE


class PolicyError(ValidationError):
    """
    A policy is wrong. Nothing was started.

    Attributes:
        problems: Every problem found, in the order of their places.
    """

    default_code = ErrorCode.ERR_VAL_INVALID_POLICY

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(sorted(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class APIError(PixelLMError):
    """
    The server answered, and the answer is an error or makes no sense.

    ``details["status"]`` is the HTTP status; ``details["body"]`` the start of the server's own text.
    """

    default_code = ErrorCode.ERR_API_SERVER_ERROR


class EncoderError(PixelLMError):
    """The vision encoder failed."""

    default_code = ErrorCode.ERR_ENC_FORWARD_FAILED


class CircuitBreakerOpen(PixelLMError):
    """The circuit breaker refused the call. ``retry_after`` is the time to the next trial, in seconds."""

    default_code = ErrorCode.ERR_CB_OPEN

    @cached_property
    def message(self) -> str:  # type: ignore[override] # read like an attribute, and may be set like one
        """Why the call was refused, and until when."""
        why: str = self.__dict__["_why"]
        return why if self.retry_after is None else f"{why}; next trial in {self.retry_after:.1f} s"

    @cached_property
    def details(self) -> dict[str, Any]:  # type: ignore[override] # the same
        """The state of the breaker, and the code of the last failure it counted."""
        return dict(self.__dict__["_facts"])

    @property
    def args(self) -> tuple[Any, ...]:
        """The message, as with every exception of ours."""
        return (self.message,)

    @args.setter
    def args(self, args: tuple[Any, ...]) -> None:
        """They say what the message says."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        restore, (cls, state) = super().__reduce__()
        whole = {"message": self.message, "details": self.details, **state}
        return restore, (cls, {name: value for name, value in whole.items() if name not in ("_why", "_facts")})


def refuse_call(
    why: str, facts: Mapping[str, Any], error_code: ErrorCode, target: str, retry_after: float | None
) -> CircuitBreakerOpen:
    """
    The error of one refused call, in a fraction of a microsecond.

    Most refusals are never read. *why*, which the time to the next trial completes, becomes the message,
    and *facts* the details, when somebody asks for them.
    """
    error = _new(CircuitBreakerOpen)
    error.__dict__ = {
        "error_code": error_code,
        "target": target,
        "retry_after": retry_after,
        "_why": why,
        "_facts": facts,
    }
    if (request_id := current_request_id()) is not None:
        error.request_id = request_id
    return error


_new = CircuitBreakerOpen.__new__


class RetryExhausted(PixelLMError):
    """
    Retries on results are used up, or the retry budget is empty. Retried errors are raised themselves.

    Attributes:
        last_result: The result that was rejected last, else None. It stays in this process: it is neither pickled
            nor part of any text, since results may hold what nobody else should read.
    """

    default_code = ErrorCode.ERR_RETRY_EXHAUSTED
    last_result: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        restore, (cls, state) = super().__reduce__()
        state.pop("last_result", None)
        return restore, (cls, state)


class LimitExceeded(PixelLMError):
    """A rate limit or a bulkhead of the policy held the call back."""

    default_code = ErrorCode.ERR_LIMIT_RATE
