"""A loaded profile, compiled: the object that guards callables."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from pixel_llm.errors import PolicyError, ValidationError
from pixel_llm.events import Event, Listener, PolicyReloaded, PolicyReloadFailed
from pixel_llm.monitoring import EventLog, Health, Log, Snapshot, Tally
from pixel_llm.monitoring.health import judge
from pixel_llm.monitoring.snapshot.reading import read_snapshot
from pixel_llm.policy import LoadedPolicy, PolicyConfig, load_policy
from pixel_llm.policy.suggestions import one_of
from pixel_llm.resilience import SYSTEM_CLOCK, CircuitBreaker, Clock, Guarded, Layer, Stack, StackStats, guard
from pixel_llm.resilience.breaker.keys import BreakerKey
from pixel_llm.resilience.registry import finder
from pixel_llm.resilience.roads.binding import Binding, Road
from pixel_llm.resilience.roads.options import Alternative
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.resilience.tracing import Tracer
from pixel_llm.runtime import active
from pixel_llm.runtime.compiled import Compiled
from pixel_llm.runtime.reloaded import Reloaded, compare
from pixel_llm.runtime.telling import PolicyListeners

_VERSION = version("pixel-llm")

#: The key of the breaker of a target that has one only. None may be a key.
_WHOLE_TARGET = object()

P = ParamSpec("P")
R = TypeVar("R")


def load_policies(
    folder: str | Path | None = None,
    profile: str | None = None,
    *,
    overlays: str | Path | Iterable[str | Path] | None = None,
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
        overlays: A file, or several in order, laid over the profile, else those of ``$PIXEL_LLM_OVERLAYS``,
            separated as in ``$PATH``.
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
    overlays = overlays if overlays is None or isinstance(overlays, str | Path) else tuple(overlays)

    def load() -> LoadedPolicy:
        return load_policy(folder, profile, overlays=overlays, overrides=overrides, variables=variables)

    policies = Policies(load, clock=clock, listeners=listeners, functions=functions)
    active.loaded(policies)
    return policies


class Policies:
    """
    The compiled stacks of one profile. Safe for concurrent use.

    All callables wrapped for the same target share its breaker and its cache.

    Args:
        load: Reads the policy: now, and again for :meth:`reload`.
        clock: Where time comes from.
        listeners: Called in order for every event.
        functions: Functions by the names that the policy uses.
    """

    def __init__(
        self,
        load: Callable[[], LoadedPolicy],
        *,
        clock: Clock = SYSTEM_CLOCK,
        listeners: Iterable[Listener] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._load = load
        self._clock = clock
        self._find_function = finder(functions)
        self._tracer: Tracer | None = None
        loaded = load()
        self._listeners = PolicyListeners(map(_checked_listener, listeners))
        self._compiled = self._compile(loaded)
        self._tally = Tally(monotonic=clock.monotonic)
        self._listeners.add(self._tally, first=True)
        self._log = EventLog(loaded.config.logging, profile=loaded.profile)
        self._listeners.add(self._log, first=True)
        # Held while something is wrapped or loaded again; calls never need it.
        self._lock = threading.RLock()
        self._guarded: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self._compiled.loaded.profile

    @property
    def file(self) -> Path:
        """The file it came from."""
        return self._compiled.loaded.file

    @property
    def config(self) -> PolicyConfig:
        """What it says, frozen."""
        return self._compiled.loaded.config

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        return self._clock

    @property
    def log(self) -> Log:
        """Where records go, as its `logging` section says; another one after :meth:`reload`."""
        return self._log.log

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
        stream: bool = False,
        routes: Routes | None = None,
    ) -> Guarded[P, R]:
        """
        Put the stack of *target* around *function*, sync or async; see :func:`pixel_llm.resilience.guard`.

        Raises:
            PolicyError: If the policy has no such target.
            ValidationError: If the function can't be guarded as the policy asks.
        """
        with self._lock:
            guarded = guard(
                self._compiled.stack(target),
                function,
                key=key,
                cooperative=cooperative,
                cacheable=cacheable,
                alternative=alternative,
                breaker_key=breaker_key,
                stream=stream,
                routes=routes,
            )
            self._guarded.add(guarded)
        return guarded

    def adopt(self, guarded: Guarded[..., Any]) -> Stack:
        """The stack for *guarded*, which was made without one; it is bound anew with the others."""
        with self._lock:
            stack = self._compiled.stack(guarded.target)
            self._compiled.record(guarded)
            self._guarded.add(guarded)
        return stack

    def guard(
        self,
        target: str,
        *,
        key: Callable[..., Any] | None = None,
        cooperative: bool = False,
        cacheable: Callable[[Any], bool] | None = None,
        alternative: Alternative | None = None,
        breaker_key: BreakerKey | None = None,
        stream: bool = False,
        routes: Routes | None = None,
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
                stream=stream,
                routes=routes,
            )

        return decorate

    def breaker(self, target: str, *, key: Hashable = _WHOLE_TARGET) -> CircuitBreaker:
        """
        The circuit breaker of *target*, or that of one *key* where the policy says ``per``.

        Where its calls can go to several endpoints, *key* is the address of one, as :meth:`breakers` has it.

        Raises:
            PolicyError: If the policy has no such target, gives it no breaker, or gives it one for each key and none
                is named, or the other way round.
        """
        stack = self._compiled.stack(target)
        if stack.over_routes is not None and stack.policy.circuit_breaker is not None:
            return self._breaker_of_place(target, key)
        if stack.breakers is not None:
            per = stack.policy.circuit_breaker.per if stack.policy.circuit_breaker is not None else ""
            if key is _WHOLE_TARGET:
                raise self._compiled.problem(
                    target, f"{target} has a circuit breaker for each {per}: name one with key="
                )
            return stack.breakers.get(key)
        if stack.breaker is None:
            raise self._compiled.problem(target, f"{target} has no circuit_breaker")
        if key is not _WHOLE_TARGET:
            raise self._compiled.problem(target, f"{target} has one circuit breaker for all calls: key= names none")
        return stack.breaker

    def breakers(self, target: str) -> dict[Hashable, CircuitBreaker]:
        """
        The circuit breakers that *target* has by now, by key; without ``per`` the only one, under None.

        Where its calls can go to several endpoints, each has its own, under its address; with ``per: model`` they are
        under the address and the model.
        """
        stack = self._compiled.stack(target)
        if stack.over_routes is not None:
            found: dict[Hashable, CircuitBreaker] = stack.over_routes.breakers_by_place()
            return found
        if stack.breakers is not None:
            return dict(stack.breakers.items())
        return {} if stack.breaker is None else {None: stack.breaker}

    def _breaker_of_place(self, target: str, key: Hashable) -> CircuitBreaker:
        breakers = self.breakers(target)
        if key is _WHOLE_TARGET and len(breakers) == 1:
            return next(iter(breakers.values()))
        if key not in breakers:
            there = one_of([str(known) for known in breakers])
            raise self._compiled.problem(
                target, f"{target} has a circuit breaker for each endpoint: name one with key=; there are {there}"
            )
        return breakers[key]

    def has_breaker(self, target: str) -> bool:
        """True if *target* has a circuit breaker."""
        return self._compiled.stack(target).policy.circuit_breaker is not None

    def describe(self, target: str) -> tuple[Layer, ...]:
        """The layers of *target*, outermost first, the call itself last."""
        return self._compiled.stack(target).describe()

    def stats(self, target: str) -> StackStats:
        """What has become of the calls of *target* so far."""
        return self._compiled.stack(target).stats()

    def snapshot(self) -> Snapshot:
        """All that the stacks know now, counters and states, consistent in itself: for metrics."""
        return read_snapshot(self._compiled.stacks(), self._tally, profile=self.profile, version=_VERSION)

    def health(self) -> Health:
        """How well the targets are now: ok, degraded or failing, and why."""
        return judge([self.snapshot()])

    def reload(self) -> Reloaded:
        """
        Read the policy again, as it was read at first, and put every guarded callable under its new stack.

        Calls that are under way end as they began. What layers know (breakers, caches, budgets, counters) goes on
        where their section is the same as before; rate limits and bulkheads go on with what has started and is under
        way whatever changes in their sections, see :meth:`pixel_llm.resilience.RateLimit.go_on_as` and
        :meth:`pixel_llm.resilience.Bulkhead.go_on_as`. The sections `lm_studio` and `encoder` are for those who make
        new models of them: a :class:`pixel_llm.HybridPixelLLM` keeps its own.

        Raises:
            PolicyError: With every problem of the new policy, or of what is wrapped under it. Then nothing has changed.
        """
        with self._lock:
            try:
                loaded = self._load()
                new = self._compile(loaded, before=self._compiled)
                roads = new.roads(self._guarded)
                log = EventLog(loaded.config.logging, profile=loaded.profile)
            except PolicyError as error:
                self._listeners(PolicyReloadFailed(self.profile, tuple(map(str, error.problems))))
                raise
            reloaded = compare(self._compiled.loaded, loaded)
            self._put_in_force(new, roads)
            self._tally.keep_only(stack.target for stack in new.stacks())
            self._listeners.replace(self._log, log)
            before, self._log = self._log, log
            active.log_changed(self)
            before.close()
            # Still within the lock, as the failures: what is told last is how it is.
            self._listeners(PolicyReloaded(self.profile, reloaded.targets, reloaded.restart))
        return reloaded

    def trace(self, tracer: Tracer | None) -> None:
        """
        Have *tracer* see every call and attempt that begins from now on, in place of another one; None sees nothing.

        :func:`pixel_llm.opentelemetry.instrument` makes spans of them. A call that is seen takes the long road, with
        two spans to keep: some twenty times what one costs that nobody sees, and what the tracer takes.
        """
        with self._lock:
            self._tracer = tracer
            new = self._compile(self._compiled.loaded, before=self._compiled)
            self._put_in_force(new, new.roads(self._guarded))

    def activate(self) -> None:
        """Make these the policies that ``@pixel_llm.guard`` binds to."""
        active.activate(self)

    def add_listener(self, listener: Listener) -> None:
        """
        Tell *listener* about every event from now on.

        Raises:
            ValidationError: If it can't be called, or is async: nobody would await it.
        """
        self._listeners.add(_checked_listener(listener))

    def tell(self, event: Event) -> None:
        """Tell every listener, the log first, of an event that no stack reports, such as one of a client's."""
        self._listeners(event)

    def log_content(self, target: str, error: Exception | None = None, **content: str) -> None:
        """
        Write down what was asked and answered, if the policy says ``log_content: full``; else nothing.

        *error* is what the call failed of, if it did.
        """
        self._log.content(target, error, **content)

    def close(self) -> None:
        """Write what waits into the log and close it, and be the active policies no longer. Calls still work."""
        active.closed(self)
        self._log.close()

    def __enter__(self) -> Policies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Policies {self.profile!r} from {self.file}>"

    def _compile(self, loaded: LoadedPolicy, before: Compiled | None = None) -> Compiled:
        return Compiled(
            loaded,
            clock=self._clock,
            emit=self._listeners,
            find_function=self._find_function,
            before=before,
            tracer=self._tracer,
        )

    def _put_in_force(self, new: Compiled, roads: Iterable[tuple[Binding, Road]]) -> None:
        """Put what is guarded on its new *roads*. Nothing can fail any more."""
        new.take_queues()
        for binding, road in roads:
            binding.take(road)
        self._compiled = new


def _checked_listener(listener: Listener) -> Listener:
    if not callable(listener) or inspect.iscoroutinefunction(listener):
        raise ValidationError(f"a listener must be a plain function that takes an event (got {listener!r})")
    return listener
