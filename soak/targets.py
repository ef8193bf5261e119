"""The targets of a play: compiled as a loaded policy is, guarded, and compiled anew when it is loaded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pixel_llm.errors import Place
from pixel_llm.events import Listener
from pixel_llm.policy import LoadedPolicy, PolicyConfig, TargetPolicy
from pixel_llm.policy.nodes import Node
from pixel_llm.resilience import Clock, Stack, guard
from pixel_llm.runtime.compiled import Compiled
from soak.policies import BANK
from soak.records import Call
from soak.spans import Tracer

TARGET = "shop.pay"

#: The ways of a callable: tasks, threads that end in time by themselves, and others.
ASYNC, COOPERATIVE, PLAIN = "async", "cooperative", "plain"

#: Gives what is guarded: for a place, a way, and whether it gives streams.
Make = Callable[[str, str, bool], Callable[..., Any]]

_NOWHERE = Place("soak.yaml")
_EMPTY = Node({}, _NOWHERE)


def way_of(call: Call) -> str:
    """The way of the callables of *call*."""
    if call.caller.world == "async":
        return ASYNC
    return COOPERATIVE if call.caller.cooperative else PLAIN


class Targets:
    """
    What a play's callers call, under one policy after the other.

    Args:
        policy: The layers of the first target.
        bank: Those of the second.
        ways: The ways that are needed.
        streams: Whether streams are.
        make: Gives what is guarded.
        clock: Where time comes from.
        emit: Takes the events.
        functions: What the policies name.
        tracer: Sees the calls.

    Attributes:
        policies: Those that the first target has had.
        changes: When each of them, but the first, has begun to come into force, and when it was.
        settled: The number of the last one that is: no new call begins under one before.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        bank: TargetPolicy | None,
        *,
        ways: list[str],
        streams: bool,
        make: Make,
        clock: Clock,
        emit: Listener,
        functions: Callable[[str], Callable[..., Any]],
        tracer: Tracer | None,
    ) -> None:
        self.policies = [policy]
        self.changes: list[tuple[float, float]] = []
        self.settled = 0
        self._bank = bank
        self._clock = clock
        self._make = make
        self._options: Any = {"clock": clock, "emit": emit, "find_function": functions, "tracer": tracer}
        self._compiled = self._compile(policy)
        self._compiled.take_queues()
        self._stacks = [self.stack]
        self._guarded: dict[tuple[str, str, bool], Any] = {}
        for way in ways:
            for is_stream in (False, True) if streams else (False,):
                self._guard(TARGET, way, is_stream)
        if bank is not None:
            threads = [PLAIN, COOPERATIVE] if ways != [ASYNC] else []  # fallbacks find the last one
            for way in [*threads, *([ASYNC] if ASYNC in ways else [])]:
                self._guard(BANK, way, False)

    @property
    def stack(self) -> Stack:
        """The first target's, now."""
        return self._compiled.stack(TARGET)

    def stacks(self) -> Iterator[Stack]:
        """All that there have been, those of other models included."""
        for stack in (*self._stacks, *([self._compiled.stack(BANK)] if self._bank is not None else [])):
            yield stack
            if stack.fallback is not None:
                yield from stack.fallback.stacks.values()

    def guarded(self, call: Call) -> Any:
        """What *call* calls; its policy is noted."""
        if call.is_nested:
            return self._guarded[BANK, way_of(call), False]
        call.first_policy = self.settled
        return self._guarded[TARGET, way_of(call), call.is_stream]

    @property
    def config(self) -> PolicyConfig:
        """The policy as it is now."""
        return self.config_with(self.policies[-1])

    def config_with(self, policy: TargetPolicy) -> PolicyConfig:
        """A policy in which the first target has these layers."""
        bank = {} if self._bank is None else {BANK: self._bank}
        return PolicyConfig(version=1, targets={TARGET: policy, **bank})

    def reload(self, policy: TargetPolicy) -> None:
        """Load a policy in which the first target has these layers; see :meth:`pixel_llm.Policies.reload`."""
        new = self._compile(policy, self._compiled)
        roads = new.roads(self._guarded.values())
        self.policies.append(policy)
        begun = self._clock.monotonic()
        new.take_queues()
        for binding, road in roads:
            binding.take(road)
        self._compiled = new
        self._stacks.append(self.stack)
        self.changes.append((begun, self._clock.monotonic()))
        self.settled = len(self.policies) - 1

    def in_force(self, since: float, until: float) -> range:
        """The numbers of the policies that were in force at a moment from *since* to *until*, perhaps."""
        first = sum(end < since for _, end in self.changes)
        return range(first, 1 + sum(begun <= until for begun, _ in self.changes))

    def _compile(self, policy: TargetPolicy, before: Compiled | None = None) -> Compiled:
        loaded = LoadedPolicy("soak", Path(_NOWHERE.file), self.config_with(policy), _EMPTY, _EMPTY, {}, frozenset())
        return Compiled(loaded, before=before, **self._options)

    def _guard(self, target: str, way: str, is_stream: bool) -> None:
        function = self._make(target, way, is_stream)
        self._guarded[target, way, is_stream] = guard(
            self._compiled.stack(target),
            function,
            key=lambda call: call.cache_key,
            breaker_key=lambda call: call.plan.key,
            cooperative=way == COOPERATIVE,
            stream=is_stream,
            alternative=lambda kind, name: self._make(f"{target}[{kind}={name}]", way, is_stream),
        )
