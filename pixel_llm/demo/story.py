"""
What happens in the demonstration, act by act.

Everything is real: the shipped `production` policy, the torch encoder, TCP connections to a
scripted LM Studio. Only the times are shorter than production's, so that nobody has to wait.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixel_llm.demo.pictures import PICTURES
from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.events import AttemptFailed, CallRefused, Event, RetryScheduled
from pixel_llm.hybrid import HybridPixelLLM
from pixel_llm.policy import shipped_folder
from pixel_llm.testing import Answer, Garbage, Hang, ScriptedLMStudio, Status

CHAT = "lm_studio.chat"
COOLDOWN = 2.5

#: What is laid over `production`: shorter times, no chance in them, and a log that is thrown away.
TEMPO: Mapping[str, Any] = {
    CHAT: {
        "timeout": {"attempt": "1s"},
        "retry": {"initial_delay": "300ms", "jitter": "none"},
        "circuit_breaker": {"cooldown": f"{COOLDOWN}s"},
    }
}
TEMPO_IN_WORDS = "timeout 30s → 1s, first wait 1s → 300ms without jitter, cooldown 60s → 2.5s"


@dataclass(frozen=True, slots=True)
class Act:
    """
    One call: the picture that is asked about and what the server does meanwhile.

    *comes_back_after* so many failed attempts, a server that refuses listens again.
    """

    server: str
    picture: str
    prepare: Callable[[ScriptedLMStudio], None]
    comes_back_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What became of one call. *timeline* tells its attempts and waits; durations are seconds."""

    number: int
    server: str
    picture: str
    caption: str | None
    served_by: str | None
    degraded: bool
    attempts: int
    elapsed: float
    breaker_state: str
    error_code: ErrorCode | None
    timeline: tuple[str, ...]


@dataclass(slots=True)
class Summary:
    """The calls so far, counted. Grows while the story is played."""

    calls: list[Call] = field(default_factory=list)
    log: str = ""

    def sentence(self) -> str:
        """What was shown, in one line."""
        served = [call.served_by for call in self.calls]
        cached, default = served.count("cache"), served.count("default_value")
        refused = sum(call.attempts == 0 for call in self.calls)
        return (
            f"Shown: {len(self.calls)} captions asked of a failing server, {len(served) - served.count(None)} served: "
            f"{served.count('lm_studio')} by LM Studio, {cached} from the cache, {default} by the default; "
            f"{sum(call.attempts for call in self.calls)} attempts, {refused} call refused by the open breaker, "
            f"which is {self.calls[-1].breaker_state} again."
        )


def _script(*steps: Any) -> Callable[[ScriptedLMStudio], None]:
    return lambda server: server.extend(steps)


def _come_back(server: ScriptedLMStudio) -> None:
    server.accept()
    time.sleep(COOLDOWN)


ACTS = (
    Act("answers", "sunset", _script(Answer())),
    Act("still starting: refuses two connections", "flag", lambda server: server.refuse(), comes_back_after=2),
    Act("overloaded: 503, Retry-After: 1", "sunset", _script(Status(status=503, retry_after=1, message="busy"))),
    Act("a broken proxy sends garbage, then JSON cut short", "flag", _script(Garbage(), Garbage(kind="json"))),
    Act("stalls: accepts and never answers", "sunset", _script(Hang(), Hang(), Hang())),
    Act("dies: the port is closed", "meadow", lambda server: server.refuse()),
    Act("is still dead", "flag", _script()),
    Act("is back, the cooldown is over: first trial", "meadow", _come_back),
    Act("answers: second trial", "sunset", _script()),
)


def play(summary: Summary) -> Iterator[Act | Call]:
    """Play the story: each act as it begins, then the call it led to. *summary* keeps count."""
    with tempfile.TemporaryDirectory(prefix="pixel-llm-demo-") as folder, ScriptedLMStudio() as server:
        log = Path(folder) / "pixel_llm.log"
        narrator = _Narrator(server)
        overrides = {"lm_studio": {"base_url": server.base_url}, "logging": {"file": str(log)}, "targets": TEMPO}
        with HybridPixelLLM(
            "production", shipped_folder("policies"), error_config=overrides, listeners=[narrator]
        ) as hybrid:
            hybrid.load()
            for number, act in enumerate(ACTS, 1):
                yield act
                narrator.begin(act)
                call = _call(number, act, hybrid, narrator.timeline)
                summary.calls.append(call)
                yield call
        summary.log = log.read_text("utf-8")


class _Narrator:
    """A listener that tells the timeline of each call, and lets the server come back when the act says so."""

    def __init__(self, server: ScriptedLMStudio) -> None:
        self.timeline: list[str] = []
        self._server = server
        self._act = ACTS[0]

    def begin(self, act: Act) -> None:
        self._act = act
        self.timeline.clear()
        act.prepare(self._server)

    def __call__(self, event: Event) -> None:
        if event.target != CHAT:
            return
        if isinstance(event, AttemptFailed):
            self.timeline.append(f"✗ {event.error_code}")
            if event.attempt == self._act.comes_back_after:
                self._server.accept()
        elif isinstance(event, RetryScheduled):
            self.timeline.append(f"wait {event.delay:.1f} s")
        elif isinstance(event, CallRefused):
            self.timeline.append(f"refused by the open breaker, next trial in {event.retry_after or 0:.1f} s")


def _call(number: int, act: Act, hybrid: HybridPixelLLM, timeline: list[str]) -> Call:
    started = time.monotonic()
    pixels = PICTURES[act.picture]()
    facts: dict[str, Any]
    try:
        result = hybrid.generate(pixels)
    except PixelLMError as error:  # the policy ends in a default value, so this would be news
        timeline.append(f"✗ {error.error_code}")
        facts = {"caption": None, "served_by": None, "degraded": False, "error_code": error.error_code}
        facts["attempts"] = error.attempts or 0
    else:
        if not result.degraded:
            timeline.append("✓")
        facts = {"caption": result.text, "served_by": result.served_by, "degraded": result.degraded}
        facts |= {"error_code": result.error_code, "attempts": result.attempts}
    return Call(
        number=number,
        server=act.server,
        picture=act.picture,
        elapsed=time.monotonic() - started,
        breaker_state=hybrid.policies.breaker(CHAT).state.value,
        timeline=tuple(timeline),
        **facts,
    )
