"""
Schedules of failures, played to real stacks in virtual time.

All durations are multiples of 1/64 s, so that sums of floats are exact and bounds can be compared for equality.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from unittest import mock

from hypothesis import strategies as st

from pixel_llm.errors import (
    APIError,
    ErrorCategory,
    ErrorCode,
    PixelLMError,
    RetryExhausted,
    TimeoutError,
    classify_error,
    default_classifier,
    http_status,
)
from pixel_llm.policy import (
    BreakerMode,
    CircuitBreakerConfig,
    Jitter,
    PolicyConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    Vision,
    WindowConfig,
)
from pixel_llm.policy.bounds import CHAT, GENERATE, INSIDE_GENERATE
from pixel_llm.policy.sections.matching import COUNTED_BY_DEFAULT, NOTHING_SENT, RETRIED_BY_DEFAULT, ErrorMatcher
from pixel_llm.resilience import Stack, current_limits, guard
from pixel_llm.testing import VirtualClock

TARGET = "shop.pay"


class OddAnswer(APIError):
    """An answer of a server that the program calls UNKNOWN."""


default_classifier.register(OddAnswer, ErrorCategory.UNKNOWN)


class StrangeAnswer(APIError):
    """An answer of a server that the program calls PERMANENT, whatever its status."""


default_classifier.register(StrangeAnswer, ErrorCategory.PERMANENT)


class OtherError(Exception):
    """An exception of somebody else's that the program calls THROTTLED."""


default_classifier.register(OtherError, ErrorCategory.THROTTLED)


# Policies


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(int(low * 64), int(high * 64)).map(lambda number: number / 64)


RETRY_ON = (
    RETRIED_BY_DEFAULT,
    RETRIED_BY_DEFAULT,
    ErrorMatcher.of("TRANSIENT"),
    ErrorMatcher.of("THROTTLED"),
    ErrorMatcher.of("UNKNOWN"),
    ErrorMatcher.of("TRANSIENT", "UNKNOWN"),
    ErrorMatcher.of("ERR_CONN_REFUSED", "ERR_TIMEOUT_REQUEST"),
    ErrorMatcher.of("ERR_CONN_LOST", "503"),
    ErrorMatcher.of("5xx", "429"),
    ErrorMatcher.of("ERR_API_OVERLOAD"),
)
COUNT = (
    COUNTED_BY_DEFAULT,
    COUNTED_BY_DEFAULT,
    ErrorMatcher.of("TRANSIENT", "UNKNOWN", "THROTTLED"),
    ErrorMatcher.of("5xx"),
    ErrorMatcher.of("ERR_CONN_REFUSED", "ERR_TIMEOUT_REQUEST"),
    ErrorMatcher.of("TRANSIENT", "UNKNOWN", "429"),
    ErrorMatcher.of("TRANSIENT", "THROTTLED", "UNKNOWN", "ERR_RETRY_EXHAUSTED"),
)


@st.composite
def retries(draw: st.DrawFn) -> RetryConfig:
    first = draw(seconds(0, 4))
    return RetryConfig(
        strategy=draw(st.sampled_from(RetryStrategy)),
        max_attempts=draw(st.integers(1, 5)),
        initial_delay=first,
        max_delay=first + draw(seconds(0, 8)),
        backoff_multiplier=draw(st.sampled_from([1.0, 1.5, 2.0, 3.0])),
        jitter=draw(st.sampled_from(Jitter)),
        retry_on=draw(st.sampled_from(RETRY_ON)),
        retry_on_result=draw(st.sampled_from([None, None, "is_rejected"])),
        retry_after_max=draw(seconds(0, 8)),
    )


@st.composite
def breakers(draw: st.DrawFn) -> CircuitBreakerConfig:
    return CircuitBreakerConfig(
        failure_threshold=draw(st.sampled_from([1, 1, 2, 2, 3, 7])),
        cooldown=draw(seconds(1, 30)),
        success_threshold=draw(st.integers(1, 2)),
        half_open_max_calls=draw(st.sampled_from([1, 1, 2])),
        count=draw(st.sampled_from(COUNT)),
    )


