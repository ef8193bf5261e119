"""A loaded policy with its stacks."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable
from typing import Any

from pixel_llm.errors import Place, PolicyError, Problem, ValidationError
from pixel_llm.events import Listener
from pixel_llm.policy import SYSTEM_TARGETS, LoadedPolicy, TargetPolicy
from pixel_llm.policy.sections.target import is_pattern, is_system_name, is_target_name, patterns_for
from pixel_llm.policy.suggestions import one_of, suggestion
from pixel_llm.resilience import Clock, RetryBudget, Stack
from pixel_llm.resilience.fallbacks.wrapped import WrappedTargets, fallback_targets
from pixel_llm.resilience.registry import FindFunction, check_functions
from pixel_llm.resilience.roads.binding import Binding, Road
from pixel_llm.resilience.tracing import Tracer


class Compiled:
    """
    A loaded policy with its stacks. Safe for concurrent use.

    Args:
        loaded: The policy.
        clock: Where time comes from.
        emit: Takes the events of the stacks.
        find_function: Finds the functions that the policy names.
        before: What was compiled of it before, if it is loaded again: a stack whose target is the same is kept,
            and what layers know goes on where their section is the same.
        tracer: Sees calls and attempts begin and end.

    Raises:
        PolicyError: If it names a function that nobody has registered.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        *,
        clock: Clock,
        emit: Listener,
        find_function: FindFunction,
        before: Compiled | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        if problems := check_functions(loaded, find_function):
            raise PolicyError(problems)
        self.loaded = loaded
        self._clock = clock
        self._emit = emit
        self._find_function = find_function
        self._tracer = tracer
        self._stacks: dict[str, Stack] = {}
        self._before = {} if before is None else before._stacks
        self._budgets = _budgets(loaded, clock, before)
        self._serves = False
        self._wrapped = WrappedTargets(fallback_targets(loaded.config))
        # The system's own targets may always be wrapped; without a section nothing guards them.
        self._targets = {name: TargetPolicy() for name in SYSTEM_TARGETS} | dict(loaded.config.targets)
        self._stacks |= {
            name: self._compile(name, policy) for name, policy in self._targets.items() if not is_pattern(name)
        }
        self._lock = threading.Lock()

    def stack(self, target: str) -> Stack:
        """
        The stack of *target*.

        Raises:
            PolicyError: If the policy has no such target.
        """
        if not isinstance(target, str):
            raise ValidationError(f'a target is named by a text such as "billing.charge" (got {target!r})')
        stack = self._stacks.get(target)
        if stack is None and (patterns := self._patterns_for(target)):
            with self._lock:  # a name that only the program knows: compiled when it is first wrapped
                stack = self._stacks.get(target)
                if stack is None:
                    stack = self._compile(target, self._targets[patterns[-1]])
                    if self._serves:
                        self._take_queues(stack)
                    self._stacks[target] = stack
        if stack is None:
            hint = suggestion(target, self._stacks) or f"; there are {one_of(sorted(self._stacks))}"
            raise self.problem(target, f"this policy has no target {target!r}{hint}")
        return stack

    def stacks(self) -> list[Stack]:
        """All that are compiled by now."""
        return list(self._stacks.values())

    def roads(self, guarded: Iterable[Any]) -> list[tuple[Binding, Road]]:
        """
        The roads of what was *guarded* under the policy before.

        Raises:
            PolicyError: With everything that can't be guarded by this one.
        """
        roads: list[tuple[Binding, Road]] = []
        problems: list[Problem] = []
        for one in list(guarded):
            try:
                stack = self.stack(one.target)
                roads.append((one.binding, one.binding.prepare(stack)))
                self.record(one)
            except PolicyError as error:
                problems.extend(error.problems)
            except ValidationError as error:
                problems.extend(self.problem(one.target, error.message).problems)
        if problems:
            raise PolicyError(list(dict.fromkeys(problems)))
        return roads

    def take_queues(self) -> None:
        """
        From now on these stacks serve: what has entered under the policy before counts against their limits.

        Nothing can fail any more when this is done, since the stacks before are no longer what they were.
        """
        for stack in self._stacks.values():
            self._take_queues(stack)
        self._serves = True

    def record(self, guarded: Any) -> None:
        """Note that *guarded* is wrapped, for the fallbacks that name its target."""
        is_async = inspect.iscoroutinefunction(guarded.__wrapped__) or getattr(guarded, "is_async_stream", False)
        self._wrapped.record(guarded.target, guarded, is_async=is_async)

    def problem(self, target: str, message: str) -> PolicyError:
        """The error for something that is wrong with *target*."""
        return PolicyError([Problem(Place(str(self.loaded.file)), f"targets.{target}", message)])

    def _patterns_for(self, target: str) -> list[str]:
        """The patterns that give *target* its stack; none for a misspelt name of the system's, or what is no name."""
        may_be_one = is_target_name(target) and not is_system_name(target)
        return patterns_for(target, self._targets) if may_be_one else []

    def _take_queues(self, stack: Stack) -> None:
        before = self._before.get(stack.target)
        if before is not None:
            stack.take_queues(before)

    def _compile(self, target: str, policy: TargetPolicy) -> Stack:
        return Stack(
            target,
            policy,
            is_checked=True,
            clock=self._clock,
            emit=self._emit,
            find_function=self._find_function,
            wrapped=self._wrapped,
            before=self._before.get(target),
            budgets=self._budgets,
            tracer=self._tracer,
        )


def _budgets(loaded: LoadedPolicy, clock: Clock, before: Compiled | None) -> dict[str, RetryBudget]:
    """The budgets that targets name. One whose section is as before goes on."""
    sections = loaded.config.retry_budgets
    kept = {} if before is None else before._budgets
    return {
        name: kept[name]
        if name in kept and kept[name].config == section
        else RetryBudget(section, clock=clock, name=name)
        for name, section in sections.items()
    }
