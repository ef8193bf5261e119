"""``python -m soak``: play schedules of faults to the resilience engine, until one shows what must not be."""

from __future__ import annotations

import argparse
import sys

from soak.judging import judge, ready
from soak.running import Tally, run, schedule_of
from soak.shrinking import shrink


def main() -> int:
    """Run the command; 0 if every schedule went as it must, else 1."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="schedules (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="where to begin, to go on with a run (%(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long, though schedules are left")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same schedules (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--world", choices=("async", "sync", "both"), help="callers of these worlds only")
    parser.add_argument("--number", type=int, help="play one schedule alone, show it and what came of it")
    chosen = parser.parse_args()
    if chosen.number is not None:
        return replay(chosen.seed, chosen.number, chosen.world)

    told: set[int] = set()

    def progress(tally: Tally) -> None:
        for number in sorted(set(tally.failures) - told):  # not only at the end, which may be an hour away
            told.add(number)
            print(f"schedule {number} failed: {tally.failures[number][0]}", file=sys.stderr, flush=True)
        rate = tally.count / tally.seconds if tally.seconds else 0.0
        text = f"{tally.count} schedules in {tally.seconds:.0f} s, {rate:.0f} a second, {len(tally.failures)} failed"
        end = "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or tally.count % 25_000 == 0:
            print(text, end=end, file=sys.stderr, flush=True)

    tally = run(
        count=chosen.count,
        seed=chosen.seed,
        jobs=chosen.jobs,
        world=chosen.world,
        seconds=chosen.seconds,
        first=chosen.first,
        progress=progress,
    )
    print(
        f"{tally.count} schedules, {len(tally.failures)} failed, in {tally.seconds:.0f} s (seed {chosen.seed})",
        flush=True,
    )
    for number in sorted(tally.failures):
        print(describe(chosen.seed, number, chosen.world, tally.failures[number]), file=sys.stderr)
    return 1 if tally.failures else 0


def describe(seed: int, number: int, world: str | None, found: list[str]) -> str:
    """A schedule that failed: what is wrong, how to play it again, and the smallest one that fails as well."""
    world_option = f" --world {world}" if world else ""
    lines = ["", *found, f"Again: python -m soak --seed {seed} --number {number}{world_option}"]
    if not any(text.startswith("stuck") for text in found):
        with ready():
            small = shrink(schedule_of(seed, number, world), lambda tried: bool(judge(tried)))
            lines += ["Or, smaller:", str(small), *judge(small)]
    return "\n".join(lines)


def replay(seed: int, number: int, world: str | None) -> int:
    """Play one schedule and show it."""
    schedule = schedule_of(seed, number, world)
    print(schedule)
    with ready():
        found = judge(schedule)
    print("\n".join(found) or "nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
