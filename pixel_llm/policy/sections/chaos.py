"""The `chaos` section: faults that are injected on purpose, to see what the other layers make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ErrorCode
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, JSONSchema, Kind, ListOf, Number, SchemaBuilder
from pixel_llm.policy.settings import Section, setting
from pixel_llm.policy.showing import show

#: What a server or an encoder can fail of; wrong input and refusals of a stack's own layers are not injected.
INJECTABLE = tuple(
    code
    for code in ErrorCode
    if code.info.family in ("CONNECTION", "TIMEOUT", "API", "ENCODER") and code is not ErrorCode.ERR_TIMEOUT_DEADLINE
)


@dataclass(frozen=True)
class _InjectableCode(Kind):
    """One of the error codes that can be injected."""

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        title = "the code of an error that a server or an encoder can fail of, such as ERR_CONN_REFUSED"
        schema = {"title": title, "anyOf": [{"enum": [code.value for code in INJECTABLE]}]}
        return build.scalar(build.define("injectable_code", lambda: schema))

    def freeze(self, value: str) -> ErrorCode:
        return ErrorCode(value)

    def thaw(self, value: ErrorCode) -> str:
        return value.value


_RATE = Number(0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosError:
    """Attempts that fail without the call being made. Immutable, safe to share between threads."""

    rate: float = setting(_RATE, "The share of attempts that fail, 0 to 1.", example=0.1)
    codes: tuple[ErrorCode, ...] = setting(
        ListOf(_InjectableCode()),
        "The errors they fail of, each as often as the others.",
        default=(ErrorCode.ERR_CONN_LOST,),
        example=["ERR_CONN_REFUSED", "ERR_API_OVERLOAD"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosDelay:
    """Attempts that begin late. ``duration`` is seconds. Immutable, safe to share between threads."""

    rate: float = setting(_RATE, "The share of attempts that are delayed, 0 to 1.", example=0.2)
    duration: float = setting(Duration(), "How long they are delayed.", example="3s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosResult:
    """Attempts that give a value without the call being made. Immutable, safe to share between threads."""

    rate: float = setting(_RATE, "The share of attempts that give the value, 0 to 1.", example=0.01)
    value: Any = setting(Kind(), "The value that they give, of any kind.", example="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosConfig:
    """
    Faults that are injected into attempts, innermost of all layers. Not for production.

    Whether an attempt is delayed, fails, or gives a value of its own is drawn for each by itself; one that
    is to fail and to give a value fails. Immutable, safe to share between threads.
    """

    error: ChaosError | None = setting(
        Section(ChaosError),
        "Attempts that fail without the call being made.",
        default=None,
        example={"rate": 0.1, "codes": ["ERR_CONN_REFUSED", "ERR_API_OVERLOAD"]},
    )
    delay: ChaosDelay | None = setting(
        Section(ChaosDelay),
        "Attempts that begin late; the attempt's timeout and the deadline end the delay.",
        default=None,
        example={"rate": 0.2, "duration": "3s"},
    )
    result: ChaosResult | None = setting(
        Section(ChaosResult),
        "Attempts that give a value without the call being made.",
        default=None,
        example={"rate": 0.01, "value": ""},
    )
    seed: int | None = setting(
        Integer(0, 2**31 - 1),
        "Makes the draws the same in every run: the target's first attempt meets the first, and so on.",
        default=None,
        example=7,
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        parts = []
        if self.delay is not None:
            parts.append(f"delays {_share(self.delay.rate)} by {format_duration(self.delay.duration)}")
        if self.error is not None:
            parts.append(f"fails {_share(self.error.rate)} with {', '.join(self.error.codes)}")
        if self.result is not None:
            parts.append(f"gives {show(self.result.value)} to {_share(self.result.rate)}")
        return ", ".join(parts) + ("" if self.seed is None else f"; seed {self.seed}")


def _share(rate: float) -> str:
    return f"{100 * rate:g} % of the attempts"
