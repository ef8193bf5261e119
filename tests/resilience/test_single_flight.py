import asyncio
import contextvars
import os
import random
import threading
from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pixel_llm.resilience.caching.single_flight import FlightState, SingleFlight
from pixel_llm.testing import VirtualClock

WAITING, LEADING, LANDED, FAILED, LEFT = FlightState


@pytest.fixture
def flights():
    return SingleFlight()


class TestTickets:
    def test_the_first_leads_and_the_others_follow(self, flights):
        """
        One call is made for all that are equal; others have nothing to do with it.
        """
        states = [flights.join(key).state for key in ("a", "a", "b", "a")]

        assert [LEADING, WAITING, LEADING, WAITING] == states
        assert 2 == len(flights)

    def test_what_the_leader_brings_is_for_all(self, flights):
        """
        When the leader lands, all who follow have its value, and the flight is over.
        """
        leader, *followers = [flights.join("a") for _ in range(3)]
        leader.land("value")

        assert [(LANDED, "value")] * 2 == [(ticket.state, ticket.value) for ticket in followers]
        assert (0, LEADING) == (len(flights), flights.join("a").state)

    def test_a_failure_is_for_all(self, flights):
        """
        A real failure of the call is everybody's.
        """
        leader, follower = flights.join("a"), flights.join("a")
        error = OSError()
        leader.fail(error)

        assert (FAILED, error, 0) == (follower.state, follower.error, len(flights))

    def test_one_that_leaves_hands_the_lead_on(self, flights):
        """
        The follower that has waited longest leads on; the others still wait.
        """
        leader, second, third = [flights.join("a") for _ in range(3)]
        leader.leave()
        states = [second.state, third.state]
        second.leave()

        assert ([LEADING, WAITING], LEADING) == (states, third.state)

    def test_a_follower_that_leaves(self, flights):
        """
        Who leaves early is not told, and never leads.
        """
        leader, second, third = [flights.join("a") for _ in range(3)]
        second.leave()
        leader.leave()

        assert (LEFT, LEADING) == (second.state, third.state)

    def test_the_last_one_takes_the_flight_along(self, flights):
        """
        Nothing is left of a flight that nobody takes part in.
        """
        leader, follower = flights.join("a"), flights.join("a")
        follower.leave()
        leader.leave()

        assert 0 == len(flights)

    def test_leaving_and_landing_twice_does_nothing(self, flights):
        """
        What is over stays as it is, and a former leader can't end the flight of another.
        """
        former = flights.join("a")
        former.leave()
        leader, follower = flights.join("a"), flights.join("a")
        former.leave()
        former.land("late")
        former.fail(OSError())

        assert (LEADING, WAITING) == (leader.state, follower.state)

    def test_a_follower_can_not_land(self, flights):
        """
        Only the leader ends a flight.
        """
        flights.join("a")
        follower = flights.join("a")
        follower.land("mine")

        assert (WAITING, 1) == (follower.state, len(flights))

    def test_inside_of_the_call_an_equal_one_does_not_wait_for_it(self, flights):
        """
        A function that calls itself with the same arguments would wait for itself: it makes the call.
        """
        leader = flights.join("a")
        with leader.inside():
            inner = flights.join("a")
        follower = flights.join("a")
        inner.land("inner")

        assert (LANDED, LEADING, WAITING) == (inner.state, leader.state, follower.state)
        assert 1 == len(flights)

    def test_inside_ends_in_whatever_context(self, flights):
        """
        A coroutine that is thrown away is closed in another context.
        """
        inside = flights.join("a").inside()
        contextvars.copy_context().run(inside.__enter__)
        inside.__exit__(None, None, None)

        assert WAITING is flights.join("a").state


