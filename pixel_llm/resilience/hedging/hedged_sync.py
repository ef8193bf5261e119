"""Attempts side by side in the sync world, in worker threads. :mod:`hedged_async` is its twin."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.hedging.delays import Hedging
from pixel_llm.resilience.hedging.race import Contender, Race
from pixel_llm.resilience.limits import Published, lift, set_published
from pixel_llm.resilience.queues.admission import Held
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.roads.sync_guard import SyncRoad, check_runs_now
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.threads.job import Job


class _Runner:
    """
    A contender at work in a thread.

    Attributes:
        contender: The attempt.
        limits: What the attempt may take.
        clock: What its function reads the time from, if it does; ending it ends the function.
        ends: The moment at which the caller leaves it, if it has not ended by itself.
        held: The bulkhead's slot, which goes back when the caller has settled and the thread has ended.
        job: The work.
    """

    __slots__ = ("clock", "contender", "ends", "held", "job", "limits")

    job: Job

    def __init__(self, contender: Contender, limits: Published, clock: EndableClock, ends: float) -> None:
        self.contender = contender
        self.limits = limits
        self.clock = clock
        self.ends = ends
        self.held: Held | None = None

    def done(self, *, ok: bool | None) -> None:
        """The caller has settled; *ok* is what the attempt says of its target, as :class:`Held` has it."""
        if self.held is not None:
            self.held.ok = ok
            self.held.done()

    def give_up(self) -> None:
        """The caller wants nothing of it any more: it proves nothing, and its limits are ended."""
        self.contender.call.gate.release(self.contender.permit)
        self.clock.end()
        self.done(ok=None)


_Ended = queue.SimpleQueue[_Runner]


class HedgedSyncRoad(SyncRoad):
    """
    A road on which an attempt that takes long gets others beside it, each in a worker thread.

    A thread can't be stopped. The limits of a loser are ended, so a function that reads them ends soon; a
    plain one runs on, and counts as abandoned until it ends. The deadline is minded as a timeout is.
    """

    __slots__ = ("_called", "_cooperative", "_hedging", "_name")

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions, hedging: Hedging) -> None:
        super().__init__(stack, function, options)
        self._hedging = hedging
        self._called = stack.around(function, is_async=False)
        self._cooperative = options.cooperative
        self._threads = None if options.cooperative else stack.abandoned_threads
        self._name = f"pixel-llm {stack.target}"
        self.gate = NO_SHORT_ROAD

    def _round(self, call: Call, permit: int) -> Any:
        race = Race(self.stack, call, self._hedging, self._enter_beside)
        ended: _Ended = queue.SimpleQueue()
        running: set[_Runner] = set()
        self._begin(race.primary(permit), race, running, ended)
        try:
            while running:
                runner = self._first_of(ended, min(race.next_moment(), *(one.ends for one in running)))
                if runner is None:
                    self._leave_those_out_of_time(race, running)
                    if running and race.next_moment() <= self.stack.clock.monotonic():
                        another = race.send_another()
                        if another is not None:
                            self._begin(another, race, running, ended)
                elif runner in running:  # else the caller had left it before
                    running.remove(runner)
                    try:
                        value = runner.job.result()
                    except Exception as error:  # noqa: BLE001 - whatever it is, it has lost
                        if self._failed(runner, race, error):
                            break
                    except BaseException:
                        runner.give_up()
                        raise
                    else:
                        self._succeeded(runner, value)
                        return race.won(runner.contender, value)
            raise race.failure()
        finally:
            self._leave(running)

    def _enter_beside(self, call: Call) -> int | None:
        if self._threads is not None:
            self._threads.check()
        permit: int | None = self.stack.enter_at_once(call)
        return permit

    def _begin(self, contender: Contender, race: Race, running: set[_Runner], ended: _Ended) -> None:
        limits, clock = self.stack.timing.limits_of(contender.call), EndableClock(self.stack.clock)
        runner = _Runner(contender, limits, clock, inf if self._cooperative else limits[0])
        if self.stack.admission is not None:
            runner.held = Held(self.stack.admission, contender.call.attempt_started, 2)
        on_end = runner.held.done if runner.held is not None else None
        runner.job = Job(self._perform, (runner,), {}, tell=partial(ended.put, runner), on_end=on_end)
        running.add(runner)
        race.begin(contender)
        # The first of all attempts, and no other one, has had the target's whole time if the deadline cuts it.
        contender.call.attempts += 1
        try:
            runner.job.start(self._name)
        except RuntimeError as error:  # the system has no further thread
            running.remove(runner)
            self._failed(runner, race, error)

    def _perform(self, runner: _Runner) -> Any:
        """Call the function, in the thread."""
        ends, deadline, terms, depth, *_ = runner.limits
        published = [ends, deadline, replace(terms, clock=runner.clock), depth]
        set_published(published)
        value = self._called(*runner.contender.call.args, **runner.contender.call.kwargs)
        check_runs_now(self.stack, value)
        lift(published)
        return value

    def _first_of(self, ended: _Ended, moment: float) -> _Runner | None:
        """The next that has ended; None if *moment* comes before."""
        clock = self.stack.clock
        while (remaining := moment - clock.monotonic()) > 0:
            patience = None if remaining == inf else min(clock.patience(remaining), threading.TIMEOUT_MAX)
            try:
                return ended.get(timeout=patience)
            except queue.Empty:
                continue
        try:
            return ended.get_nowait()
        except queue.Empty:
            return None

    def _succeeded(self, runner: _Runner, value: Any) -> None:
        stack, contender, call = self.stack, runner.contender, runner.contender.call
        if call.gate.eventful:
            call.gate.record_success(contender.permit, stack.clock.monotonic() - call.attempt_started)
        runner.done(ok=True)
        if stack.admission is not None:
            stack.admission.spend(value)
        if self._keep is not None:
            self._keep(call.key, value)

    def _failed(self, runner: _Runner, race: Race, error: Exception) -> bool:
        """Settle. True if that is the answer to all attempts."""
        contender = runner.contender
        self.stack.settle(contender.call, contender.permit, error)
        runner.done(ok=self.stack.says_of_load(contender.call, error))
        return race.lost(contender, error)

    def _leave_those_out_of_time(self, race: Race, running: set[_Runner]) -> None:
        now = self.stack.clock.monotonic()
        for runner in [runner for runner in running if runner.ends <= now]:
            if self._abandon(runner):  # else it has ended, and is on its way
                running.remove(runner)
                self._failed(runner, race, self.stack.timing.cut(runner.limits))

    def _leave(self, running: set[_Runner]) -> None:
        """Leave those that still run: the losers, or all of them if the caller was interrupted."""
        for runner in running:
            runner.give_up()
            if self._threads is not None:
                self._abandon(runner)

    def _abandon(self, runner: _Runner) -> bool:
        elapsed = self.stack.clock.monotonic() - runner.contender.call.attempt_started
        return runner.job.abandon(self.stack.abandoned_threads, elapsed=elapsed)
