"""What a schedule is: a policy, callers, and what each attempt does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pixel_llm.policy import TargetPolicy


@dataclass(frozen=True, slots=True)
class Act:
    """
    What an attempt does.

    Attributes:
        ends: ``ok``, the name of an error in :data:`soak.faults.FAULTS`, ``hang``, or ``interrupt``
            (KeyboardInterrupt).
        takes: Seconds until then.
        asked: The Retry-After of its answer in seconds, where that has one.
        blocks: Take the time without letting anybody else run, as a computation does.
    """

    ends: str = "ok"
    takes: float = 0.0
    asked: float | None = None
    blocks: bool = False

    def __repr__(self) -> str:
        asked = f", Retry-After {self.asked:g} s" if self.asked is not None else ""
        return f"<{'blocks' if self.blocks else 'takes'} {self.takes:g} s, {self.ends}{asked}>"


@dataclass(frozen=True, slots=True)
class CallPlan:
    """
    One call of a caller.

    Attributes:
        acts: What its attempts do, one after the other, the last one again and again.
        key: What names it in caches.
        pause: Seconds that the caller waits before it.
        cancel: Cancel it so many seconds after its beginning; only where callers are tasks.
        outcome: Ask for the outcome, not just for the value.
    """

    acts: tuple[Act, ...]
    key: int = 0
    pause: float = 0.0
    cancel: float | None = None
    outcome: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one after the other, in a task or in a thread. *cooperative* functions end in time by themselves."""

    world: str
    calls: tuple[CallPlan, ...]
    cooperative: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    All that a run depends on.

    Attributes:
        policy: The layers.
        callers: Who calls.
        order: The seed of who goes on at each point.
        shuffled: Pick by *order*; without it tasks keep asyncio's order.
        lines: How many lines of the engine threads run between two switches on average; 0 switches only where
            they wait, lock or unlock.
        opcodes: Count instructions instead of lines.
    """

    policy: TargetPolicy
    callers: tuple[Caller, ...]
    order: int = 0
    shuffled: bool = True
    lines: int = 0
    opcodes: bool = False

    @property
    def worlds(self) -> frozenset[str]:
        """The worlds of its callers."""
        return frozenset(caller.world for caller in self.callers)

    def __str__(self) -> str:
        lines = ["policy:"]
        for field in dataclasses.fields(self.policy):
            value = getattr(self.policy, field.name)
            if value != field.default:
                lines.append(f"  {field.name}: {_brief(value)}")
        switching = f", a switch every {self.lines} {'instructions' if self.opcodes else 'lines'}" if self.lines else ""
        lines.append(f"order: {self.order}{'' if self.shuffled else ' (asyncio’s own)'}{switching}")
        for number, caller in enumerate(self.callers):
            kind = f", {'cooperative' if caller.cooperative else 'plain'}" if caller.world == "sync" else ""
            lines.append(f"caller {number} ({caller.world}{kind}):")
            lines += [f"  {_call(plan)}" for plan in caller.calls]
        return "\n".join(lines)


def _call(plan: CallPlan) -> str:
    cancel = f", cancelled after {plan.cancel:g} s" if plan.cancel is not None else ""
    return f"after {plan.pause:g} s, key {plan.key}{cancel}: {' '.join(map(repr, plan.acts))}"


def _brief(value: Any) -> str:
    """A section, with what differs from its defaults."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_brief, value))}]"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    if hasattr(value, "names"):
        return str(value.names())
    fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    inside = ", ".join(f"{field.name}={_brief(content)}" for field, content in fields if content != field.default)
    return f"{type(value).__name__}({inside})"