class TestWaiting:
    def test_is_not_woken_before_there_is_news(self, flights):
        """
        Whoever waits is woken once, when the leader has landed; who asks after that is woken at once.
        """
        leader, follower = flights.join("a"), flights.join("a")
        woken = []
        flights.watch(follower, lambda: woken.append("by the leader"))
        assert [] == woken

        leader.land(1)
        assert ["by the leader"] == woken

        flights.watch(follower, lambda: woken.append("at once"))
        assert ["by the leader", "at once"] == woken

    def test_a_thread_is_woken(self, flights):
        """
        Who waits in a thread gets what the leader brings.
        """
        leader, follower = flights.join("a"), flights.join("a")
        states = []
        thread = threading.Thread(target=lambda: states.append(follower.wait(float("inf"))))
        thread.start()
        leader.land("value")
        thread.join(10)

        assert ([LANDED], "value") == (states, follower.value)

    def test_a_task_is_woken_from_another_thread(self, flights):
        """
        Who waits in a task gets it too, from wherever.
        """
        leader, follower = flights.join("a"), flights.join("a")

        async def main():
            asyncio.get_running_loop().run_in_executor(None, leader.land, "value")
            return await follower.wait_async(float("inf"))

        assert (LANDED, "value") == (asyncio.run(main()), follower.value)

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_until_its_own_deadline(self, flights, is_async):
        """
        Nobody waits past his own time.
        """
        flights.join("a")
        follower, clock = flights.join("a"), VirtualClock(1000.0)
        patience = clock.patience
        clock.patience = lambda seconds: clock.advance(3) or patience(seconds)
        wait = follower.wait_async(1005.0, clock) if is_async else follower.wait(1005.0, clock)
        state = asyncio.run(wait) if is_async else wait

        assert (WAITING, 1006.0) == (state, clock.monotonic())

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_what_has_happened_before_is_not_missed(self, flights, is_async):
        """
        A flight that landed before its follower waits needs no waking.
        """
        leader, follower = flights.join("a"), flights.join("a")
        leader.land("value")
        wait = follower.wait_async(float("inf")) if is_async else follower.wait(float("inf"))

        assert LANDED is (asyncio.run(wait) if is_async else wait)

    def test_is_woken_twice(self, flights, monkeypatch):
        """
        A leader in another thread, which has just landed, may wake a task that has seen so by itself. No harm is done.
        """
        leader, follower = flights.join("k"), flights.join("k")
        wakes, problems = [], []
        watch = SingleFlight.watch

        def watched(self, ticket, wake):
            wakes.append(wake)
            watch(self, ticket, wake)

        monkeypatch.setattr(SingleFlight, "watch", watched)

        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
            leader.land("value")
            state = await follower.wait_async(float("inf"))
            wakes[0]()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return state

        assert FlightState.LANDED is asyncio.run(main())
        assert [] == problems

    def test_a_cancelled_task_leaves(self, flights):
        """
        Cancelling a follower touches nobody else.
        """
        leader, follower, other = [flights.join("a") for _ in range(3)]

        async def main():
            async def follow():
                try:
                    await follower.wait_async(float("inf"))
                finally:
                    follower.leave()

            task = asyncio.create_task(follow())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        leader.leave()

        assert (LEFT, LEADING) == (follower.state, other.state)

    def test_a_closed_loop_never_leads(self, flights):
        """
        Who waits in an event loop that was closed can't be told: the next one leads on.
        """
        leader, follower, other = [flights.join("a") for _ in range(3)]
        loop = asyncio.new_event_loop()
        task = loop.create_task(follower.wait_async(float("inf")))
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()
        leader.leave()
        del task

        assert (LEFT, LEADING) == (follower.state, other.state)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_forked_child_does_not_wait_for_its_parent(self, flights):
        """
        The leader's thread is not in the child, so the child makes the call itself.
        """
        flights.join("a")
        flights.forget()
        flights.join("a")
        child = os.fork()
        if child == 0:
            os._exit(0 if flights.join("a").leads else 1)

        assert 0 == os.waitpid(child, 0)[1]
        assert WAITING is flights.join("a").state


