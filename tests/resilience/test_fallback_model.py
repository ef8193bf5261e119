"""The fallback chain and the read-through cache against a model of them, one call after the other, in both worlds."""

from __future__ import annotations

import asyncio
from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pixel_llm.errors import APIError, ConnectionError, ErrorCode
from pixel_llm.policy import CacheConfig, FallbackStep, FallbackStrategy, TargetPolicy
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import VirtualClock

F = FallbackStrategy
TTL, LAYER_TTL = 10.0, 3.0
DEADLINE, RESERVE = 8.0, 1.5

#: What calls fail of: how it is made, and the names that a policy has for it.
ERRORS = {
    "lost": (ConnectionError, {"TRANSIENT"}),
    "throttled": (lambda: APIError(error_code=ErrorCode.ERR_API_RATE_LIMIT), {"THROTTLED"}),
    "wrong key": (lambda: APIError(error_code=ErrorCode.ERR_API_UNAUTHORIZED), {"PERMANENT", "ERR_API_UNAUTHORIZED"}),
    "unknown": (lambda: RuntimeError("?"), {"UNKNOWN"}),
}
ALL_BUT_PERMANENT = ("TRANSIENT", "THROTTLED", "UNKNOWN", "DEGRADATION")
WHEN = st.sampled_from([ALL_BUT_PERMANENT, ALL_BUT_PERMANENT, ("THROTTLED",), ("PERMANENT", "TRANSIENT")])
KINDS = st.sampled_from([F.CACHE, F.CACHE, F.CUSTOM_FUNCTION, F.CUSTOM_FUNCTION, F.DEFAULT_VALUE, F.NONE, F.RAISE])


def step(kind, when, reserve):
    return FallbackStep(
        kind,
        cache=CacheConfig(ttl=TTL, max_entries=2) if kind is F.CACHE else None,
        value={F.CUSTOM_FUNCTION: "guess", F.DEFAULT_VALUE: ["sorry"]}.get(kind),
        when=ErrorMatcher.of(*when),
        reserve=reserve if kind is F.CUSTOM_FUNCTION else None,
    )


class Kept:
    """Results by key, two at most; the one unused for longest goes first."""

    def __init__(self, ttl):
        self.ttl, self.entries = ttl, []  # (key, value, stored at), the one unused for longest first

    def store(self, key, value, now):
        self.entries = [entry for entry in self.entries if entry[0] != key and now - entry[2] < self.ttl]
        self.entries = [*self.entries, (key, value, now)][-2:]

    def get(self, key, now):
        found = [entry for entry in self.entries if entry[0] == key and now - entry[2] < self.ttl]
        if found:
            self.entries.remove(found[0])
            self.entries.append(found[0])
        return found[0][1] if found else None