BREAKERS = breakers()


@st.composite
def rated_breakers(draw: st.DrawFn) -> CircuitBreakerConfig:
    """Breakers that also open by a rate."""
    minimum = draw(st.integers(1, 8))
    slow = draw(st.none() | seconds(1 / 64, 4))
    count_window = st.integers(minimum, 10).map(lambda calls: WindowConfig(calls=calls))
    return dataclasses.replace(
        draw(breakers()),
        failure_threshold=draw(st.sampled_from([None, 2, 7])),
        failure_rate=draw(st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0])),
        slow_call_rate=draw(st.sampled_from([0.1, 0.5, 1.0])) if slow is not None else None,
        slow_call_duration=slow,
        window=draw(count_window | st.sampled_from([5.0, 20.0]).map(lambda period: WindowConfig(period=period))),
        minimum_calls=minimum,
    )


@st.composite
def any_breakers(draw: st.DrawFn) -> CircuitBreakerConfig:
    """Breakers with any setting that could bear on a call."""
    return dataclasses.replace(
        draw(breakers() | rated_breakers()),
        mode=draw(st.sampled_from([*[BreakerMode.ENABLED] * 5, *BreakerMode])),
        cooldown_multiplier=draw(st.sampled_from([1.0, 2.0])),
        max_cooldown=draw(st.none() | seconds(30, 60)),
        half_open_max_wait=draw(st.none() | seconds(1 / 64, 8)),
    )


@st.composite
def policies(
    draw: st.DrawFn,
    *,
    has_breaker: bool = False,
    breakers: st.SearchStrategy[CircuitBreakerConfig] = BREAKERS,
    waits: bool = False,
) -> TargetPolicy:
    """With *waits*, some wait for the breaker, until their deadline."""
    attempt = draw(st.none() | seconds(1 / 64, 8))
    policy = TargetPolicy(
        deadline=draw(st.none() | seconds(1 / 64, 8) | seconds(8, 40)),
        retry=draw(st.none() | retries() | retries()),
        circuit_breaker=draw(breakers if has_breaker else st.none() | breakers),
        timeout=TimeoutConfig(attempt=attempt) if attempt is not None else None,
        idempotent=draw(st.sampled_from([None, True, False])),
    )
    if waits and policy.retry is not None and policy.deadline is not None and draw(st.booleans()):
        policy = dataclasses.replace(policy, retry=dataclasses.replace(policy.retry, wait_for_breaker=True))
    return policy


# Errors


#: What a result that is no good is called; it is returned, not raised.
REJECTED = "rejected"
FUNCTIONS: dict[str, Callable[[str], bool]] = {"is_rejected": lambda value: value == REJECTED}


def _status(status: int, code: ErrorCode) -> Callable[[float | None], Exception]:
    return lambda asked: APIError(error_code=code, details={"status": status}, retry_after=asked)


#: Errors by name, made with the Retry-After that they carry; those in ANSWERS carry one.
ANSWERS: dict[str, Callable[[float | None], Exception]] = {
    "429": _status(429, ErrorCode.ERR_API_RATE_LIMIT),
    "503": _status(503, ErrorCode.ERR_API_OVERLOAD),
    "500": _status(500, ErrorCode.ERR_API_SERVER_ERROR),
    "no JSON": lambda asked: APIError(error_code=ErrorCode.ERR_API_INVALID_RESPONSE, retry_after=asked),
    "401": _status(401, ErrorCode.ERR_API_UNAUTHORIZED),
    "rate limit": lambda asked: APIError(error_code=ErrorCode.ERR_API_RATE_LIMIT, retry_after=asked),
    "overloaded": lambda asked: APIError(error_code=ErrorCode.ERR_API_OVERLOAD, retry_after=asked),
    "strange 503": lambda asked: StrangeAnswer(details={"status": 503}, retry_after=asked),
    "strange 429": lambda asked: StrangeAnswer(details={"status": 429}, retry_after=asked),
    "odd": lambda asked: OddAnswer(error_code=ErrorCode.ERR_API_INVALID_RESPONSE, retry_after=asked),
}
ERRORS: dict[str, Callable[[float | None], Exception]] = {
    **ANSWERS,
    "refused": lambda asked: ConnectionRefusedError(),
    "unreachable": lambda asked: PixelLMError(error_code=ErrorCode.ERR_CONN_UNAVAILABLE),
    "lost": lambda asked: ConnectionResetError(),
    "timeout": lambda asked: TimeoutError(),
    "unknown": lambda asked: RuntimeError(),
    "other": lambda asked: OtherError(),
    "mistake": lambda asked: TypeError(),
    REJECTED: lambda asked: RetryExhausted(details={"rejected_by": "is_rejected"}),
}


