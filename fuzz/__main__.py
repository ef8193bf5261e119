"""``python -m fuzz``: run mutated policies through the loader, until one shows what must not be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuzz.cases import Case, run_case
from fuzz.running import Tally, run


def main() -> int:
    """Run the command; 0 if no case failed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="cases (%(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long, though cases are left")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same cases (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--save", type=Path, default=Path(".fuzz"), help="where cases that fail go (%(default)s)")
    parser.add_argument("--rerun", type=Path, metavar="FILE", help="run one saved case again, with its traceback")
    chosen = parser.parse_args()
    if chosen.rerun is not None:
        accepted = run_case(Case.from_json(chosen.rerun.read_text("utf-8")))
        print("accepted" if accepted else "rejected")
        return 0
    tally = run(count=chosen.count, seed=chosen.seed, jobs=chosen.jobs, seconds=chosen.seconds)
    print(tally.summary(chosen.seed))
    return report(tally, chosen.seed, chosen.save)


def report(tally: Tally, seed: int, folder: Path) -> int:
    """Save the cases that failed and say how to run them again."""
    for number, (case, traceback) in tally.failures.items():
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{seed}-{number}.json"
        file.write_text(case.to_json(), "utf-8")
        print(f"\n{traceback.rstrip()}\nAgain: python -m fuzz --rerun {file}", file=sys.stderr)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
