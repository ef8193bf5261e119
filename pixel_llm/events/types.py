"""
What a stack tells its listeners: one frozen event for each thing beyond a clean success.

A success builds no event. Durations are float seconds, *target* is the policy target,
*error_code* is None for exceptions that no code of ours describes. Events never hold
call arguments or results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pixel_llm.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Event:
    """
    Base class of all events. *name* is the constant that logs and metrics use.

    Those of a policy as a whole are *of_policy*: their *target* is the name of its profile, and no target.
    """

    name: ClassVar[str]
    of_policy: ClassVar[bool] = False
    target: str


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """An attempt, counted from 1, ended in an error."""

    name = "attempt_failed"
    attempt: int
    error_code: ErrorCode | None
    error: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """The call will be tried again after *delay*."""

    name = "retry_scheduled"
    attempt: int
    delay: float
    error_code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class CallRecovered(Event):
    """A call succeeded after failed attempts."""

    name = "call_recovered"
    attempts: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class CallQueued(Event):
    """An attempt had to wait *waited* seconds for its turn and its slot before it could begin."""

    name = "call_queued"
    waited: float


@dataclass(frozen=True, slots=True)
class CallRefused(Event):
    """A layer refused the call without trying it."""

    name = "call_refused"
    layer: str
    error_code: ErrorCode | None
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class CallFailed(Event):
    """A call failed for good; *reason* says why it was not tried again."""

    name = "call_failed"
    attempts: int
    error_code: ErrorCode | None
    error: str
    elapsed: float
    reason: str


@dataclass(frozen=True, slots=True)
class CircuitStateChanged(Event):
    """
    A circuit breaker changed its state; *error_code* is that of the last failure it counted.

    With *shadow* it only would have: it refuses nobody. *breaker* is the key of one that its target has for each key.
    """

    name = "circuit_state_changed"
    old_state: str
    new_state: str
    failures: int
    error_code: ErrorCode | None
    shadow: bool = False
    breaker: str | None = None


@dataclass(frozen=True, slots=True)
class CallWouldBeRefused(Event):
    """A layer in shadow mode would have refused an attempt, and let it through."""

    name = "call_would_be_refused"
    layer: str
    error_code: ErrorCode | None
    retry_after: float | None
    breaker: str | None = None


@dataclass(frozen=True, slots=True)
class FallbackServed(Event):
    """A fallback step served in place of the call. *age* is that of a cached result."""

    name = "fallback_served"
    served_by: str
    error_code: ErrorCode | None
    age: float | None


@dataclass(frozen=True, slots=True)
class FallbackSkipped(Event):
    """A fallback step could not serve."""

    name = "fallback_skipped"
    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class StreamBroken(Event):
    """A stream ended in an error when *chunks* had been delivered, *elapsed* after the call began."""

    name = "stream_broken"
    chunks: int
    error_code: ErrorCode | None
    error: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class StreamAbandoned(Event):
    """
    A stream was left before its end when *chunks* had been delivered, *elapsed* after the call began.

    *reason* is ``closed`` by the consumer, ``dropped`` (garbage-collected), ``paused`` for too long, or ``cancelled``.
    """

    name = "stream_abandoned"
    reason: str
    chunks: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class ThreadAbandoned(Event):
    """
    A caller left a plain sync function that was not done in time, *elapsed* after the attempt began.

    *running* of the target's threads, this one included, run on by now; at *limit* calls are refused.
    """

    name = "thread_abandoned"
    elapsed: float
    running: int
    limit: int


@dataclass(frozen=True, slots=True)
class AbandonedThreadEnded(Event):
    """An abandoned thread ended after all, *late* after its caller had left; *running* others run on."""

    name = "abandoned_thread_ended"
    late: float
    running: int
    limit: int


@dataclass(frozen=True, slots=True)
class ChaosInjected(Event):
    """Chaos was injected into an attempt: a ``delay``, an ``error`` or a ``result``. *delay* is 0 but for a delay."""

    name = "chaos_injected"
    injected: str
    error_code: ErrorCode | None
    delay: float


@dataclass(frozen=True, slots=True)
class PolicyReloaded(Event):
    """
    A policy was loaded again; *target* is the profile's name.

    *targets* have other layers now; the sections in *restart* have changed, but only count for new models.
    """

    name = "policy_reloaded"
    of_policy = True
    targets: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyReloadFailed(Event):
    """A policy could not be loaded again, so nothing has changed; *target* is the profile's name."""

    name = "policy_reload_failed"
    of_policy = True
    error_code: ClassVar[ErrorCode] = ErrorCode.ERR_VAL_INVALID_POLICY
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HedgeSent(Event):
    """Another attempt was sent beside those under way, *delay* after the first of them began."""

    name = "hedge_sent"
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class HedgeWon(Event):
    """An attempt that was sent beside others gave the value, *elapsed* after the first of them began."""

    name = "hedge_won"
    attempt: int
    elapsed: float


@dataclass(frozen=True, slots=True)
class HedgeSkipped(Event):
    """A layer would not let another attempt in beside those under way; they go on."""

    name = "hedge_skipped"
    layer: str
    error_code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class ModelMismatched(Event):
    """The server answered with another model than the one that was asked. Each pair of names is told once a client."""

    name = "model_mismatched"
    asked: str
    answered: str


@dataclass(frozen=True, slots=True)
class ModelLoaded(Event):
    """The server *endpoint* has loaded *model*, for a call that found it unloaded."""

    name = "model_loaded"
    endpoint: str
    model: str
    elapsed: float


@dataclass(frozen=True, slots=True)
class ModelLoadFailed(Event):
    """The server *endpoint* did not load *model*, or not within its grace. The calls that waited go on without."""

    name = "model_load_failed"
    endpoint: str
    model: str
    error_code: ErrorCode | None
    error: str
    elapsed: float
