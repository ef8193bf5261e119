import asyncio
import functools
import inspect
import types

import pytest

from pixel_llm.errors import ConnectionError, ErrorCode, ValidationError
from pixel_llm.policy import (
    CacheConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
)
from pixel_llm.resilience import Stack, guard

IMMEDIATE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, jitter=Jitter.NONE)


def pay(card: str, amount: int = 1, *, currency: str = "EUR") -> str:
    """Take money."""
    return f"{card} {amount} {currency}"


async def pay_async(card: str, amount: int = 1, *, currency: str = "EUR") -> str:
    """Take money."""
    return f"{card} {amount} {currency}"


class Shop:
    def __init__(self):
        self.failures = 1

    def pay(self, amount):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("gone")
        return amount

    async def pay_async(self, amount):
        return self.pay(amount)


class Till:
    """Something that can be called, and is no function."""

    def __call__(self, amount):
        return amount


class AsyncTill:
    async def __call__(self, amount):
        await asyncio.sleep(0)
        return amount


class TestWhatIsKept:
    @pytest.mark.parametrize("function", [pay, pay_async])
    def test_signature_and_names(self, make_stack, function):
        """
        A guarded function looks like the one it guards, to people and to tools.
        """
        guarded = guard(make_stack(), function)

        assert inspect.signature(function) == inspect.signature(guarded)
        assert function is guarded.__wrapped__
        assert ("Take money.", function.__name__, __name__) == (guarded.__doc__, guarded.__name__, guarded.__module__)
        assert function.__annotations__ == guarded.__annotations__

    def test_sync_stays_sync_and_async_stays_async(self, make_stack):
        """
        Frameworks that ask whether a function is a coroutine function get the right answer.
        """
        plain, coroutine = guard(make_stack(), pay), guard(make_stack(), pay_async)

        assert [False, False] == [inspect.iscoroutinefunction(call) for call in (plain, plain.outcome)]
        assert [True, True] == [inspect.iscoroutinefunction(call) for call in (coroutine, coroutine.outcome)]

    def test_the_target(self, make_stack):
        """
        A guarded function knows its target.
        """

        assert "shop.pay" == guard(make_stack(), pay).target

    def test_keyword_arguments_and_defaults(self, make_stack):
        """
        Arguments go through as they were given.
        """
        guarded, guarded_async = guard(make_stack(), pay), guard(make_stack(), pay_async)

        assert "visa 1 EUR" == guarded("visa")
        assert "visa 2 CHF" == guarded(amount=2, card="visa", currency="CHF")
        assert "visa 2 CHF" == asyncio.run(guarded_async("visa", 2, currency="CHF"))

    def test_a_wrong_call_is_the_caller_s_mistake(self, make_stack):
        """
        Missing arguments raise TypeError at once, unretried.
        """
        with pytest.raises(TypeError, match="card") as caught:
            guard(make_stack(retry=IMMEDIATE), pay)()

        assert 1 == caught.value.attempts


class TestWhatCanBeGuarded:
    def test_methods(self, make_stack):
        """
        A bound method is guarded like a function.
        """
        shop = Shop()

        assert 5 == guard(make_stack(retry=IMMEDIATE), shop.pay)(5)
        assert 5 == asyncio.run(guard(make_stack(retry=IMMEDIATE), Shop().pay_async)(5))

    def test_functions_in_a_class_body(self, make_stack):
        """
        A guarded function in a class is a method, and gets its instance.
        """

        class Guarded(Shop):
            pay = guard(make_stack(retry=IMMEDIATE), Shop.pay)

        assert 5 == Guarded().pay(5)

    def test_partials(self, make_stack):
        """
        functools.partial of a function of either world is guarded in its world.
        """

        assert "visa 3 EUR" == guard(make_stack(), functools.partial(pay, "visa"))(3)

        guarded = guard(make_stack(), functools.partial(functools.partial(pay_async, "visa"), 3))

        assert inspect.iscoroutinefunction(guarded)
        assert "visa 3 EUR" == asyncio.run(guarded())

    def test_methods_made_of_partials(self, make_stack):
        """
        A partial that is bound to an object, which has no code of its own, is guarded in the world of its function.
        """
        method = types.MethodType(functools.partial(pay_async, "visa"), 3)

        assert "visa 3 EUR" == asyncio.run(guard(make_stack(), method)())

    def test_objects_that_can_be_called(self, make_stack):
        """
        An object is guarded in the world of its ``__call__``, through a partial too.
        """

        assert 7 == guard(make_stack(), Till())(7)
        assert 7 == asyncio.run(guard(make_stack(), AsyncTill())(7))
        assert 7 == asyncio.run(guard(make_stack(), functools.partial(AsyncTill(), 7))())

    def test_classes(self, make_stack):
        """
        Making an instance is a plain call, though calling the instance may be async.
        """

        assert isinstance(guard(make_stack(), AsyncTill)(), AsyncTill)

    def test_built_in_functions(self, make_stack):
        """
        A callable that has no signature is guarded without one.
        """

        assert 3 == guard(make_stack(), len)("abc")
        assert {"a": 1} == guard(make_stack(), dict)(a=1)

    def test_guarded_functions(self, make_stack):
        """
        Stacks nest: the outer target retries what the inner one has given up.
        """
        shop = Shop()
        shop.failures = 4
        inner = guard(make_stack("shop.pay", retry=IMMEDIATE), shop.pay)
        outer = guard(make_stack("shop.order", retry=IMMEDIATE), inner)

        assert ("shop.order", 9) == (outer.target, outer(9))


