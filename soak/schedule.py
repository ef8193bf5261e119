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
        chunks: Of a stream: the seconds before each chunk that it delivers first.
        tokens: How many its result says it has used.
    """

    ends: str = "ok"
    takes: float = 0.0
    asked: float | None = None
    blocks: bool = False
    chunks: tuple[float, ...] = ()
    tokens: int = 0

    def __repr__(self) -> str:
        asked = f", Retry-After {self.asked:g} s" if self.asked is not None else ""
        chunks = f"chunks after {', '.join(f'{gap:g}' for gap in self.chunks)} s, " if self.chunks else ""
        tokens = f", {self.tokens} tokens" if self.tokens else ""
        return f"<{chunks}{'blocks' if self.blocks else 'takes'} {self.takes:g} s, {self.ends}{asked}{tokens}>"


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What the consumer of a stream does.

    Attributes:
        pauses: Seconds for which it lets the stream lie after each chunk, the last one again and again.
        leaves: After so many chunks it leaves; None reads to the end.
        closes: It closes what it leaves; else it drops it.
        beside: Somebody else closes the stream so many seconds after its beginning.
    """

    pauses: tuple[float, ...] = (0.0,)
    leaves: int | None = None
    closes: bool = True
    beside: float | None = None

    def __str__(self) -> str:
        leaves = "" if self.leaves is None else f", {'closed' if self.closes else 'dropped'} after {self.leaves} chunks"
        beside = "" if self.beside is None else f", closed from beside after {self.beside:g} s"
        return f"stream, pauses {', '.join(f'{pause:g}' for pause in self.pauses)} s{leaves}{beside}"


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
        reading: It asks for a stream, and reads it so.
        nested: Each attempt of it calls the bank, behind a stack of its own.
        elsewhere: What is done, likewise, by all that it calls besides: the bank, other models, functions.
    """

    acts: tuple[Act, ...]
    key: int = 0
    pause: float = 0.0
    cancel: float | None = None
    outcome: bool = True
    reading: Reading | None = None
    nested: bool = False
    elsewhere: tuple[Act, ...] = (Act(),)


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one after the other, in a task or in a thread. *cooperative* functions end in time by themselves."""

    world: str
    calls: tuple[CallPlan, ...]
    cooperative: bool = True


@dataclass(frozen=True, slots=True)
class Reload:
    """The policy is loaded again *at* so many seconds after the beginning; now the target has these layers."""

    at: float
    policy: TargetPolicy


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    All that a run depends on.

    Attributes:
        policy: The layers of the target that callers call.
        callers: Who calls.
        order: The seed of who goes on at each point.
        shuffled: Pick by *order*; without it tasks keep asyncio's order.
        lines: How many lines of the engine threads run between two switches on average; 0 switches only where
            they wait, lock or unlock.
        opcodes: Count instructions instead of lines.
        bank: The layers of a second target, which attempts of the first, and its fallback, may call; or None.
        reloads: How the policy changes meanwhile, in order.
        traced: Somebody sees the calls and attempts.
    """

    policy: TargetPolicy
    callers: tuple[Caller, ...]
    order: int = 0
    shuffled: bool = True
    lines: int = 0
    opcodes: bool = False
    bank: TargetPolicy | None = None
    reloads: tuple[Reload, ...] = ()
    traced: bool = False

    @property
    def worlds(self) -> frozenset[str]:
        """The worlds of its callers."""
        return frozenset(caller.world for caller in self.callers)

    def __str__(self) -> str:
        lines = ["policy:", *_layers(self.policy)]
        if self.bank is not None:
            lines += ["bank:", *_layers(self.bank)]
        for reload in self.reloads:
            lines += [f"after {reload.at:g} s, policy:", *_layers(reload.policy)]
        switching = f", a switch every {self.lines} {'instructions' if self.opcodes else 'lines'}" if self.lines else ""
        traced = ", traced" if self.traced else ""
        lines.append(f"order: {self.order}{'' if self.shuffled else ' (asyncio’s own)'}{switching}{traced}")
        for number, caller in enumerate(self.callers):
            kind = f", {'cooperative' if caller.cooperative else 'plain'}" if caller.world == "sync" else ""
            lines.append(f"caller {number} ({caller.world}{kind}):")
            lines += [f"  {_call(plan)}" for plan in caller.calls]
        return "\n".join(lines)


def _layers(policy: TargetPolicy) -> list[str]:
    """Each layer that is there, on a line."""
    fields = [(field, getattr(policy, field.name)) for field in dataclasses.fields(policy)]
    return [f"  {field.name}: {_brief(value)}" for field, value in fields if value != field.default]


def _call(plan: CallPlan) -> str:
    cancel = f", cancelled after {plan.cancel:g} s" if plan.cancel is not None else ""
    stream = f", {plan.reading}" if plan.reading is not None else ""
    nested = ", calls the bank" if plan.nested else ""
    elsewhere = f", elsewhere: {' '.join(map(repr, plan.elsewhere))}" if plan.elsewhere != (Act(),) else ""
    what = f"{cancel}{stream}{nested}: {' '.join(map(repr, plan.acts))}{elsewhere}"
    return f"after {plan.pause:g} s, key {plan.key}{what}"


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
