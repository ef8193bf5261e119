"""``python -m mutants``: change the code in many small ways, and see whether a test notices."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from mutants.making import Mutant, sample
from mutants.mapping import Mapping, load
from mutants.running import Copy, Result, control, preload, run
from mutants.state import forget_other_states
from mutants.survivors import Survivors

#: The share of mutants that must be killed.
BAR = 0.95


def main() -> int:
    """Run the command; 0 if enough mutants were killed and each survivor has its reason, else 1."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=600, help="mutants drawn (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn by (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=None, help="stop after so long; the next run goes on from there"
    )
    parser.add_argument("--only", help="only mutants of files whose name holds this")
    parser.add_argument("--folder", type=Path, default=Path(".mutants"), help="where results are kept (%(default)s)")
    parser.add_argument(
        "--keep-kills", action="store_true", help="after a change of the checkout, do not run again what was killed"
    )
    chosen = parser.parse_args()
    root, folder = Path.cwd(), chosen.folder.resolve()
    folder.mkdir(exist_ok=True)
    forget_other_states(root, folder, keep_kills=chosen.keep_kills)
    preload()
    mapping = load(root, folder)
    control_of(mapping, root, folder)
    drawn, rooms = sample(root, chosen.seed, chosen.sample)
    if chosen.only:
        drawn = [(mutant, text) for mutant, text in drawn if chosen.only in mutant.file]
    results = Results(folder / "results.jsonl")
    left = [(mutant, text) for mutant, text in drawn if mutant.name not in results]
    made = ", ".join(f"{count} of {room}" for room, count in sorted(rooms.items()))
    print(f"{len(drawn)} mutants (seed {chosen.seed}) of {sum(rooms.values())}: {made}; {len(left)} to run", flush=True)
    if left:
        copies = [Copy(root, folder / f"copy{number}") for number in range(min(chosen.jobs, len(left)))]
        for copy in copies:
            copy.warm_up()
        ends = None if chosen.seconds is None else time.monotonic() + chosen.seconds
        for done, result in enumerate(
            run(left, mapping, copies, lambda: ends is not None and time.monotonic() > ends), 1
        ):
            results.add(result)
            if result.verdict != "killed" or done % 25 == 0 or done == len(left):
                print(f"{done}/{len(left)} {_line(result)}", flush=True)
    known = [results[mutant.name] for mutant, _ in drawn if mutant.name in results]
    return report(known, len(drawn), root, seed=chosen.seed)


def control_of(mapping: Mapping, root: Path, folder: Path) -> None:
    """Leave out the tests that fail where nothing is changed; found out once, and kept in *folder*."""
    file = folder / "control.json"
    if not file.exists():
        print("Running the tests once where nothing is changed …", flush=True)
        copy = Copy(root, folder / "copy0")
        copy.warm_up()
        file.write_text(json.dumps(control(copy, mapping)), "utf-8")
    mapping.leave_out(json.loads(file.read_text("utf-8")))


def report(results: list[Result], planned: int, root: Path, *, seed: int) -> int:
    """Print what came of it."""
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in _VERDICTS}
    survivors = Survivors.read(root / "mutants/survivors.md")
    alive = [result for result in results if result.verdict != "killed"]
    for result in sorted(alive, key=lambda result: (result.mutant.file, result.mutant.line)):
        reason = survivors.reason(result.mutant)
        print(f"\n{_line(result)}\n  - {result.mutant.before}\n  + {result.mutant.after}")
        print(f"  {reason}" if reason else f"  no reason is given: {survivors.row(result.mutant)}")
    unexplained = sum(survivors.reason(result.mutant) is None for result in alive)
    score = counts["killed"] / len(results) if results else 0.0
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICTS)
    print(f"\nseed {seed}, {len(results)} of {planned} mutants: {told}; score {score:.1%}", end="")
    print(f" (at least {BAR:.0%} are asked for); {unexplained} survive without a reason")
    return 0 if score >= BAR and not unexplained and len(results) == planned else 1


_VERDICTS = ("killed", "timeout", "survived", "unreached")


def _line(result: Result) -> str:
    where = f"{result.mutant.file}:{result.mutant.line} {result.mutant.place or '(import)'}"
    return f"{result.verdict} {where}, {result.tests} tests, {result.seconds:.0f} s {result.by}"


class Results:
    """What is known of mutants, kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Result] = {}
        if file.exists():
            for line in file.read_text("utf-8").splitlines():
                found = json.loads(line)
                result = Result(Mutant(**found.pop("mutant")), **found)
                self._known[result.mutant.name] = result

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> Result:
        return self._known[name]

    def add(self, result: Result) -> None:
        """Keep *result*."""
        self._known[result.mutant.name] = result
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(result)) + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