def is_retried(policy: TargetPolicy, error: Exception) -> bool:
    assert policy.retry is not None
    if isinstance(error, RetryExhausted):
        return policy.retry.retry_on_result is not None and policy.idempotent is not False
    classification = classify_error(error)
    sent = policy.idempotent is not False or classification.error_code in NOTHING_SENT
    return sent and policy.retry.retry_on.retries(classification, http_status(error))


def is_counted(policy: TargetPolicy, error: Exception) -> bool:
    breaker = policy.circuit_breaker
    return breaker is not None and breaker.count.matches(classify_error(error), http_status(error))


# One call, and what others do beside it


@dataclass(frozen=True)
class Step:
    """
    What happens in an attempt and in the wait after it.

    *others* are calls of others through the same breaker, by what they end with: an error's name, or ``ok``.
    They come before the time of the attempt passes, after it, before that of the wait, and after it.
    """

    duration: float = 0.0
    error: str | None = None
    asked: float | None = None
    jitter: float = 0.0
    others: tuple[tuple[str, ...], ...] = ((), (), (), ())


class Play:
    """
    Plays steps to the stack of a policy, each attempt one, the last one again and again.

    With *after_outage* the breaker has been open, and its cooldown has just passed. With *open_until* it is open, and
    whoever tries it before that many seconds have passed fails.
    """

    def __init__(
        self, policy: TargetPolicy, *steps: Step, after_outage: bool = False, open_until: float | None = None
    ) -> None:
        self.attempts = 0
        self.elapsed = 0.0
        self._steps = steps
        self._clock = VirtualClock(1024.0)
        self._clock.sleep = self._sleep  # type: ignore[method-assign]
        self._stack = Stack(TARGET, policy, clock=self._clock, find_function=FUNCTIONS.__getitem__)
        breaker = policy.circuit_breaker
        if (
            after_outage
            and breaker is not None
            and (names := [name for name in ERRORS if is_counted(policy, ERRORS[name](None))])
        ):
            self._call_others((names[0],) * (breaker.failure_threshold or breaker.measured_over.size))
            self._clock.advance(breaker.cooldown)
        self._opens: list[float] = []  # when others make trial calls that fail
        if open_until is not None and breaker is not None:
            # The first cooldown ends so that whole ones lie between it and the end.
            whole, part = divmod(open_until, breaker.cooldown)
            if part:
                self._clock.advance(part - breaker.cooldown)
            self._call_others(("refused",) * breaker.failure_threshold)
            if part:
                self._clock.advance(breaker.cooldown - part)
            first = part or breaker.cooldown
            trials = int(whole) if part else int(whole) - 1
            self._opens = [self._clock.monotonic() + first + breaker.cooldown * number for number in range(trials)]

    def run(self) -> Play:
        """Make one call."""
        started = self._clock.monotonic()
        call = guard(self._stack, self._attempt, cooperative=True)
        with mock.patch("random.uniform", self._jitter), contextlib.suppress(Exception):
            call()
        self.elapsed = self._clock.monotonic() - started
        return self

    def _attempt(self) -> str:
        self.attempts += 1
        step = self._step()
        left = current_limits().remaining()
        self._call_others(step.others[0])
        self._clock.advance(step.duration if left is None else min(step.duration, left))
        self._call_others(step.others[1])
        if left is not None and step.duration > left:
            raise TimeoutError
        if step.error is not None and step.error != REJECTED:
            raise ERRORS[step.error](step.asked)
        return step.error or "done"

    def _sleep(self, wait: float) -> None:
        self._call_others(self._step().others[2])
        self._clock.advance(wait)
        self._call_others(self._step().others[3])
        if self._opens and self._clock.monotonic() >= self._opens[0]:
            self._opens.pop(0)
            self._call_others(("refused",))

    def _jitter(self, low: float, high: float) -> float:
        return min(high, max(low, self._step().jitter))

    def _step(self) -> Step:
        return self._steps[min(self.attempts, len(self._steps)) - 1]

    def _call_others(self, results: tuple[str, ...]) -> None:
        for result in results:
            with contextlib.suppress(PixelLMError):
                call = self._stack.begin((), {}, None, self._clock.monotonic())
                call.deadline = math.inf
                permit = self._stack.enter(call)
                if result == "ok":
                    self._stack.gate.record_success(permit, 0.0)
                else:
                    self._stack.settle(call, permit, ERRORS[result](None))