class TestWhatIsRefused:
    @pytest.mark.parametrize("function", [None, 42, "pay"])
    def test_what_cannot_be_called(self, make_stack, function):
        """
        Something that can't be called is refused when it is wrapped, not when it is called.
        """
        with pytest.raises(ValidationError) as caught:
            guard(make_stack(), function)

        assert f"shop.pay: must be given something to call (got {function!r})" == str(caught.value)

    def test_a_cache_without_a_key(self, make_stack):
        """
        Without a key function a cache would hand one request's result to another.
        """
        stack = make_stack(fallback=(FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig()),))
        with pytest.raises(ValidationError) as caught:
            guard(stack, pay)

        assert ErrorCode.ERR_VAL_MISSING_FIELD is caught.value.error_code
        assert (
            "shop.pay: its fallback has a cache, so wrapping it needs key=, a function that "
            "gives the cache key from the call's arguments" == str(caught.value)
        )


class TestWhatRunsLater:
    def test_is_refused(self):
        """A sync function that gives a coroutine or a generator would run it unguarded, so the call says so."""

        async def ask() -> str:
            return "hello"

        def count():
            yield 1

        for later, kind in ((ask, "coroutine"), (count, "generator")):
            guarded = guard(Stack("chat", TargetPolicy()), lambda later=later: later())
            with pytest.raises(ValidationError, match=rf"returned the {kind} of .*{later.__name__}, which would run"):
                guarded()


class Register:
    @functools.partial(guard, Stack("till", TargetPolicy()))
    def pay(self, amount):
        """Take money."""
        return self, amount

    @functools.partial(guard, Stack("till", TargetPolicy()))
    async def pay_async(self, amount):
        return self, amount

    @classmethod
    @functools.partial(guard, Stack("till", TargetPolicy()))
    def count(cls):
        return cls


class TestMethod:
    def test_and_its_outcome_know_their_object(self):
        """obj.method and obj.method.outcome both get obj, sync, async and on the class."""
        till = Register()

        assert (till, 3) == till.pay(3)
        assert (till, 3) == till.pay.outcome(3).value
        assert (till, 3) == Register.pay.outcome(till, 3).value
        assert (till, 3) == asyncio.run(till.pay_async.outcome(3)).value
        assert Register is Register.count.outcome().value

    def test_is_what_it_was(self):
        """A guarded method keeps its docstring, and an async one can be told from a sync one."""
        assert "Take money." == Register.pay.__doc__
        assert inspect.iscoroutinefunction(Register().pay_async)
        assert not inspect.iscoroutinefunction(Register().pay)


class TestHelpers:
    @pytest.mark.parametrize("name", ["key", "cacheable"])
    @pytest.mark.parametrize("helper", [5, pay_async], ids=["not callable", "async"])
    def test_must_be_plain_functions(self, name, helper):
        """A key= or cacheable= that could never work is refused when the function is wrapped."""
        with pytest.raises(ValidationError, match=f"{name}= must be a plain function"):
            guard(Stack("till", TargetPolicy()), pay, **{name: helper})