class Flights(RuleBasedStateMachine):
    """
    Callers of two keys join, wait, land, fail and leave at any moment, in threads and in loops that may be closed.

    The model knows who joined when; the flights must agree with it.
    """

    @initialize()
    def begin(self):
        self.flights = SingleFlight()
        self.tickets = defaultdict(list)  # by key, those that have not left
        self.ended = []
        self.number = 0
        self.closed = set()

    def _some(self, data, state):
        found = [(key, ticket) for key, tickets in self.tickets.items() for ticket in tickets if ticket.state is state]
        return data.draw(st.sampled_from(found)) if found else (None, None)

    @rule(key=st.sampled_from("ab"))
    def join(self, key):
        under_way = any(ticket.state in (LEADING, WAITING) for ticket in self.tickets[key])
        ticket = self.flights.join(key)
        self.tickets[key].append(ticket)

        assert (WAITING if under_way else LEADING) is ticket.state

    @rule(data=st.data(), closed=st.booleans())
    def wait(self, data, closed):
        """The caller waits; its event loop may be closed under it."""
        _, ticket = self._some(data, WAITING)
        if ticket is None:
            return

        def wake():
            if closed:
                raise RuntimeError("Event loop is closed")

        self.flights.watch(ticket, wake)
        (self.closed.add if closed else self.closed.discard)(ticket)

    @rule(data=st.data(), ok=st.booleans())
    def end(self, data, ok):
        key, leader = self._some(data, LEADING)
        if leader is None:
            return
        self.number += 1
        before = [ticket for ticket in self.tickets[key] if ticket.state is WAITING]
        leader.land(self.number) if ok else leader.fail(OSError(self.number))

        for ticket in [leader, *before]:
            assert (LANDED if ok else FAILED) is ticket.state
        for ticket in before:
            assert self.number == (ticket.value if ok else ticket.error.args[0])

    @rule(data=st.data())
    def leave(self, data):
        key, ticket = self._some(data, data.draw(st.sampled_from([WAITING, LEADING, LANDED, FAILED])))
        if ticket is None:
            return
        led = ticket.state is LEADING
        waiting = [other for other in self.tickets[key] if other.state is WAITING and other is not ticket]
        heirs = [other for other in waiting if other not in self.closed]
        ticket.leave()
        self.tickets[key].remove(ticket)

        assert LEFT is ticket.state
        if led and heirs:
            assert LEADING is heirs[0].state
            assert all(WAITING is other.state for other in heirs[1:])

    @invariant()
    def one_leads_where_others_wait(self):
        keys = 0
        for tickets in getattr(self, "tickets", {}).values():
            leaders = sum(ticket.state is LEADING for ticket in tickets)
            waiting = any(ticket.state is WAITING for ticket in tickets)
            assert leaders <= 1
            assert leaders or not waiting
            keys += leaders
        if keys or hasattr(self, "flights"):
            assert keys == len(self.flights)

    @precondition(lambda self: hasattr(self, "flights"))
    @rule()
    def all_leave(self):
        """Nothing is left when everybody has left."""
        for tickets in self.tickets.values():
            for ticket in tickets:
                ticket.leave()
        self.tickets.clear()
        self.closed.clear()

        assert 0 == len(self.flights)


TestFlights = Flights.TestCase
TestFlights.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class TestThreadsAndLoops:
    def test_one_flight_at_a_time_whoever_flies(self, flights):
        """
        Threads and tasks of two loops call, fail, give up and are cancelled: never do two make the same call at once.
        """
        making, overlaps, ends, wanted = defaultdict(int), [], [], []
        lock = threading.Lock()

        def begin(key):
            with lock:
                making[key] += 1
                if making[key] > 1:
                    overlaps.append(key)

        def end(key):
            with lock:
                making[key] -= 1

        def finish(ticket, how):
            ticket.land("value") if how < 6 else ticket.fail(OSError()) if how < 8 else None

        def in_thread(seed):
            chance = random.Random(seed)
            for _ in range(60):
                key, how = chance.randrange(3), chance.randrange(10)
                ticket = flights.join(key)
                try:
                    if not ticket.leads:
                        ticket.wait(float("inf"))
                    if ticket.leads:
                        begin(key)
                        end(key)
                        finish(ticket, how)
                    ends.append(ticket.state)
                finally:
                    ticket.leave()

        async def one(key, how):
            ticket = flights.join(key)
            try:
                if not ticket.leads:
                    await ticket.wait_async(float("inf"))
                if ticket.leads:
                    begin(key)
                    try:
                        await asyncio.sleep(0)
                    finally:
                        end(key)
                    finish(ticket, how)
                ends.append(ticket.state)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            finally:
                ticket.leave()

        async def many(seed):
            chance = random.Random(seed)
            for _ in range(12):
                tasks = [asyncio.create_task(one(chance.randrange(3), chance.randrange(10))) for _ in range(5)]
                await asyncio.sleep(0)
                chance.choice(tasks).cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        threads = [threading.Thread(target=in_thread, args=(seed,)) for seed in range(4)]
        threads += [threading.Thread(target=lambda seed=seed: asyncio.run(many(seed))) for seed in (10, 11)]
        wanted = 4 * 60 + 2 * 12 * 5
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert ([], wanted, 0) == (overlaps, len(ends), len(flights))
        assert WAITING not in ends