OTHERS = st.tuples(*[st.lists(st.sampled_from(["ok", "ok", "refused", "503", "429"]), max_size=3).map(tuple)] * 4)


@st.composite
def adversaries(draw: st.DrawFn, policy: TargetPolicy) -> list[Step]:
    """Steps that mostly go to the limits of *policy*."""
    retried = retried_errors(policy)
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        asked = st.none() | seconds(0, 10)
        if policy.retry is not None:
            asked |= st.just(policy.retry.retry_after_max)
        steps.append(
            Step(
                duration=draw(st.sampled_from([0.0, 100.0, _attempt(policy)]) | seconds(0, 10)),
                error=draw(st.sampled_from(retried or [None]) | st.none() | st.sampled_from(sorted(ERRORS))),
                asked=draw(asked),
                jitter=draw(st.sampled_from([0.0, 100.0]) | seconds(0, 12)),
                others=draw(st.sampled_from([Step.others, (("ok",), (), (), ())]) | OTHERS),
            )
        )
    return steps


def _attempt(policy: TargetPolicy) -> float:
    return policy.timeout.attempt or 100.0 if policy.timeout is not None else 100.0


def fastest(policy: TargetPolicy) -> list[Step]:
    """The schedule with the most attempts: each fails at once."""
    return [Step(error=_best(policy, None), others=_SUCCESS)]


def longest(policy: TargetPolicy, attempts: int) -> list[Step]:
    """The schedule of so many attempts that takes longest: the last one begins as late as it may."""
    attempt = _attempt(policy) if policy.timeout is not None else math.inf
    least, most = zip(*map(partial(_waits, policy), range(attempts - 1)), strict=True) if attempts > 1 else ((), ())
    spare = math.inf  # what attempts and waits may take in all, beyond the shortest waits
    if policy.deadline is not None:
        spare = max(0.0, policy.deadline - attempt - sum(least))
    steps = []
    for shortest, longest in zip(least, most, strict=True):
        duration = min(attempt, spare)
        more = min(longest - shortest, spare - duration if spare < math.inf else math.inf)
        spare = max(0.0, spare - duration - more) if spare < math.inf else spare
        steps.append(_step(policy, duration, shortest, more))
    return [*steps, Step(attempt, "503", others=_SUCCESS)]


_SUCCESS = (("ok",), (), (), ())


def _waits(policy: TargetPolicy, number: int) -> tuple[float, float]:
    """The shortest and the longest wait after an attempt."""
    assert policy.retry is not None
    shortest, ceiling = policy.retry.floor(number), policy.retry.ceiling(number)
    asked = policy.retry.retry_after_max if _answers(policy) else 0.0
    return shortest, max(asked, shortest) + ceiling - shortest


