"""
What a profile made of the outage, as an SVG: time from left to right, a row for each call.

The picture brings its own ground, light or dark as the reader's system is, so that it can be read on any page. Nothing
is told by colour alone: ends have shapes, and words where the server did not answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from math import ceil

from tools.outages.outage import PHASES, Mood
from tools.outages.playing import Played, PlayedCall
from tools.outages.telling import ended_with, in_a_sentence

WIDTH, LEFT, RIGHT = 800, 64, 136
SERVER, BREAKER, BAND = 12, 36, 18
ROWS, ROW = 66, 12
#: Below the rows: the axis, then the legend.
FOOT = 66
TICK = 20

_STYLE = """
svg { --ground: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0;
      --good: #1a7f37; --bad: #cf222e; --kept: #0969da; --made: #9a6700; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #3d444d;
        --good: #3fb950; --bad: #f85149; --kept: #4493f8; --made: #d29922; } }
text { font: 11px system-ui, sans-serif; fill: var(--ink); }
.small { font-size: 10px; } .faint { fill: var(--faint); }
.ground { fill: var(--ground); } .grid { stroke: var(--line); } .wait { stroke: var(--faint); }
.good { fill: var(--good); } .bad { fill: var(--bad); } .kept { fill: var(--kept); } .made { fill: var(--made); }
.cross { stroke: var(--bad); stroke-width: 2; fill: none; }
.tint { opacity: 0.28; } .shade { opacity: 0.07; }
"""

_MOODS = {Mood.WELL: "good", Mood.REFUSING: "bad", Mood.SILENT: "made"}
_WORDS = {Mood.WELL: "answers", Mood.REFUSING: "refuses", Mood.SILENT: "is silent"}
_STATES = {"closed": "good", "open": "bad", "half_open": "made"}
_LEGEND = (
    ("attempt good", "answered"),
    ("attempt bad", "failed"),
    ("wait", "waits"),
    ("call", "caption"),
    ("cache", "from the cache"),
    ("default_value", "default value"),
    ("error", "error"),
)


def draw(played: Played, until: float) -> str:
    """The picture of *played*. Its time ends at *until*, in seconds, or a little later."""
    until = TICK * ceil(until / TICK)
    bottom = ROWS + ROW * len(played.calls)
    height = bottom + FOOT
    name = f"outage-{played.profile}"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">The profile {played.profile} in an outage</title>',
        f'<desc id="{name}-desc">{escape(in_a_sentence(played))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        *_server(until, bottom),
        *_breaker(played, until),
        *_axis(until, bottom),
        *(part for call in played.calls for part in _call(call, until)),
        *_legend(bottom + 46),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(moment: float, until: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(moment, until) / until


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _server(until: float, bottom: int) -> Iterator[str]:
    yield _text(8, SERVER + 13, "server")
    for phase in PHASES:
        yield from _band(SERVER, phase.begins, phase.ends, until, _MOODS[phase.mood], _WORDS[phase.mood])
        if phase.mood is not Mood.WELL:
            left, right = _x(phase.begins, until), _x(phase.ends, until)
            yield _rect(left, ROWS - 2, right - left, bottom - ROWS + 2, f"{_MOODS[phase.mood]} shade")


def _breaker(played: Played, until: float) -> Iterator[str]:
    yield _text(8, BREAKER + 13, "breaker")
    if not played.states:
        yield _text(LEFT + 4, BREAKER + 13, "none", "small faint")
    for (begins, state), (ends, _) in pairwise((*played.states, (until, ""))):
        yield from _band(BREAKER, begins, ends, until, _STATES[state], state.replace("_", " "))


def _band(y: float, begins: float, ends: float, until: float, kind: str, word: str) -> Iterator[str]:
    left, right = _x(begins, until), _x(ends, until)
    yield _rect(left, y, max(right - left, 1.5), BAND, f"{kind} tint")
    if right - left > 6 * len(word):
        yield _text(left + 4, y + 13, word, "small")


def _axis(until: float, bottom: int) -> Iterator[str]:
    yield _text(8, ROWS + 10, "calls")
    for moment in range(0, int(until) + 1, TICK):
        x = _number(_x(moment, until))
        yield f'<line class="grid" x1="{x}" y1="{ROWS - 4}" x2="{x}" y2="{bottom + 4}" opacity="0.6"/>'
        yield f'<text class="small faint" x="{x}" y="{bottom + 17}" text-anchor="middle">{moment} s</text>'


def _call(call: PlayedCall, until: float) -> Iterator[str]:
    y = ROWS + ROW * call.number + ROW / 2
    begins, ends = _x(call.began, until), _x(call.ended, until)
    if ends > begins:
        yield _wait(begins, ends, y)
    for attempt in call.attempts:
        left, right = _x(attempt.began, until), _x(attempt.ended, until)
        yield _attempt(left, right, y, "good" if attempt.error_code is None else "bad")
    yield _end(call.served_by or "error", ends + 6, y)
    if call.served_by != "call":
        yield _text(ends + 14, y + 3.5, ended_with(call), "small")


def _wait(begins: float, ends: float, y: float) -> str:
    return f'<line class="wait" x1="{_number(begins)}" y1="{_number(y)}" x2="{_number(ends)}" y2="{_number(y)}"/>'


def _attempt(left: float, right: float, y: float, kind: str) -> str:
    return _rect(left, y - 3, max(right - left, 2), 6, kind)


def _end(what: str, x: float, y: float) -> str:
    a, b = _number(x), _number(y)
    match what:
        case "call":
            return f'<circle class="good" cx="{a}" cy="{b}" r="3.5"/>'
        case "cache":
            return f'<path class="kept" d="M{a} {_number(y - 4.5)}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>'
        case "default_value":
            return f'<rect class="made" x="{_number(x - 3.5)}" y="{_number(y - 3.5)}" width="7" height="7"/>'
        case _:
            return f'<path class="cross" d="M{_number(x - 3)} {_number(y - 3)}l6 6m0 -6l-6 6"/>'


def _legend(y: float) -> Iterator[str]:
    x = float(LEFT)
    for sign, words in _LEGEND:
        if sign.startswith("attempt"):
            yield _attempt(x - 6, x + 8, y, sign.removeprefix("attempt "))
        elif sign == "wait":
            yield _wait(x - 6, x + 8, y)
        else:
            yield _end(sign, x, y)
        yield _text(x + 14, y + 4, words, "small")
        x += 34 + 5.6 * len(words)


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"/>'
    )


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{_number(x)}" y="{_number(y)}">{escape(text)}</text>'
