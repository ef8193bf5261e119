"""
Plays schedules of faults to the resilience engine, by the thousand, and holds what it promises against them.

A *schedule* (:mod:`soak.schedule`) is a random policy, several callers in either world, and what each of their
attempts does: succeed, fail, hang, block, be interrupted; and, for tasks, when they are cancelled. Calls may be
streams, whose consumers read, pause, close and abandon them (:mod:`soak.consumers`). Attempts may call a second
target, the bank, behind a stack of its own; fallbacks go to the bank, to other models and endpoints, and to functions.
The policy may be loaded again while calls are under way (:mod:`soak.targets`). All of it is drawn from a seed
(:mod:`soak.drawing`, :mod:`soak.policies`), so ``python -m soak --seed 1 --number 4711`` plays one again, step by step.

**What makes it deterministic**

- Time is virtual (:mod:`soak.clock`): it moves, when everybody waits, to the next moment somebody waits for.
- Tasks run on an event loop of ours (:mod:`soak.loop`), which picks the next of what is ready by the seed.
- Threads are real, but one runs at a time (:mod:`soak.stepper`). They hand over where they take or give back a lock,
  wait, sleep, or start one another; in some schedules also between any two lines, or instructions, of
  ``pixel_llm/resilience``. The engine's modules see stand-ins of ``threading`` meanwhile (:mod:`soak.primitives`).
- Callers of both worlds share a stack: the event loop is then one of the stepped threads.
- Waits' jitter comes from :mod:`random`, seeded by the schedule; garbage is collected between schedules only.

**What is held** (:mod:`soak.invariants`, :mod:`soak.calm`, :mod:`soak.trials`)

Every call and stream ends exactly once, with a value or an error that something explains. Attempts and time stay
within the policy and within :mod:`pixel_llm.policy.bounds`; cancellation arrives, at once, and nothing outlives a call;
a nested call never outlives the attempt that makes it. Never more trial calls (of each key), running calls, calls in
any window and tokens than the policy allows that is in force; no cached value past its life or of another key; counters
and events agree with what happened. A stream's chunks come from one attempt, in order and whole, each in time; what
breaks it is counted once, a pause never. A call that began before the policy was loaded again ends as the old one says.
Afterwards no task, timer, thread, lock or slot is left. In the calm after the storm the breakers close, and as many
calls run at once as the policy allows: no permit was lost.

**Its limits**

The policy is loaded again as :meth:`pixel_llm.Policies.reload` does it, but from memory. A stream that is dropped may
lie in a cycle with the error that a fallback stands in for, so the collector is run once after the storm.
Time does not pass while code runs, except in attempts that *block*; what these take is allowed on top of every limit.
A stepped thread changes at line boundaries of our own code only, not within third-party code. Free-threaded Python,
signals, forks and sockets are tested elsewhere. What the engine uses of ``threading`` and has no stand-in is refused
with an AttributeError; anything that blocks otherwise is noticed after a minute.
"""
