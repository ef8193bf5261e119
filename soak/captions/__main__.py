"""``python -m soak.captions``: caption through a server that fails at random, and give the verdict."""

from __future__ import annotations

import argparse
import sys

from soak.captions.running import Verdict, run

#: So many complaints are told.
_TOLD = 50


def main() -> int:
    """Run the command; 0 if every call is accounted for and nothing is left, else 1."""
    parser = argparse.ArgumentParser(prog="python -m soak.captions", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="calls (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed draws the same faults and calls (%(default)s)"
    )
    chosen = parser.parse_args()
    tty = sys.stderr.isatty()

    def progress(done: int) -> None:
        print(f"{done} of {chosen.count} calls", end="\r" if tty else "\n", file=sys.stderr, flush=True)

    verdict = run(chosen.count, chosen.seed, progress=progress)
    print(describe(verdict, chosen.seed))
    return 1 if verdict.complaints else 0


def describe(verdict: Verdict, seed: int) -> str:
    """The verdict in words."""
    lines = [f"{number:6}  {ending}" for ending, number in verdict.endings.most_common()]
    if len(verdict.memory) > 1:
        half, last = verdict.memory[len(verdict.memory) // 2 - 1], verdict.memory[-1]
        lines.append(
            f"memory half-way and at the end: {half.objects} and {last.objects} objects, "
            f"{half.bytes >> 10} and {last.bytes >> 10} KiB"
        )
    lines.append(
        f"{verdict.calls} calls in {verdict.seconds:.0f} s (seed {seed}): "
        + (f"{len(verdict.complaints)} complaints" if verdict.complaints else "every call is accounted for")
    )
    return "\n".join([*lines, *verdict.complaints[:_TOLD]])


if __name__ == "__main__":
    sys.exit(main())
