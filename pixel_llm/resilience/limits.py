"""
The time that is left, handed down to everything a call does.

A stack publishes its limits in a context variable; nested stacks inherit them,
and sockets read them before every single read and write.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock, was_ended


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How long the work under way may take. Immutable.

    *deadline* and *attempt_ends* are moments on *clock* (seconds), *connect* is a
    duration in seconds; None means no limit of this kind. *inherited* tells whether the
    deadline is the caller's rather than the target's own.
    """

    clock: Clock = SYSTEM_CLOCK
    deadline: float | None = None
    attempt_ends: float | None = None
    connect: float | None = None
    inherited: bool = False

    @property
    def ends(self) -> float | None:
        """The moment at which the current attempt must be over: the nearer of the two."""
        if self.attempt_ends is None:
            return self.deadline
        return self.attempt_ends if self.deadline is None else min(self.deadline, self.attempt_ends)

    def remaining(self) -> float | None:
        """Seconds left for the current attempt, not below 0, or None without a limit."""
        ends = self.ends
        if ends is None:
            return 0.0 if was_ended(self.clock) else None
        return max(0.0, ends - self.clock.monotonic())

    def deadline_passed(self) -> bool:
        """True once the whole call, not just its attempt, is out of time."""
        if self.deadline is None:
            return was_ended(self.clock)
        return self.clock.monotonic() >= self.deadline


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Terms:
    """
    The part of the limits that is the same for every call of a stack; see :class:`Limits`.

    A call that can go to several places has terms of its own: *asked* names the places that were really asked.
    """

    clock: Clock = SYSTEM_CLOCK
    connect: float | None = None
    inherited: bool = False
    asked: list[str] | None = field(default=None, compare=False)


NO_TERMS = Terms()

#: The limits as stacks publish them: the moment the attempt ends, the moment of the deadline (inf: no limit), the
#: rest, and how many guarded calls it lies in (-1: in none). Each attempt publishes a list of its own. When it
#: has succeeded, the list is *lifted* in place: whoever still has it, such as a background task that the callable has
#: started, is no longer bound by a call that is over. What failed, or was cut short, stays bound: work that was left
#: behind shall end.
Published = list[Any]

_current: ContextVar[Published] = ContextVar("pixel_llm_limits", default=[inf, inf, NO_TERMS, -1])  # noqa: B039 - never lifted

#: Read, set and reset by the stacks on their hot path; everyone else calls :func:`current_limits`.
get_published = _current.get
set_published = _current.set
reset_published = _current.reset


def lift(limits: Published) -> None:
    """Let *limits* bind nobody any more."""
    limits[0] = limits[1] = inf
    limits[2] = NO_TERMS


def take_back(token: Token[Published]) -> None:
    """Unpublish what :data:`set_published` gave *token* for, when the call is broken off."""
    # A coroutine that nobody awaits any more is closed in another context, in which there is nothing to take back.
    with contextlib.suppress(ValueError):
        reset_published(token)


def current_limits() -> Limits:
    """The limits of the call under way in this thread or task; without one, no limits."""
    ends, deadline, terms, *_ = _current.get()
    return Limits(
        terms.clock,
        None if deadline == inf else deadline,
        None if ends == deadline else ends,
        terms.connect,
        terms.inherited,
    )


def publish(limits: Limits) -> Token[Published]:
    """Make *limits* the current ones, until :func:`reset_published` gets the token."""
    deadline = inf if limits.deadline is None else limits.deadline
    ends = deadline if limits.ends is None else limits.ends
    return _current.set([ends, deadline, Terms(limits.clock, limits.connect, limits.inherited), _current.get()[3]])