def _step(policy: TargetPolicy, duration: float, shortest: float, more: float) -> Step:
    """A step of this duration, after which the wait is so much longer than the shortest one."""
    assert policy.retry is not None
    # First what the server asks for beyond the certain part of the wait, then what chance adds.
    beyond = min(more, max(0.0, policy.retry.retry_after_max - shortest)) if _answers(policy) else 0.0
    asked = shortest + beyond if beyond else None
    certain = shortest if policy.retry.jitter is Jitter.DECORRELATED else 0.0  # drawn together with the rest
    return Step(duration, _best(policy, asked), asked, certain + more - beyond, others=_SUCCESS)


def retried_errors(policy: TargetPolicy) -> list[str]:
    """The errors that are retried, those that don't count first, and answers before others."""
    if policy.retry is None:
        return []
    made = {name: make(None) for name, make in ERRORS.items()}
    names = [name for name, error in made.items() if is_retried(policy, error)]
    return sorted(names, key=lambda name: (is_counted(policy, made[name]), name not in ANSWERS))


def _answers(policy: TargetPolicy) -> list[str]:
    """The retried errors that carry a Retry-After and after which the call may indeed be tried again."""
    answers = [name for name in retried_errors(policy) if name in ANSWERS]
    if policy.circuit_breaker is not None and policy.circuit_breaker.failure_threshold == 1:
        return [name for name in answers if not is_counted(policy, ERRORS[name](None))]
    return answers


def _best(policy: TargetPolicy, asked: float | None) -> str | None:
    """An error that is retried; one that carries a Retry-After if need be."""
    return next(iter(_answers(policy) if asked is not None else retried_errors(policy)), None)


# One call of generate(), and what it calls


class GeneratePlay:
    """
    Plays steps to the nested stacks of ``pixel_llm.generate``, wired as :class:`pixel_llm.HybridPixelLLM` does it.

    Each target has its own steps, which begin anew whenever it is called.
    """

    def __init__(self, config: PolicyConfig, steps: Mapping[str, Sequence[Step]]) -> None:
        self.attempts = dict.fromkeys((GENERATE, *INSIDE_GENERATE), 0)
        self.elapsed = 0.0
        self._steps = steps
        self._clock = VirtualClock(1024.0)
        self._jitter = 0.0
        self._inner = [
            self._guarded(config, name)
            for name in INSIDE_GENERATE
            if config.lm_studio.vision is not Vision.IMAGE or name == CHAT
        ]
        own = config.targets.get(GENERATE, TargetPolicy())
        stack = Stack(GENERATE, own, clock=self._clock, find_function=FUNCTIONS.__getitem__)
        self._generate = guard(stack, self._ask, cooperative=True)

    def run(self) -> GeneratePlay:
        """Make one call."""
        started = self._clock.monotonic()
        uniform = mock.patch("random.uniform", lambda low, high: min(high, max(low, self._jitter)))
        with uniform, contextlib.suppress(Exception):
            self._generate()
        self.elapsed = self._clock.monotonic() - started
        return self

    def _ask(self) -> None:
        self.attempts[GENERATE] += 1
        try:
            for call in self._inner:
                call()
        finally:
            self._jitter = self._steps[GENERATE][0].jitter

    def _guarded(self, config: PolicyConfig, name: str) -> Callable[[], None]:
        number = 0

        def attempt() -> None:
            nonlocal number
            step = self._steps[name][min(number, len(self._steps[name]) - 1)]
            number += 1
            self.attempts[name] += 1
            self._jitter = step.jitter
            left = current_limits().remaining()
            self._clock.advance(step.duration if left is None else min(step.duration, left))
            if left is not None and step.duration > left:
                raise TimeoutError
            if step.error is not None:
                raise ERRORS[step.error](step.asked)

        policy = config.targets.get(name, TargetPolicy())
        stack = Stack(name, policy, clock=self._clock, find_function=FUNCTIONS.__getitem__)
        guarded = guard(stack, attempt, cooperative=True)

        def call() -> None:
            nonlocal number
            number = 0
            guarded()

        return call
