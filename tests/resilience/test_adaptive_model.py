"""The bulkhead in a stack, adaptive or not, against a model of it: a set, a queue, and a limit that follows."""

from __future__ import annotations

from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine, SyncWorld

from pixel_llm.errors import APIError, ConnectionError, ErrorCode
from pixel_llm.policy import AdaptiveConfig, BulkheadConfig, TargetPolicy
from pixel_llm.resilience import Stack, guard

C = ErrorCode
MAX_WAIT = 3.0

#: What attempts end in: what is made, and whether it is a success, a sign of overload, or proves nothing.
ENDS = {
    "value": (lambda: "value", "success"),
    "overload": (lambda: APIError(error_code=C.ERR_API_OVERLOAD), "overload"),
    "throttled": (lambda: APIError(error_code=C.ERR_API_RATE_LIMIT), "overload"),
    "lost": (ConnectionError, "nothing"),
    "wrong key": (lambda: APIError(error_code=C.ERR_API_UNAUTHORIZED), "nothing"),
}


class Call:
    """What the model knows of a call: where it is, and since when."""

    def __init__(self, caller, now):
        self.caller, self.arrived, self.began, self.end = caller, now, None, None


class BulkheadMachine(SteppedMachine):
    """Calls come, queue, end and are cancelled."""

    @initialize(
        most=st.integers(1, 4),
        max_waiting=st.sampled_from([0, 2, 10]),
        max_wait=st.sampled_from([None, MAX_WAIT]),
        adaptive=st.none()
        | st.builds(
            AdaptiveConfig,
            min_limit=st.integers(1, 2),
            initial_limit=st.integers(1, 5),
            backoff_ratio=st.sampled_from([0.25, 0.5, 0.75]),
            slow_call_duration=st.sampled_from([None, 2.0]),
        ),
    )
    def begin(self, most, max_waiting, max_wait, adaptive):
        self.most, self.max_waiting, self.max_wait = most, max_waiting, max_wait if max_waiting and max_wait else inf
        if adaptive is not None and adaptive.min_limit > most:
            adaptive = None
        self.adaptive = adaptive
        self.estimate = most if adaptive is None else float(max(adaptive.min_limit, min(adaptive.initial_limit, most)))
        self.lowered_at = -inf
        config = BulkheadConfig(
            max_concurrent=most,
            max_waiting=max_waiting,
            max_wait=None if self.max_wait == inf else max_wait,
            adaptive=adaptive,
        )
        self.stack = Stack("model", TargetPolicy(bulkhead=config), clock=self.world.clock, emit=self.events.append)
        self.guarded = guard(self.stack, self.world.target())
        self.calls, self.queue, self.inside = [], [], []

    # The model.

    @property
    def limit(self):
        return int(self.estimate)

    def let_in(self):
        """Whoever waits longest comes first."""
        while self.queue and len(self.inside) < self.limit:
            self.enter(self.queue.pop(0))

    def enter(self, call):
        call.began = self.now
        self.inside.append(call)

    def learn(self, call, kind):
        """Additive increase while all slots are in use, multiplicative decrease: once for those under way together."""
        if self.adaptive is None or kind == "nothing":
            return
        slow = self.adaptive.slow_call_duration
        if kind == "overload" or (slow is not None and self.now - call.began > slow):
            if call.began >= self.lowered_at:
                self.estimate = max(self.estimate * self.adaptive.backoff_ratio, self.adaptive.min_limit)
                self.lowered_at = self.now
        elif len(self.inside) >= self.limit:
            self.estimate = min(self.estimate + 1 / self.estimate, self.most)

    def next_moment(self):
        return min((call.arrived + self.max_wait for call in self.queue), default=inf)

    def come_to(self, moment):
        for call in [call for call in self.queue if call.arrived + self.max_wait <= moment]:
            self.queue.remove(call)
            call.end = C.ERR_LIMIT_BULKHEAD

    # What happens.

    @precondition(lambda self: len(self.inside) + len(self.queue) < 8)
    @rule()
    def call(self):
        call = Call(self.world.start(self.guarded), self.now)
        self.calls.append(call)
        if not self.queue and len(self.inside) < self.limit:
            self.enter(call)
        elif len(self.queue) < self.max_waiting:
            self.queue.append(call)
        else:
            call.end = C.ERR_LIMIT_BULKHEAD

    @rule(number=st.integers(2, 4))
    def several_call(self, number):
        while len(self.inside) + len(self.queue) < number:
            before = len(self.inside) + len(self.queue)
            self.call()
            self.agree()
            if before == len(self.inside) + len(self.queue):
                break

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), how=st.sampled_from([*sorted(ENDS), "value", "value"]))
    def end(self, data, how):
        call = data.draw(st.sampled_from(self.inside))
        made, kind = ENDS[how][0](), ENDS[how][1]
        call.caller.attempts[0].end(made)
        call.end = made
        self.learn(call, kind)
        self.inside.remove(call)
        self.let_in()

    @precondition(lambda self: self.queue if self.world.is_async else self.inside)
    @rule(data=st.data())
    def interrupt(self, data):
        """A task is cancelled wherever it is; a thread meets a KeyboardInterrupt in its call. It proves nothing."""
        those = self.inside + (self.queue if self.world.is_async else [])
        call = data.draw(st.sampled_from(those))
        call.caller.interrupt()
        call.end = "interrupted"
        if call in self.queue:
            self.queue.remove(call)
        else:
            self.inside.remove(call)
        self.let_in()

    @rule(ticks=st.sampled_from([1, 8, 17, 24]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    # What is seen.

    def expected(self):
        calls = [(call.began, call.end) for call in self.calls]
        return calls, len(self.inside), len(self.queue), self.limit

    def seen(self):
        bulkhead = self.stack.admission.bulkhead
        calls = [(self._began(call.caller), self._end(call.caller)) for call in self.calls]
        return calls, bulkhead.in_use, bulkhead.waiting, bulkhead.limit

    @staticmethod
    def _began(caller):
        return caller.attempts[0].began if caller.attempts else None

    @staticmethod
    def _end(caller):
        if not caller.has_ended:
            return None
        if caller.error is None:
            return caller.outcome.value
        if not isinstance(caller.error, Exception):
            return "interrupted"
        return caller.error if caller.attempts else caller.error.error_code

    @invariant()
    def agrees_with_the_model(self):
        self.agree()

    @invariant()
    def keeps_its_bounds(self):
        least = self.most if self.adaptive is None else self.adaptive.min_limit
        assert least <= self.stack.admission.bulkhead.limit <= self.most
        assert sum(len(call.caller.running) for call in self.calls) <= self.most
        if self.adaptive is None:
            assert not self.queue or len(self.inside) == self.most


class SyncBulkheadMachine(BulkheadMachine):
    world_type = SyncWorld


TestAsyncAgainstTheModel = BulkheadMachine.TestCase
TestSyncAgainstTheModel = SyncBulkheadMachine.TestCase
TestAsyncAgainstTheModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSyncAgainstTheModel.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
