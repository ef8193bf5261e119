"""One call, held against a policy that it may have begun under."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pixel_llm.policy import FallbackStep, FallbackStrategy, TargetPolicy
from pixel_llm.policy.bounds import Bounds, compute_bounds
from pixel_llm.policy.sections.fallback import reserved
from soak.playing import Play
from soak.policies import BANK
from soak.records import Call
from soak.targets import TARGET

#: Less than any duration that is drawn; more than what adding floats loses.
GRAIN = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    """
    One call of a play, and the policy it is under.

    Where the policy was loaded again while the call began, there is a case for each; one of them must hold.
    """

    play: Play
    call: Call
    policy: TargetPolicy
    bounds: Bounds

    @classmethod
    def all_bounds(cls, play: Play) -> list[Bounds]:
        """The bounds under each policy in turn; last those of the bank."""
        targets = play.targets
        bounds = [compute_bounds(targets.config_with(policy), TARGET) for policy in targets.policies]
        bank = play.schedule.bank
        return bounds if bank is None else [*bounds, compute_bounds(targets.config, BANK)]

    @classmethod
    def each(cls, play: Play, call: Call, bounds: list[Bounds]) -> Iterator[Case]:
        """The cases of *call*."""
        bank = play.schedule.bank
        if call.is_nested:
            assert bank is not None
            yield cls(play, call, bank, bounds[-1])
            return
        last = call.first_policy if call.last_policy is None else call.last_policy
        for number in range(call.first_policy, last + 1):
            yield cls(play, call, play.targets.policies[number], bounds[number])

    @property
    def slack(self) -> float:
        """Seconds that limits may be exceeded by: what attempts take without letting anybody else run."""
        return self.play.blocked + GRAIN

    @property
    def attempts_end(self) -> float:
        """The moment of its deadline, less what is kept of it for the fallback; inf without one."""
        policy = self.policy
        if policy.deadline is None:
            return math.inf
        return self.call.begins + policy.deadline - reserved(policy.fallback or ())

    def longest_in_queues_of_others(self) -> float:
        """
        Seconds that it may take where the policy is loaded again meanwhile.

        It ends under its own policy, but its attempts queue with those of the next one, as long as that one says.
        """
        if self.call.is_nested:
            return or_inf(self.bounds.worst_latency)
        targets, longest = self.play.targets, 0.0
        for number in targets.in_force(self.call.begins - self.play.blocked - GRAIN, self.call.ended_at):
            other = targets.policies[number]
            policy = replace(
                self.policy,
                bulkhead=self.policy.bulkhead and (other.bulkhead or self.policy.bulkhead),
                rate_limit=self.policy.rate_limit and (other.rate_limit or self.policy.rate_limit),
            )
            longest = max(longest, or_inf(compute_bounds(targets.config_with(policy), TARGET).worst_latency))
        return max(longest, or_inf(self.bounds.worst_latency))

    @property
    def must_end(self) -> float:
        """The moment of its deadline."""
        return math.inf if self.policy.deadline is None else self.call.begins + self.policy.deadline

    @property
    def attempt_timeout(self) -> float:
        """How long an attempt may take, that of a stream to its first content; inf without a limit."""
        timeout = self.policy.timeout
        if timeout is None:
            return math.inf
        return or_inf(timeout.to_first_content if self.call.is_stream else timeout.attempt)

    @property
    def is_interruptible(self) -> bool:
        """Whether something can end the call's attempts in time."""
        if self.call.caller.world == "async" or self.call.caller.cooperative:
            return True
        timeout = self.policy.timeout
        if timeout is None:
            return False
        return timeout.ends_attempts if self.call.is_stream else timeout.attempt is not None

    @property
    def runs_on(self) -> bool:
        """
        Whether attempts may run on when it has ended.

        Threads can't be stopped; and a stream that is dropped while somebody else is about to close it is still held.
        """
        reading = self.call.plan.reading
        if reading is not None and reading.beside is not None and reading.leaves is not None and not reading.closes:
            return True
        bank = self.play.schedule.bank
        hedged = self.policy.hedge is not None or (bank is not None and bank.hedge is not None)
        return self.call.caller.world == "sync" and (hedged or not self.call.caller.cooperative)

    @property
    def steps(self) -> tuple[FallbackStep, ...]:
        """The steps of its fallback."""
        return self.policy.fallback or ()

    @property
    def all_steps(self) -> tuple[FallbackStep, ...]:
        """Those, and those of the bank, if they go there."""
        bank = self.play.schedule.bank if self.may_go_to_the_bank else None
        return self.steps if bank is None else (*self.steps, *(bank.fallback or ()))

    @property
    def may_go_to_the_bank(self) -> bool:
        """Whether a fallback may call the bank."""
        return any(step.strategy is FallbackStrategy.TARGET for step in self.steps)


def or_inf(seconds: float | None) -> float:
    """A limit in seconds, where None is none."""
    return math.inf if seconds is None else seconds
