"""What became of the calls, in words: for those who see no picture, and for the page's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tools.outages.outage import PHASES, Mood
from tools.outages.playing import Played, PlayedCall

_SERVED_BY = {"call": "the server", "cache": "the cache", "default_value": "the default value"}


def ended_with(call: PlayedCall) -> str:
    """Who served *call*, or what it failed of."""
    return (call.served_by or call.error_code or "").replace("_value", " value")


def in_a_sentence(played: Played) -> str:
    """What a picture shows."""
    served = Counter(call.served_by for call in played.calls if call.served_by)
    failed = Counter(call.error_code for call in played.calls if call.error_code)
    told = [f"{_SERVED_BY[name]} serves {number}" for name, number in served.most_common()]
    told += [f"{number} fail with {code}" for code, number in failed.most_common()]
    opened = [f"{moment:.0f} s" for moment, state in played.states if state == "open"]
    breaker = f"The breaker opens at {' and '.join(opened)}." if opened else "There is no breaker."
    bad = ", then ".join(
        f"{phase.mood} from {phase.begins:.0f} to {phase.ends:.0f} s" for phase in PHASES if phase.mood is not Mood.WELL
    )
    return (
        f"The server {bad}. Of {len(played.calls)} calls, one every 4 s: {', '.join(told)}. "
        f"{breaker} The longest call takes {_longest(played)}."
    )


def table(all_played: Iterable[Played]) -> str:
    """A row for each profile."""
    lines = [
        "| profile | captions of the server | from the cache | default value | errors | longest call |",
        "|---|---|---|---|---|---|",
    ]
    for played in all_played:
        served = Counter(call.served_by or "error" for call in played.calls)
        numbers = " | ".join(str(served[name]) for name in ("call", "cache", "default_value", "error"))
        lines.append(f"| `{played.profile}` | {numbers} | {_longest(played)} |")
    return "\n".join(lines)


def _longest(played: Played) -> str:
    return f"{max(call.ended - call.began for call in played.calls):.1f} s"
