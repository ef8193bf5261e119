"""What must hold of how calls ended, and of the models' counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pixel_llm.errors import ErrorFamily, PixelLMError
from soak.captions.calls import Call, Ending
from soak.captions.policies import DEADLINE, DEFAULT

#: Seconds that a busy machine may take on top of a deadline.
_SLACK = 3.0
#: Families of errors that come of a server that fails, or of a policy that holds calls back.
_FAMILIES = frozenset(
    {
        ErrorFamily.CONNECTION,
        ErrorFamily.TIMEOUT,
        ErrorFamily.API,
        ErrorFamily.CIRCUIT_BREAKER,
        ErrorFamily.RETRY,
        ErrorFamily.LIMIT,
    }
)


class Tally:
    """
    How the calls have ended, and what was wrong with it; it keeps none of them. Belongs to one thread.

    Args:
        captions: What the model says of each picture when all is well.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self._captions = captions
        self.complaints: list[str] = []
        self.endings: Counter[str] = Counter()
        self._counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        self._errors: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}

    def add(self, calls: Sequence[Call], endings: Iterable[Ending]) -> None:
        """The *calls* of a shift have ended so."""
        seen: Counter[int] = Counter()
        for ending in endings:
            seen[ending.call.number] += 1
            self._note(ending)
            self.complaints += [f"{ending.call}: {text}" for text in complain(ending, self._captions)]
        self.complaints += [f"{call} ended {seen[call.number]} times" for call in calls if seen[call.number] != 1]

    def compare(self, served: bool, metrics: Mapping[str, Any]) -> None:
        """See whether the *metrics* of the model with fallbacks, or of the other one, are what its callers saw."""
        counts = self._counts[served]
        expected = {
            "total_requests": counts["result"] + counts["error"],
            "successful_requests": counts["result"],
            "degraded_requests": counts["degraded"],
            "failed_requests": counts["error"],
            "error_counts": dict(self._errors[served]),
        }
        found = {name: metrics[name] for name in expected}
        if found != expected:
            self.complaints.append(f"the model with{'' if served else 'out'} fallbacks counts {found}, not {expected}")

    def _note(self, ending: Ending) -> None:
        counts, errors = self._counts[ending.call.served], self._errors[ending.call.served]
        if ending.result is not None:
            counts["result"] += 1
            counts["degraded"] += ending.result.degraded
            self.endings[f"served by {ending.result.served_by}"] += 1
            if ending.result.error_code is not None:
                errors[ending.result.error_code] += 1
        elif ending.error is not None:
            counts["error"] += 1
            name = str(getattr(ending.error, "error_code", type(ending.error).__name__))
            errors[name] += 1
            self.endings[name] += 1
        else:
            self.endings["left" if ending.call.leaves and ending.text else "cancelled"] += 1


def complain(ending: Ending, captions: Sequence[str]) -> list[str]:
    """What is wrong with one ending."""
    call, result, error, caption = ending.call, ending.result, ending.error, captions[ending.call.picture]
    found = []
    if ending.elapsed > DEADLINE + _SLACK:
        found.append(f"took {ending.elapsed:.1f} s, with a deadline of {DEADLINE:g} s")
    if result is not None:
        if ending.text != result.text:
            found.append(f"its pieces are {ending.text!r}, its result {result.text!r}")
        if result.text != (DEFAULT if result.served_by == "default_value" else caption):
            found.append(f"{result.served_by} served {result.text!r} for {caption!r}")
        if result.degraded and (not call.served or result.error is None):
            found.append(f"is degraded by {result.served_by}, with the error {result.error!r}")
        error = result.error
    elif not caption.startswith(ending.text) and ending.text != DEFAULT:
        found.append(f"its pieces are {ending.text!r}, not the beginning of {caption!r}")
    elif error is None and not (call.leaves and ending.text) and call.cancelled_after is None:
        found.append("ended with nothing, though nobody left it or cancelled it")
    if error is not None and not (isinstance(error, PixelLMError) and error.info.family in _FAMILIES):
        found.append(f"its error is {error!r}")
    return found
