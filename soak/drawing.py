"""Drawing schedules by chance. Durations are multiples of 1/64 s, so that sums of them are exact."""

from __future__ import annotations

from random import Random

from pixel_llm.policy import TargetPolicy
from soak.faults import FAULTS
from soak.policies import KEYS, draw_change, draw_policy, seconds
from soak.schedule import Act, Caller, CallPlan, Reading, Reload, Schedule

#: Lines between two switches; most schedules switch only where threads wait or lock.
LINES = (0, 0, 0, 0, 5, 25, 100)

_NAMES = tuple(FAULTS)


def draw_schedule(chance: Random, world: str | None = None) -> Schedule:
    """A schedule; of one *world* (``async``, ``sync``) or, by chance, of one or both."""
    kind = world or chance.choice(("async", "async", "async", "sync", "sync", "both"))
    bank = draw_policy(chance, kind) if chance.random() < 0.3 else None
    policy = draw_policy(chance, kind, bank=bank is not None)
    calls = _Calls(chance, policy, has_bank=bank is not None)
    callers = tuple(calls.caller(kind) for _ in range(chance.choice((1, 2, 2, 3, 3, 4, 6))))
    lines = chance.choice(LINES) if kind != "async" else 0
    return Schedule(
        policy,
        callers,
        order=chance.getrandbits(32),
        shuffled=chance.random() < 0.7,
        lines=lines,
        opcodes=bool(lines) and chance.random() < 0.3,
        bank=bank,
        reloads=_reloads(chance, policy, kind, has_bank=bank is not None) if chance.random() < 0.25 else (),
        traced=chance.random() < 0.25,
    )


def _reloads(chance: Random, policy: TargetPolicy, kind: str, *, has_bank: bool) -> tuple[Reload, ...]:
    reloads: list[Reload] = []
    for _ in range(chance.choice((1, 1, 2))):
        policy = draw_change(chance, policy, kind, bank=has_bank)
        reloads.append(Reload((reloads[-1].at if reloads else 0.0) + seconds(chance, 0, 3), policy))
    return tuple(reloads)


class _Calls:
    """Draws what callers of a target with this *policy* do, all in the same mood."""

    def __init__(self, chance: Random, policy: TargetPolicy, *, has_bank: bool) -> None:
        self._chance = chance
        self._policy = policy
        self._mood = chance.choice((0.0, 0.3, 0.7, 1.0))
        self._elsewhere = chance.choice((0.0, 0.0, 0.5))
        self._outage = [chance.choice(_NAMES)] if chance.random() < 0.6 else list(_NAMES)
        self._streams = chance.choice((0.0, 0.0, 0.0, 0.5, 1.0))
        self._nested = chance.choice((0.0, 0.5, 1.0)) if has_bank else 0.0

    def caller(self, kind: str) -> Caller:
        chance = self._chance
        world = chance.choice(("async", "sync")) if kind == "both" else kind
        calls = tuple(self._call(world) for _ in range(chance.choice((1, 1, 2, 3))))
        return Caller(world, calls, cooperative=chance.random() < 0.5)

    def _call(self, world: str) -> CallPlan:
        chance = self._chance
        is_stream = chance.random() < self._streams
        acts = tuple(self._act(self._mood, is_stream) for _ in range(chance.choice((1, 1, 2, 3))))
        cancel = None
        if world == "async" and chance.random() < 0.2:
            cancel = chance.choice((0.0, sum(act.takes for act in acts), seconds(chance, 0, 4)))
        return CallPlan(
            acts,
            key=chance.randrange(KEYS),
            pause=chance.choice((0.0, 0.0, seconds(chance, 0, 4))),
            cancel=cancel,
            outcome=chance.random() < 0.5,
            reading=self._reading() if is_stream else None,
            nested=chance.random() < self._nested,
            elsewhere=tuple(self._act(self._elsewhere, is_stream) for _ in range(chance.choice((1, 1, 2)))),
        )

    def _act(self, mood: float, is_stream: bool) -> Act:
        chance = self._chance
        fails = chance.random() < mood
        ends = "ok"
        if fails:
            ends = chance.choice(("hang", "interrupt")) if chance.random() < 0.15 else chance.choice(self._outage)
        return Act(
            ends,
            takes := self._takes(),
            seconds(chance, 0, 6) if fails and chance.random() < 0.3 else None,
            blocks=takes > 0 and chance.random() < 0.05,
            chunks=tuple(self._takes() for _ in range(chance.choice((0, 1, 2, 3)))) if is_stream else (),
            tokens=chance.choice((0, 1, 7, 30)),
        )

    def _takes(self) -> float:
        """How long something takes: no time, any, or exactly as long as it may."""
        chance, timeout = self._chance, self._policy.timeout
        limits = (timeout.attempt, timeout.idle) if timeout is not None else ()
        return chance.choice((0.0, seconds(chance, 0, 3), chance.choice(limits or (0.0,)) or 0.0))

    def _reading(self) -> Reading:
        chance, timeout = self._chance, self._policy.timeout
        longest = timeout.max_pause if timeout is not None and timeout.max_pause is not None else 1.0
        pauses = (0.0, 0.0, 0.0, seconds(chance, 0, 2), longest, longest + 1)
        return Reading(
            pauses=tuple(chance.choice(pauses) for _ in range(chance.choice((1, 1, 2, 3)))),
            leaves=chance.choice((0, 1, 2)) if chance.random() < 0.3 else None,
            closes=chance.random() < 0.5,
            beside=seconds(chance, 0, 4) if chance.random() < 0.15 else None,
        )