class FallbackMachine(RuleBasedStateMachine):
    """Each call takes some time and then succeeds or fails; so does the function that may serve in its place."""

    is_async = False

    @initialize(
        steps=st.lists(st.tuples(KINDS, WHEN, st.sampled_from([None, RESERVE])), min_size=1, max_size=4).filter(
            lambda steps: sum(kind is F.CACHE for kind, _, _ in steps) <= 1
        ),
        has_deadline=st.booleans(),
        has_layer=st.booleans(),
    )
    def begin(self, steps, has_deadline, has_layer):
        self.steps, self.deadline = steps, DEADLINE if has_deadline else inf
        self.clock = VirtualClock(0.0)
        self.policy = TargetPolicy(
            deadline=DEADLINE if has_deadline else None,
            fallback=tuple(step(*one) for one in steps),
            cache=CacheConfig(ttl=LAYER_TTL, max_entries=2) if has_layer else None,
        )
        self.stack = self._stack(None)
        self.fallback, self.layer = Kept(TTL), Kept(LAYER_TTL) if has_layer else None
        self.number = self.called = self.guessed = 0
        self.loop = asyncio.new_event_loop()

    def _stack(self, before):
        return Stack("model", self.policy, clock=self.clock, find_function=lambda name: self._guess, before=before)

    def _run(self, takes, gives):
        self.clock.advance(takes)
        if isinstance(gives, Exception):
            raise gives
        return gives

    def _guess(self, key):
        self.guessed += 1
        return self._run(*self.guess)

    def _expect(self, key, takes, value, error, error_names):
        """Who serves, with what: what the call itself gave, or a step; else nobody."""
        began = self.clock.monotonic()
        reserves = [(reserve or 0.0) if kind is F.CUSTOM_FUNCTION else 0.0 for kind, _, reserve in self.steps]
        if self.layer is not None and (kept := self.layer.get(key, began)) is not None:
            return "cache_hit", kept, 0, 0, []
        now = began + takes
        if error is None:
            if any(kind is F.CACHE for kind, _, _ in self.steps):
                self.fallback.store(key, value, now)
            if self.layer is not None:
                self.layer.store(key, value, now)
            return "call", value, 1, 0, []
        guesses, skipped = 0, []
        for number, (kind, when, _) in enumerate(self.steps):
            name = "custom_function:guess" if kind is F.CUSTOM_FUNCTION else kind.value
            if kind is F.RAISE:
                break
            if not set(when) & error_names:
                skipped.append(name)
            elif kind is F.CACHE:
                if (kept := self.fallback.get(key, now)) is not None:
                    return name, kept, 1, guesses, skipped
                skipped.append(name)
            elif kind is F.CUSTOM_FUNCTION:
                if began + self.deadline - sum(reserves[number + 1 :]) <= now:
                    skipped.append(name)
                    continue
                guesses += 1
                now += self.guess[0]
                if not isinstance(self.guess[1], Exception):
                    return name, self.guess[1], 1, guesses, skipped
                skipped.append(name)
            else:
                return name, ["sorry"] if kind is F.DEFAULT_VALUE else None, 1, guesses, skipped
        return None, error, 1, guesses, skipped

    @rule(
        key=st.sampled_from("abc"),
        takes=st.sampled_from([0.0, 0.0, 1.0, DEADLINE - RESERVE, DEADLINE]),
        how=st.sampled_from(["value", "value", *sorted(ERRORS)]),
        guess_takes=st.sampled_from([0.0, 1.0, 3.0]),
        guess_fails=st.booleans(),
    )
    def call(self, key, takes, how, guess_takes, guess_fails):
        self.number += 1
        value, error, names = (self.number, key), None, set()
        if how != "value":
            error, names = ERRORS[how][0](), ERRORS[how][1]
        self.guess = (guess_takes, ValueError("no idea") if guess_fails else ("guess", self.number))
        served_by, given, calls, guesses, skipped = self._expect(key, takes, value, error, names)
        called, guessed = self.called, self.guessed

        def target(key):
            self.called += 1
            return self._run(takes, value if error is None else error)

        async def target_async(key):
            return target(key)

        function = guard(self.stack, target_async if self.is_async else target, key=lambda key: key)
        try:
            found = function.outcome(key)
            outcome = self.loop.run_until_complete(found) if self.is_async else found
        except Exception as raised:  # noqa: BLE001 - whatever it is, the model is asked
            outcome = raised

        assert (calls, guesses) == (self.called - called, self.guessed - guessed)
        if served_by is None:
            assert outcome is given
            return
        assert (served_by, given) == (outcome.served_by, outcome.value)
        assert skipped == [one.step for one in outcome.skipped]
        assert outcome.degraded == (served_by not in ("call", "cache_hit"))
        assert outcome.error is (error if outcome.degraded else None)
        if served_by == "default_value":
            outcome.value.append("changed")  # which nobody else sees

    @rule(
        key=st.sampled_from("abc"),
        between=st.sampled_from(["nothing", "reload", "another chain"]),
        seconds=st.sampled_from([LAYER_TTL, TTL - 1, TTL]),
        guess_fails=st.booleans(),
    )
    def succeed_and_fail(self, key, between, seconds, guess_fails):
        """A call whose like has succeeded some time ago, under the same policy or another one."""
        self.call(key, 0.0, "value", 0.0, guess_fails)
        if between == "reload":
            self.reload()
        elif between == "another chain":
            self.reload_with_another_chain()
        self.wait(seconds)
        self.call(key, 0.0, "throttled", 0.0, guess_fails)

    @rule(seconds=st.sampled_from([1.0, 2.0, LAYER_TTL, TTL]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def reload(self):
        """What is kept is kept on where the section has not changed."""
        self.stack = self._stack(self.stack)

    @rule()
    def reload_with_another_chain(self):
        """A chain that has changed begins with nothing; the layer's cache is another section."""
        kind, when, reserve = self.steps[-1]
        when = ("THROTTLED",) if when != ("THROTTLED",) else ALL_BUT_PERMANENT
        self.steps = [*self.steps[:-1], (kind, when, reserve)]
        self.policy = TargetPolicy(
            deadline=self.policy.deadline,
            fallback=tuple(step(*one) for one in self.steps),
            cache=self.policy.cache,
        )
        self.stack, self.fallback = self._stack(self.stack), Kept(TTL)

    @invariant()
    def keeps_its_bounds(self):
        if hasattr(self, "stack"):
            assert all(len(cache) <= 2 for cache in self.stack.result_caches())

    def teardown(self):
        if hasattr(self, "loop"):
            self.loop.close()


class AsyncFallbackMachine(FallbackMachine):
    is_async = True


TestSyncAgainstTheModel = FallbackMachine.TestCase
TestAsyncAgainstTheModel = AsyncFallbackMachine.TestCase
TestSyncAgainstTheModel.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestAsyncAgainstTheModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
