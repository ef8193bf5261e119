"""Real threads that run one at a time; who is next is drawn from a seed."""

from __future__ import annotations

import _thread
import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from math import inf
from random import Random
from types import CodeType, FrameType
from typing import Any

from soak.clock import SoakClock
from soak.loop import Stuck

#: More hand-overs than any schedule of ours needs.
MAX_SWITCHES = 200_000

#: Real seconds after which a run counts as stuck on something that is not stepped.
PATIENCE = 60.0

_here = threading.local()


class Hand:
    """A real thread that is lent to one stepped thread after the other."""

    def __init__(self) -> None:
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.job: Callable[[], None] | None = None
        _thread.start_new_thread(self._work, ())

    def _work(self) -> None:
        while True:
            self.gate.acquire()
            job, self.job = self.job, None
            if job is not None:
                job()


class Dismissed(BaseException):
    """Ends a thread that would wait for ever."""


class Stepped:
    """One thread of a schedule. One that *stays* may wait for ever for something to do."""

    __slots__ = ("dismissed", "ended", "hand", "name", "stays", "timed_out", "until", "waits_for")

    def __init__(self, hand: Hand, name: str, stays: bool) -> None:
        self.hand = hand
        self.name = name
        self.stays = stays
        self.dismissed = False
        self.ended = False
        self.until = inf
        self.waits_for: object = None
        self.timed_out = False


