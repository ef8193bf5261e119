"""A loaded profile, compiled: the object that guards callables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from pixel_llm.errors import Place, PolicyError, Problem, ValidationError
from pixel_llm.events import Listener, Listeners
from pixel_llm.monitoring import EventLog
from pixel_llm.policy import SYSTEM_TARGETS, LoadedPolicy, PolicyConfig, TargetPolicy, load_policy
from pixel_llm.policy.sections.target import is_pattern, is_system_name, is_target_name, patterns_for
from pixel_llm.policy.suggestions import one_of, suggestion
from pixel_llm.resilience import SYSTEM_CLOCK, CircuitBreaker, Clock, Guarded, Layer, Stack, guard
from pixel_llm.resilience.breaker_keys import BreakerKey
from pixel_llm.resilience.options import Alternative
from pixel_llm.resilience.registry import check_functions, finder
from pixel_llm.resilience.wrapped import WrappedTargets, fallback_targets

#: The key of the breaker of a target that has one only. None may be a key.
_WHOLE_TARGET = object()

P = ParamSpec("P")
R = TypeVar("R")


def load_policies(
    folder: str | Path | None = None,
    profile: str | None = None,
    *,
    overlays: Iterable[str | Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    listeners: Iterable[Listener] = (),
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Policies:
    """
    Load a profile and compile its stacks. Call this once, at start-up.

    Args:
        folder: Where policies lie, else ``$PIXEL_LLM_POLICIES``, else ``./policies``, else those
            in the package. The shipped profiles can be loaded and extended by name from anywhere.
        profile: Which one, else ``$PIXEL_LLM_PROFILE``, else ``basic``.
        overlays: Files laid over the profile, else those of ``$PIXEL_LLM_OVERLAYS``, separated as in ``$PATH``.
        overrides: Sections laid over all that, as a policy file would have them; checked by the same schema.
        variables: What ``${VAR}`` sees; by default the environment.
        clock: Where time comes from.
        listeners: Called in order for every event. One that raises is reported and skipped.
        functions: Functions by the names that the policy uses, laid over those of
            :func:`pixel_llm.register_function`.

    Raises:
        PolicyError: With every problem of the policy. Nothing is started then.
    """
    if overrides is not None and not isinstance(overrides, Mapping):
        raise ValidationError(f"overrides must be a mapping of policy sections (got {type(overrides).__name__})")
    loaded = load_policy(folder, profile, overlays=overlays, overrides=overrides, variables=variables)
    return Policies(loaded, clock=clock, listeners=listeners, functions=functions)


class Policies:
    """
    The compiled stacks of one profile. Safe for concurrent use.

    All callables wrapped for the same target share its breaker and its cache.

    Attributes:
        profile: The profile's name.
        file: The file it came from.
        config: What it says, frozen.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        *,
        clock: Clock = SYSTEM_CLOCK,
        listeners: Iterable[Listener] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._find_function = finder(functions)
        if problems := check_functions(loaded, self._find_function):
            raise PolicyError(problems)
        self.profile: str = loaded.profile
        self.file: Path = loaded.file
        self.config: PolicyConfig = loaded.config
        self._log = EventLog(loaded.config.logging, profile=loaded.profile)
        self._listeners = Listeners([self._log, *listeners])
        self._clock = clock
        self._wrapped = WrappedTargets(fallback_targets(loaded.config))
        # The system's own targets may always be wrapped; without a section nothing guards them.
        self._targets = {name: TargetPolicy() for name in SYSTEM_TARGETS} | dict(loaded.config.targets)
        self._stacks = {
            name: self._compile(name, policy) for name, policy in self._targets.items() if not is_pattern(name)
        }
        self._lock = threading.Lock()

    def wrap(
        self,
        target: str,
        function: Callable[P, R],
        *,
        key: Callable[..., Any] | None = None,
        cooperative: bool = False,
        cacheable: Callable[[Any], bool] | None = None,
        alternative: Alternative | None = None,
        breaker_key: BreakerKey | None = None,
    ) -> Guarded[P, R]:
        """
        Put the stack of *target* around *function*, sync or async; see :func:`pixel_llm.resilience.guard`.

        Raises:
            PolicyError: If the policy has no such target.
            ValidationError: If the function can't be guarded as the policy asks.
        """
        return guard(
            self._stack(target),
            function,
            key=key,
            cooperative=cooperative,
            cacheable=cacheable,
            alternative=alternative,
            breaker_key=breaker_key,
        )

    def guard(
        self,
        target: str,
        *,
        key: Callable[..., Any] | None = None,
        cooperative: bool = False,
        cacheable: Callable[[Any], bool] | None = None,
        alternative: Alternative | None = None,
        breaker_key: BreakerKey | None = None,
    ) -> Callable[[Callable[P, R]], Guarded[P, R]]:
        """:meth:`wrap` as a decorator."""
        if not isinstance(target, str):
            raise ValidationError(
                f'guard needs the name of a target: @policies.guard("billing.charge") (got {target!r})'
            )

        def decorate(function: Callable[P, R]) -> Guarded[P, R]:
            return self.wrap(
                target,
                function,
                key=key,
                cooperative=cooperative,
                cacheable=cacheable,
                alternative=alternative,
                breaker_key=breaker_key,
            )

        return decorate

    def breaker(self, target: str, *, key: Hashable = _WHOLE_TARGET) -> CircuitBreaker:
        """
        The circuit breaker of *target*, or that of one *key* where the policy says ``per``.

        Raises:
            PolicyError: If the policy has no such target, gives it no breaker, or gives it one for each key and none
                is named, or the other way round.
        """
        stack = self._stack(target)
        if stack.breakers is not None:
            per = stack.policy.circuit_breaker.per if stack.policy.circuit_breaker is not None else ""
            if key is _WHOLE_TARGET:
                raise self._problem(target, f"{target} has a circuit breaker for each {per}: name one with key=")
            return stack.breakers.get(key)
        if stack.breaker is None:
            raise self._problem(target, f"{target} has no circuit_breaker")
        if key is not _WHOLE_TARGET:
            raise self._problem(target, f"{target} has one circuit breaker for all calls: key= names none")
        return stack.breaker

    def breakers(self, target: str) -> dict[Hashable, CircuitBreaker]:
        """The circuit breakers that *target* has by now, by key; without ``per`` the only one, under None."""
        stack = self._stack(target)
        if stack.breakers is not None:
            return dict(stack.breakers.items())
        return {} if stack.breaker is None else {None: stack.breaker}

    def has_breaker(self, target: str) -> bool:
        """True if *target* has a circuit breaker."""
        return self._stack(target).policy.circuit_breaker is not None

    def describe(self, target: str) -> tuple[Layer, ...]:
        """The layers of *target*, outermost first, the call itself last."""
        return self._stack(target).describe()

    def add_listener(self, listener: Listener) -> None:
        """Tell *listener* about every event from now on."""
        self._listeners.add(listener)

    def log_content(self, target: str, **content: str) -> None:
        """Write down what was asked and answered, if the policy says ``log_content: full``; else nothing."""
        self._log.content(target, **content)

    def close(self) -> None:
        """Close the log. Calls through the stacks still work."""
        self._log.close()

    def __enter__(self) -> Policies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Policies {self.profile!r} from {self.file}>"

    def _stack(self, target: str) -> Stack:
        stack = self._stacks.get(target)
        if stack is None and (patterns := self._patterns_for(target)):
            with self._lock:  # a name that only the program knows: compiled when it is first wrapped
                stack = self._stacks.setdefault(target, self._compile(target, self._targets[patterns[-1]]))
        if stack is None:
            hint = suggestion(target, self._stacks) or f"; there are {one_of(sorted(self._stacks))}"
            raise self._problem(target, f"this policy has no target {target!r}{hint}")
        return stack

    def _patterns_for(self, target: str) -> list[str]:
        """The patterns that give *target* its stack; none for a misspelt name of the system's, or what is no name."""
        may_be_one = is_target_name(target) and not is_system_name(target)
        return patterns_for(target, self._targets) if may_be_one else []

    def _compile(self, target: str, policy: TargetPolicy) -> Stack:
        return Stack(target, policy, clock=self._clock, emit=self._listeners, find_function=self._find_function)

    def _problem(self, target: str, message: str) -> PolicyError:
        return PolicyError([Problem(Place(str(self.file)), f"targets.{target}", message)])
