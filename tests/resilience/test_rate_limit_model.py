"""The rate limit in a stack, of calls and of tokens, against a model of it that plays the queue from its head."""

from __future__ import annotations

from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine

from pixel_llm.errors import ConnectionError, ErrorCode, LimitExceeded
from pixel_llm.policy import RateLimitConfig, TargetPolicy
from pixel_llm.policy.sections.rate_limit import TokenLimitConfig
from pixel_llm.resilience import Stack, guard

PERIOD, TOKEN_PERIOD = 2.0, 8.0
MAX_TOKENS = 8


class Call:
    """What the model knows of a call."""

    def __init__(self, caller, now, ends):
        self.caller, self.arrived, self.ends, self.planned = caller, now, ends, now
        self.began = self.end = None


class RateLimitMachine(SteppedMachine):
    """Calls come, wait for their turn, use tokens, fail and are cancelled."""

    @initialize(
        max_calls=st.sampled_from([None, 1, 2, 3]),
        max_wait=st.sampled_from([0.0, 1.0, PERIOD, 5.0]),
        deadline=st.sampled_from([None, PERIOD, 2.5]),
        has_tokens=st.booleans(),
    )
    def begin(self, max_calls, max_wait, deadline, has_tokens):
        self.max_calls, self.max_wait = max_calls, max_wait
        self.has_tokens = has_tokens or max_calls is None
        self.deadline = deadline or inf
        tokens = TokenLimitConfig(max_tokens=MAX_TOKENS, period=TOKEN_PERIOD) if self.has_tokens else None
        config = RateLimitConfig(max_calls=max_calls, period=PERIOD, max_wait=max_wait, tokens=tokens)
        self.stack = Stack(
            "model",
            TargetPolicy(rate_limit=config, deadline=deadline),
            clock=self.world.clock,
            emit=self.events.append,
        )
        self.guarded = guard(self.stack, self.world.target())
        self.calls, self.queue, self.inside = [], [], []
        self.starts = []
        self.level, self.filled_at = float(MAX_TOKENS), 0.0
        self.charges = []  # (when, how much)

    # The model.

    def tokens(self, moment):
        rate = MAX_TOKENS / TOKEN_PERIOD
        return min(float(MAX_TOKENS), self.level + (moment - self.filled_at) * rate)

    def turns(self, number):
        """The moments at which the next so many calls start, if nothing changes until then."""
        starts, turns = list(self.starts), []
        enough = self.now
        if self.has_tokens and self.tokens(self.now) <= 0:
            enough += (1 - self.tokens(self.now)) * TOKEN_PERIOD / MAX_TOKENS  # then a whole one is there
        for _ in range(number):
            turn = turns[-1] if turns else self.now
            if self.max_calls is not None and len(starts) >= self.max_calls:
                turn = max(turn, starts[-self.max_calls] + PERIOD)
            starts.append(turn)
            turns.append(turn)
        return [max(turn, enough) for turn in turns]

    def start(self, call):
        call.began = self.now
        self.starts.append(self.now)
        self.inside.append(call)

    def let_in(self):
        """
        Whoever comes by, or leaves, lets in those whose turn it is: less than a whole token may do for that. And who is
        first then looks again when his turn comes.
        """
        while self.queue and self.turns(1)[0] <= self.now:
            self.start(self.queue.pop(0))
        if self.queue:
            self.queue[0].planned = min(self.queue[0].planned, *self.turns(1))

    def plan(self, call):
        """
        Whoever waits looks again when his turn should come. If others have used so much meanwhile that it comes too
        late, he is refused then.
        """
        call.planned = self.turns(self.queue.index(call) + 1)[-1]
        if call.planned > call.ends or call.planned >= call.arrived + self.deadline:
            self.queue.remove(call)
            call.end = ("refused", call.planned - self.now)

    def next_moment(self):
        moments = [call.planned for call in self.queue]
        return min([*moments, *(call.arrived + self.deadline for call in self.inside)], default=inf)

    def come_to(self, moment):
        for call in [call for call in self.inside if call.arrived + self.deadline <= moment]:
            self.inside.remove(call)
            call.end = ErrorCode.ERR_TIMEOUT_DEADLINE
        for call in list(self.queue):
            if call.planned <= moment and call in self.queue:
                self.let_in()
                if call in self.queue:
                    self.plan(call)

    # What happens.

    @precondition(lambda self: len(self.queue) + len(self.inside) < 8)
    @rule()
    def call(self):
        call = Call(self.world.start(self.guarded), self.now, self.now + self.max_wait)
        self.calls.append(call)
        self.queue.append(call)
        self.let_in()
        if call in self.queue:
            self.plan(call)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), used=st.sampled_from([0, 1, 3, 5, MAX_TOKENS, 20]))
    def succeed(self, data, used):
        call = data.draw(st.sampled_from(self.inside))
        call.caller.attempts[0].end({"usage": {"total_tokens": used}})
        self.inside.remove(call)
        call.end = "value"
        if self.has_tokens:
            self.level, self.filled_at = self.tokens(self.now) - used, self.now
            self.charges.append((self.now, used))
            self.let_in()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def fail(self, data):
        """A failed attempt has started, but is charged nothing."""
        call = data.draw(st.sampled_from(self.inside))
        call.caller.attempts[0].end(ConnectionError())
        self.inside.remove(call)
        call.end = "failed"

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel_one_that_waits(self, data):
        """It leaves nothing behind: all others come earlier."""
        call = data.draw(st.sampled_from(self.queue))
        call.caller.interrupt()
        self.queue.remove(call)
        call.end = "cancelled"
        self.let_in()

    @rule(ticks=st.sampled_from([1, 4, 8, 16, 40]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    # What is seen.

    def expected(self):
        return [(call.began, call.end) for call in self.calls], len(self.queue)

    def seen(self):
        return [self._seen(call.caller) for call in self.calls], self.stack.admission.rate_limit.waiting

    @staticmethod
    def _seen(caller):
        began = caller.attempts[0].began if caller.attempts else None
        if not caller.has_ended:
            return began, None
        if caller.error is None:
            return began, "value"
        if isinstance(caller.error, LimitExceeded):
            return began, ("refused", caller.error.retry_after)
        if not isinstance(caller.error, Exception):
            return began, "cancelled"
        is_ours = isinstance(caller.error, ConnectionError)
        return began, "failed" if is_ours else caller.error.error_code

    @invariant()
    def agrees_with_the_model(self):
        self.agree()

    @invariant()
    def holds_in_every_window(self):
        began = sorted(attempt.began for call in self.calls for attempt in call.caller.attempts)
        if self.max_calls is not None:
            for first, one_too_many in zip(began, began[self.max_calls :], strict=False):
                assert one_too_many - first >= PERIOD

    @invariant()
    def keeps_the_bound_of_tokens(self):
        """Up to a start, less is charged in any window than it may hold and what flows in."""
        rate = MAX_TOKENS / TOKEN_PERIOD
        for ends in self.starts if self.has_tokens else ():
            for begins, _ in self.charges:
                charged = sum(used for moment, used in self.charges if begins <= moment < ends)
                assert charged < MAX_TOKENS + rate * (ends - begins) or charged == 0


TestRateLimitAgainstItsModel = RateLimitMachine.TestCase
TestRateLimitAgainstItsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
