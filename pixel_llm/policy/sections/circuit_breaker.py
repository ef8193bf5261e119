"""The `circuit_breaker` section: when to stop calling something that fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Choice, Duration, Integer, Number, Text
from pixel_llm.policy.sections.matching import COUNTED_BY_DEFAULT, ERROR_NAMES, ErrorMatcher
from pixel_llm.policy.settings import Section, setting
from pixel_llm.policy.showing import count

#: What ``per`` says where the whole target has one breaker.
PER_TARGET = "target"

#: Failures in a row that open a breaker of which nothing else is known.
DEFAULT_THRESHOLD = 5

#: A window of time forgets calls in steps of this part of its period.
WINDOW_STEPS = 20


class BreakerMode(StrEnum):
    """What a breaker does with what it measures."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    FORCED_OPEN = "forced_open"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """
    The latest calls that rates are taken of: so many of them, or those of so many seconds. Immutable.

    One of the two is set at most; with neither it is the last 100 calls (as in resilience4j). ``period`` is seconds.
    """

    calls: int | None = setting(
        Integer(1, 100_000),
        "The last so many calls: 100 where neither this nor period is given.",
        default=None,
        example=100,
    )
    period: float | None = setting(
        Duration(), "The calls of the last so long, to a twentieth of it.", default=None, example="30s"
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        if self.period is not None:
            return f"the calls of the last {format_duration(self.period)}"
        return f"the last {count(self.size, 'call')}"

    @property
    def size(self) -> int:
        """How many calls it holds, where it has no period."""
        return 100 if self.calls is None else self.calls


_DEFAULT_WINDOW = WindowConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """
    When calls are refused without being tried. Immutable, safe to share between threads.

    Any of the conditions that are set opens the breaker. ``failure_threshold`` is 5 unless there is a
    ``failure_rate``, which then stands in its place. ``cooldown``, ``max_cooldown``, ``slow_call_duration``
    and ``half_open_max_wait`` are seconds.
    """

    mode: BreakerMode = setting(
        Choice(BreakerMode),
        "enabled refuses calls while open. shadow measures, reports what it would have done, and refuses nobody. "
        "forced_open refuses every call. disabled does nothing at all.",
        default=BreakerMode.ENABLED,
        example="shadow",
    )
    failure_threshold: int | None = setting(
        Integer(1, 10_000),
        "Failures in a row that open the breaker: 5 where neither this nor failure_rate is given.",
        default=None,
        example=5,
    )
    failure_rate: float | None = setting(
        Number(0.0001, 1),
        "The part of the calls in the window that must fail to open the breaker.",
        default=None,
        example=0.5,
    )
    slow_call_rate: float | None = setting(
        Number(0.0001, 1),
        "The part of the calls in the window that must be slow to open the breaker, failed or not.",
        default=None,
        example=0.8,
    )
    slow_call_duration: float | None = setting(
        Duration(),
        "An attempt that takes longer is slow. A trial call that succeeds, but slowly, opens the breaker again.",
        default=None,
        example="20s",
    )
    window: WindowConfig | None = setting(
        Section(WindowConfig),
        "The calls that the rates are taken of: the last 100 where this is not given.",
        default=None,
        example={"period": "30s"},
    )
    minimum_calls: int = setting(
        Integer(1, 100_000), "Fewer calls in the window never open the breaker by a rate.", default=20, example=20
    )
    cooldown: float = setting(
        Duration(),
        "How long an open breaker refuses every call before it lets trial calls through.",
        default=60.0,
        example="60s",
    )
    cooldown_multiplier: float = setting(
        Number(1, 100),
        "What the cooldown is multiplied by each time the breaker opens again without having been closed.",
        default=1.0,
        example=2,
    )
    max_cooldown: float | None = setting(Duration(), "No cooldown grows beyond this.", default=None, example="10m")
    success_threshold: int = setting(
        Integer(1, 10_000), "Trial calls in a row that must succeed to close it again.", default=2, example=2
    )
    half_open_max_calls: int = setting(
        Integer(1, 10_000), "Trial calls that may be under way at once.", default=1, example=1
    )
    half_open_max_wait: float | None = setting(
        Duration(),
        "When all trial calls have been under way for so long without one of them ending, the breaker opens again; "
        "else trial calls that hang block it for ever.",
        default=None,
        example="2m",
    )
    per: str = setting(
        Text("target, or the name of an argument such as model or endpoint", r"^[a-z_][a-z0-9_]*$"),
        "Who has a breaker: the target has one, or each value of the argument of this name, such as model or endpoint, "
        "has one of its own. A program may say with `breaker_key=` how else a call's key is found.",
        default=PER_TARGET,
        example="model",
    )
    max_keys: int = setting(
        Integer(1, 10_000),
        "How many breakers there are at most with `per`. Beyond, the closed one used longest ago is forgotten.",
        default=100,
        example=100,
    )
    count: ErrorMatcher = setting(
        ERROR_NAMES,
        "The errors that count as failures, by category, code or HTTP status; all others are neither failure nor "
        "success. The list replaces the default.",
        default=COUNTED_BY_DEFAULT,
        example=["TRANSIENT", "UNKNOWN", "429"],
    )

    def __post_init__(self) -> None:
        if self.failure_threshold is None and self.failure_rate is None:
            object.__setattr__(self, "failure_threshold", DEFAULT_THRESHOLD)

    @property
    def has_rate(self) -> bool:
        """True if rates are measured, so that every call must be told."""
        return self.failure_rate is not None or self.slow_call_rate is not None

    @property
    def measured_over(self) -> WindowConfig:
        """The window of the rates."""
        return self.window or _DEFAULT_WINDOW

    @property
    def refuses(self) -> bool:
        """True if there are calls that it refuses."""
        return self.mode in (BreakerMode.ENABLED, BreakerMode.FORCED_OPEN)

    @property
    def measures(self) -> bool:
        """True if what calls end with opens and closes it."""
        return self.mode in (BreakerMode.ENABLED, BreakerMode.SHADOW)

    def cooldown_after(self, openings: int) -> float:
        """The cooldown in seconds after it has opened *openings* times, counted from 1, without having been closed."""
        grown = self.cooldown * self.cooldown_multiplier ** min(openings - 1, 64)
        return grown if self.max_cooldown is None else min(grown, self.max_cooldown)

    def in_words(self) -> str:
        """What it means, in a few words."""
        if self.mode is BreakerMode.DISABLED:
            return "disabled: lets every call through, and measures nothing"
        if self.mode is BreakerMode.FORCED_OPEN:
            return "forced open: refuses every call"
        shadow = "shadow, refuses nobody: " if self.mode is BreakerMode.SHADOW else ""
        counted = "" if self.count == COUNTED_BY_DEFAULT else f" of {', '.join(self.count.names())}"
        key = "" if self.per == PER_TARGET else f"; one for each {self.per}, at most {self.max_keys}"
        hung = "" if self.half_open_max_wait is None else f", for {format_duration(self.half_open_max_wait)} at most"
        return (
            f"{shadow}opens {', or '.join(self._conditions(counted))}, for {self._cooldown_in_words()}; "
            f"closes after {count(self.success_threshold, 'trial call')}, {self.half_open_max_calls} at once{hung}{key}"
        )

    def _conditions(self, counted: str) -> list[str]:
        conditions = []
        if self.failure_threshold is not None:
            conditions.append(f"after {count(self.failure_threshold, 'failure')} in a row{counted}")
        calls = f"of {self.measured_over.in_words()}"
        least = f"({count(self.minimum_calls, 'call')} at least)"
        if self.failure_rate is not None:
            conditions.append(f"when {_percent(self.failure_rate)} {calls} fail{counted} {least}")
        if self.slow_call_rate is not None and self.slow_call_duration is not None:
            limit = format_duration(self.slow_call_duration)
            conditions.append(f"when {_percent(self.slow_call_rate)} {calls} take longer than {limit} {least}")
        return conditions

    def _cooldown_in_words(self) -> str:
        words = format_duration(self.cooldown)
        if self.cooldown_multiplier > 1:
            words += f", then × {self.cooldown_multiplier:g} each time"
            words += f" up to {format_duration(self.max_cooldown)}" if self.max_cooldown is not None else ""
        return words


def _percent(rate: float) -> str:
    return f"{100 * rate:.6g}%"