class Stepper:
    """
    Runs the threads of one schedule, each until it reaches a point at which another may go on.

    Such points are: taking and giving back a lock, waiting, sleeping, starting a thread; and with
    *lines* (or *opcodes*) the beginning of lines (or single instructions) of the code that *stepped* names,
    so many apart on average. The clock moves when all threads wait.

    Args:
        clock: Their time.
        chance: Who is next.
        lines: Lines, or instructions, between two switches on average; 0 switches only where threads wait or lock.
        opcodes: Count instructions instead of lines.
        stepped: Whether the lines of a code object count.
    """

    _spare: list[Hand] = []  # noqa: RUF012 - one for all: starting a thread costs more than lending one

    def __init__(
        self,
        clock: SoakClock,
        chance: Random,
        *,
        lines: int = 0,
        opcodes: bool = False,
        stepped: Callable[[CodeType], bool] = lambda code: False,
    ) -> None:
        self.clock = clock
        self.switches = 0
        self.problems: list[str] = []
        self._chance = chance
        self._lines = lines
        self._opcodes = opcodes
        self._stepped = stepped
        self._left = self._draw_lines()
        self._runnable: list[Stepped] = []
        self._waiting: list[Stepped] = []
        self._driver = _thread.allocate_lock()
        self._driver.acquire()
        self._broken: str | None = None
        self._trace = self._trace_opcodes if opcodes else self._trace_lines

    # From outside

    def run(self) -> None:
        """
        Run every thread to its end, those that they start included; or until those that stay have nothing to do.

        Raises:
            Stuck: If they wait for each other, or never end.
        """
        if not self._runnable and not self._has_timers():
            return
        self.clock.stepper = self
        try:
            self._hand_over(self._next())
            if not self._driver.acquire(timeout=PATIENCE):
                self._broken = "a thread hangs on something that is not stepped"
            if self._broken is not None:
                raise Stuck(self._broken + self._whereabouts())
        finally:
            self.clock.stepper = None

    def dismiss(self) -> None:
        """End the threads that stay."""
        while self._broken is None and self._waiting:
            thread = self._waiting.pop()
            thread.dismissed = True
            self._runnable.append(thread)
            self.run()

    def spawn(self, body: Callable[[], None], name: str = "thread", *, stays: bool = False) -> Stepped:
        """Add a thread. It begins when it is picked. One that *stays* does not keep the others from being done."""
        spare = Stepper._spare
        hand = spare.pop() if spare else Hand()
        thread = Stepped(hand, name, stays)
        context = contextvars.Context()
        hand.job = lambda: context.run(self._carry, thread, body)
        self._runnable.append(thread)
        return thread

    def steps_this_thread(self) -> bool:
        """True in a thread of this stepper."""
        return getattr(_here, "stepper", None) is self

    # From the threads

    def point(self) -> None:
        """Perhaps let another thread go on."""
        if len(self._runnable) > 1:
            self._switch(_here.thread)

    def sleep(self, seconds: float) -> None:
        """Wait until *seconds* have passed."""
        self.wait(None, seconds)

    def wait(self, what: object, seconds: float = inf) -> bool:
        """
        Wait until somebody calls :meth:`wake` for *what*, at most *seconds*.

        Returns:
            False if the time was up.
        """
        thread: Stepped = _here.thread
        thread.waits_for, thread.until, thread.timed_out = what, self.clock.now + seconds, False
        self._runnable.remove(thread)
        self._waiting.append(thread)
        self._switch(thread)
        return not thread.timed_out

    def wake(self, what: object, number: int | None = None) -> None:
        """Let those who wait for *what* go on: *number* of them, the first ones, or all."""
        woken = [thread for thread in self._waiting if thread.waits_for is what][:number]
        for thread in woken:
            self._waiting.remove(thread)
            self._runnable.append(thread)

    # Within

    def _carry(self, thread: Stepped, body: Callable[[], None]) -> None:
        _here.stepper, _here.thread = self, thread
        if self._lines:
            sys.settrace(self._on_call)
        try:
            body()
        except Dismissed:
            pass
        except BaseException:  # noqa: BLE001 - nobody else would see it
            self.problems.append(f"{thread.name} raised:\n{traceback.format_exc()}")
        finally:
            sys.settrace(None)
            _here.stepper = _here.thread = None
        thread.ended = True
        self._runnable.remove(thread)
        self.wake(thread)
        following = self._next()
        if self._broken is None:
            Stepper._spare.append(thread.hand)
        self._hand_over(following)

    def _switch(self, thread: Stepped) -> None:
        following = self._next()
        if following is not thread:
            self.switches += 1
            self._hand_over(following)
            thread.hand.gate.acquire()
        if thread.dismissed:
            raise Dismissed

    def _hand_over(self, following: Stepped | None) -> None:
        if following is not None:
            following.hand.gate.release()
        else:
            self._driver.release()

    def _has_timers(self) -> bool:
        return any(thread.until < inf for thread in self._waiting)

    def _next(self) -> Stepped | None:
        """Who goes on. Time passes if nobody can; None if all have ended, or stay for ever."""
        runnable = self._runnable
        if not runnable:
            moment = min((thread.until for thread in self._waiting), default=inf)
            if moment == inf:
                if all(thread.stays for thread in self._waiting):
                    return None
                self._break("every thread waits for what will never happen")
            self._pass_time(moment)
        if self.switches > MAX_SWITCHES:
            self._break(f"the threads have changed {MAX_SWITCHES} times")
        return runnable[int(self._chance.random() * len(runnable))] if len(runnable) > 1 else runnable[0]

    def _pass_time(self, moment: float) -> None:
        self.clock.advance_to(moment)
        for thread in [thread for thread in self._waiting if thread.until <= moment]:
            thread.timed_out = True
            self._waiting.remove(thread)
            self._runnable.append(thread)

    def _break(self, text: str) -> None:
        """Give up: this thread, and those that wait, are left where they are."""
        self._broken = text
        sys.settrace(None)
        self._driver.release()
        forever = _thread.allocate_lock()
        forever.acquire()
        forever.acquire()

    def _whereabouts(self) -> str:
        lines = [f"\n{thread.name} waits for {thread.waits_for!r}" for thread in self._waiting]
        return "".join(lines)

    def _draw_lines(self) -> int:
        return 1 + int(self._chance.random() * 2 * self._lines) if self._lines else 0

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not self._stepped(frame.f_code):
            return None
        if self._opcodes:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._trace

    def _trace_lines(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._left -= 1
        if self._left <= 0:
            self._left = self._draw_lines()
            if event == "line":
                self.point()
        return self._trace

    def _trace_opcodes(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._left -= 1
        if self._left <= 0:
            self._left = self._draw_lines()
            if event == "opcode":
                self.point()
        return self._trace
