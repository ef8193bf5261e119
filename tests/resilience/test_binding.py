"""What a guard is bound to: anew, later, or to nothing."""

import threading

import pytest

from pixel_llm.errors import ConnectionError, ValidationError
from pixel_llm.policy import CacheConfig, FallbackStep, FallbackStrategy, Jitter, RetryConfig, RetryStrategy
from pixel_llm.resilience import guard
from pixel_llm.resilience.roads.binding import switched_off
from pixel_llm.resilience.roads.guard import guard_later

TWICE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2, jitter=Jitter.NONE)
SORRY = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),)


def bind(guarded, stack):
    guarded.binding.take(guarded.binding.prepare(stack))


class TestBindingAnew:
    def test_takes_another_stack(self, world, make_stack, scripted):
        """
        From the next call on the other stack's layers are around the callable.
        """
        script = scripted(ConnectionError("gone"))
        guarded = guard(make_stack(), world.function(script))
        with pytest.raises(ConnectionError):
            world.run(guarded)
        bind(guarded, make_stack(fallback=SORRY, retry=TWICE))

        assert "sorry" == world.run(guarded)
        assert 3 == script.calls
        assert "sorry" == world.run(guarded.outcome).value

    def test_a_call_under_way_ends_on_its_own_road(self, world, make_stack):
        """
        A call that began under the old stack keeps its layers to the end, whatever is bound meanwhile.
        """
        other = make_stack()

        def body():
            bind(guarded, other)
            raise ConnectionError("gone")

        guarded = guard(make_stack(fallback=SORRY), world.function(body))

        assert "sorry" == world.run(guarded)

    def test_to_a_stack_that_does_not_fit_changes_nothing(self, world, make_stack, scripted):
        """
        What the callable can't be guarded by is refused, and the old road stays.
        """
        guarded = guard(make_stack(fallback=SORRY), world.function(scripted(ConnectionError("gone"))))
        cache = (FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig()),)
        with pytest.raises(ValidationError, match="needs key="):
            bind(guarded, make_stack(fallback=cache))

        assert "sorry" == world.run(guarded)

    def test_methods(self, make_stack, scripted):
        """
        A guarded method is bound anew for all objects.
        """

        class Shop:
            name = "corner"

            def pay(self):
                raise ConnectionError("gone")

        Shop.pay = guard(make_stack(), Shop.pay)
        bind(Shop.pay, make_stack(fallback=SORRY))

        assert "sorry" == Shop().pay()

    def test_under_fire(self, make_stack):
        """
        Threads that call while the guard is bound to and fro always get the answer of one stack or the other.
        """
        stacks = [
            make_stack(fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value=number),)) for number in (0, 1)
        ]

        def gone():
            raise ConnectionError("gone")

        guarded = guard(stacks[0], gone)
        seen = set()
        stop = threading.Event()

        def call():
            while not stop.is_set():
                seen.add(guarded())

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(400):
            bind(guarded, stacks[number % 2])
        stop.set()
        for thread in threads:
            thread.join()

        assert seen <= {0, 1}
        assert sum(stack.stats().failed for stack in stacks) > 0


class TestLater:
    def test_finds_its_stack_with_the_first_call(self, world, make_stack, scripted):
        """
        Nothing is looked for until the guard is called, and then once.
        """
        stack, found = make_stack(fallback=SORRY), []

        def find():
            found.append(guarded.target)
            return stack

        guarded = guard_later("shop.pay", world.function(scripted(ConnectionError("gone"))), find)

        assert [] == found
        assert "sorry" == world.run(guarded)
        assert "sorry" == world.run(guarded)
        assert ["shop.pay"] == found
        assert "shop.pay" == guarded.target

    def test_with_an_outcome_first(self, world, make_stack, scripted):
        """
        Asking for the whole outcome binds it as well.
        """
        stack = make_stack(fallback=SORRY)
        guarded = guard_later("shop.pay", world.function(scripted(ConnectionError("gone"))), lambda: stack)

        assert world.run(guarded.outcome).degraded

    def test_tries_again_if_there_is_none_yet(self, world, make_stack, scripted):
        """
        A call for which no stack is found fails with that; the next one looks again.
        """
        stacks = []
        guarded = guard_later("shop.pay", world.function(scripted("paid")), lambda: stacks.pop())
        with pytest.raises(IndexError):
            world.run(guarded)
        stacks.append(make_stack())

        assert "paid" == world.run(guarded)


class TestSwitchedOff:
    def test_calls_go_to_the_callable_itself(self, world, make_stack, scripted):
        """
        No layer is there, and nothing is counted; afterwards all is as before.
        """
        script = scripted(ConnectionError("gone"))
        stack = make_stack(fallback=SORRY, retry=TWICE)
        guarded = guard(stack, world.function(script))
        with switched_off():
            with pytest.raises(ConnectionError):
                world.run(guarded)
            with switched_off(), pytest.raises(ConnectionError):
                world.run(guarded)
            with pytest.raises(ConnectionError):
                world.run(guarded.outcome)

        assert 3 == script.calls
        assert 0 == stack.stats().failed
        assert "sorry" == world.run(guarded)

    def test_outcome(self, world, make_stack, scripted):
        """
        Outcomes say that the call served.
        """
        guarded = guard(make_stack(), world.function(scripted("paid")))
        with switched_off():
            outcome = world.run(guarded.outcome)

        assert ("paid", "call", False, 1) == (outcome.value, outcome.served_by, outcome.degraded, outcome.attempts)

    def test_guards_made_or_bound_meanwhile_are_off_too(self, world, make_stack, scripted):
        """
        A guard that is made, or bound anew, while stacks are off has its stack afterwards.
        """
        with switched_off():
            guarded = guard(make_stack(), world.function(scripted(ConnectionError("gone"))))
            bind(guarded, make_stack(fallback=SORRY))
            with pytest.raises(ConnectionError):
                world.run(guarded)

        assert "sorry" == world.run(guarded)
