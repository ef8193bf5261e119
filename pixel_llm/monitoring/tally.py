"""What the stacks' own counters lack: by layer, by code, by step; what no stack tells; and the last errors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pixel_llm.errors import ErrorCode, ErrorFamily
from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    CallRefused,
    CircuitStateChanged,
    Event,
    FallbackServed,
    ModelLoaded,
    ModelLoadFailed,
    ModelMismatched,
    PolicyReloaded,
    PolicyReloadFailed,
    StreamBroken,
)
from pixel_llm.monitoring.counts import Counts, Peak
from pixel_llm.monitoring.recent import Recent
from pixel_llm.monitoring.snapshot.model import RecentError, ReloadsSnapshot

#: What stands in a code's place for an exception that no code of ours describes.
UNKNOWN_CODE = "unknown"

#: So many errors of all targets together are kept for people who look.
RECENT = 50

#: Longer texts of errors are cut.
LONGEST_TEXT = 300

#: That an open breaker refuses follows from the errors that opened it.
_ECHOES = (ErrorCode.ERR_CB_OPEN, ErrorCode.ERR_CB_HALF_OPEN)


class TargetTally:
    """What was told of one target."""

    __slots__ = (
        "attempt_errors",
        "attempts",
        "changed_at",
        "errors",
        "events",
        "fallbacks",
        "last_error",
        "recent",
        "refusals",
    )

    def __init__(self, since: float) -> None:
        self.refusals: Counts[tuple[str, str]] = Counts()
        self.fallbacks: Counts[str] = Counts()
        self.errors: Counts[str] = Counts()
        self.attempt_errors: Counts[str] = Counts()
        #: Events that no stack tells, by name.
        self.events: Counts[str] = Counts()
        self.last_error: RecentError | None = None
        #: When the breaker of each key changed its state last.
        self.changed_at: dict[str, float] = {}
        #: Attempts that had succeeded when snapshots were taken.
        self.attempts = Peak()
        self.recent = Recent(since)


class Tally:
    """
    A listener that counts what is not a clean success, by target. Safe for concurrent use; takes no lock.

    Its memory grows with the targets, their layers, codes and steps; all of them are bounded by the policy. Of
    breakers by key it remembers no more than *max_keys* moments a target.

    Args:
        now: Gives the time of day, in seconds since 1970.
        monotonic: Gives seconds from any moment on, which never go back: for what happened lately.
        max_keys: See above.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_keys: int = 1000,
    ) -> None:
        self._now = now
        self.monotonic = monotonic
        self._max_keys = max_keys
        self._targets: dict[str, TargetTally] = {}
        self._recent: deque[RecentError] = deque(maxlen=RECENT)
        self._reloads: Counts[bool] = Counts()
        self._reload_failed = False
        self.since = now()
        self._began = monotonic()

    def __call__(self, event: Event) -> None:
        """Count *event*."""
        take = _TAKERS.get(type(event))
        if take is not None:
            take(self, event)

    def of(self, target: str) -> TargetTally:
        """What was told of *target*."""
        known = self._targets.get(target)
        return known if known is not None else self._targets.setdefault(target, TargetTally(self._began))

    def recent(self) -> tuple[RecentError, ...]:
        """The last errors of calls of all targets, the latest first."""
        return tuple(reversed(self._recent.copy()))

    def reloads(self) -> ReloadsSnapshot:
        """How often the policy was loaded again."""
        counts = self._reloads.read()
        return ReloadsSnapshot(
            succeeded=counts.get(True, 0), failed=counts.get(False, 0), last_failed=self._reload_failed
        )

    def now(self) -> float:
        """The time of day, in seconds since 1970."""
        return self._now()

    def keep_only(self, targets: Iterable[str]) -> None:
        """Forget all targets but these: the policy was loaded again and lacks them, so their counters are gone too."""
        kept = set(targets)
        for gone in [name for name in self._targets.copy() if name.partition("[")[0] not in kept]:
            self._targets.pop(gone, None)

    def _refused(self, event: CallRefused) -> None:
        self.of(event.target).refusals.add((event.layer, name_of(event.error_code)))

    def _served(self, event: FallbackServed) -> None:
        self.of(event.target).fallbacks.add(event.served_by)

    def _attempt_failed(self, event: AttemptFailed | StreamBroken) -> None:
        target = self.of(event.target)
        target.attempt_errors.add(name_of(event.error_code))
        if isinstance(event, AttemptFailed) and not (event.error_code in _ECHOES and target.last_error):
            target.last_error = self._error(event)

    def _failed(self, event: CallFailed) -> None:
        target, code = self.of(event.target), event.error_code
        target.errors.add(name_of(code))
        family = None if code is None else code.info.family
        if family is not ErrorFamily.VALIDATION:  # the caller's own input says nothing of the target
            target.recent.fail(self.monotonic(), refused=family is ErrorFamily.LIMIT)
        if not (code in _ECHOES and target.last_error):
            target.last_error = error = self._error(event)
            self._recent.append(error)

    def _changed(self, event: CircuitStateChanged) -> None:
        changed_at, key = self.of(event.target).changed_at, event.breaker or ""
        if key in changed_at or len(changed_at) < self._max_keys:
            changed_at[key] = self._now()

    def _model(self, event: ModelLoaded | ModelLoadFailed | ModelMismatched) -> None:
        self.of(event.target).events.add(event.name)

    def _reload(self, event: PolicyReloaded | PolicyReloadFailed) -> None:
        succeeded = isinstance(event, PolicyReloaded)
        self._reloads.add(succeeded)
        self._reload_failed = not succeeded

    def _error(self, event: AttemptFailed | CallFailed) -> RecentError:
        return RecentError(
            at=self._now(), target=event.target, code=name_of(event.error_code), text=event.error[:LONGEST_TEXT]
        )


_TAKERS: dict[type[Event], Callable[[Tally, Any], None]] = {
    AttemptFailed: Tally._attempt_failed,
    CallFailed: Tally._failed,
    CallRefused: Tally._refused,
    CircuitStateChanged: Tally._changed,
    FallbackServed: Tally._served,
    ModelLoaded: Tally._model,
    ModelLoadFailed: Tally._model,
    ModelMismatched: Tally._model,
    PolicyReloaded: Tally._reload,
    PolicyReloadFailed: Tally._reload,
    StreamBroken: Tally._attempt_failed,
}


def name_of(code: ErrorCode | None) -> str:
    """The code as metrics name it."""
    return UNKNOWN_CODE if code is None else code.value
