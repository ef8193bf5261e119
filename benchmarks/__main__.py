"""Run every benchmark and write docs/reference/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import commands, concurrency, stacks

PAGE = Path("docs/reference/benchmarks.md")
PEERS = ("tenacity", "pybreaker", "nopanic", "pyresilience", "stamina", "check-jsonschema")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A table: what is measured, in which unit, against which of its rows."""

    title: str
    run: Callable[[], dict[str, float]]
    unit: str
    factor: float
    bar: str = ""


BENCHMARKS = (
    Benchmark("A sync call that succeeds", stacks.sync_success, "µs", 1e6),
    Benchmark("An async call that succeeds", stacks.async_success, "µs", 1e6),
    Benchmark(
        "32 threads, one call of 50 ms each",
        concurrency.threads,
        "ms",
        1e3,
        "Bar: at most 1.3 times the function itself.",
    ),
    Benchmark("A fresh interpreter", commands.importing, "ms", 1e3, "Bar: `import pixel_llm` under 300 ms."),
    Benchmark(
        "Checking the five shipped profiles",
        commands.validating,
        "ms",
        1e3,
        "Bar: with meaning and lint no longer than check-jsonschema takes for the schema alone.",
    ),
    Benchmark(
        "Checking a file of many targets",
        commands.many_targets,
        "s",
        1,
        "Bar: 1,000 targets under 3 s, and growing linearly: 4,000 at most 4.5 times as long.",
    ),
    Benchmark("Peak memory of a check", commands.memory, "MB", 1e-6, "Bar: under 150 MB."),
)


def table(benchmark: Benchmark) -> str:
    """Measure and draw one table; ratios are to its first row."""
    results = benchmark.run()
    first = next(iter(results.values()))
    rows = [
        f"| {name} | {seconds * benchmark.factor:.2f} | {seconds / first:.2f} |" for name, seconds in results.items()
    ]
    head = [f"## {benchmark.title}", ""]
    if benchmark.bar:
        head += [benchmark.bar, ""]
    return "\n".join([*head, f"| | {benchmark.unit} | ratio |", "|---|---:|---:|", *rows, ""])


def main() -> None:
    """Measure everything, print it, write the page."""
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
    how = (
        "Written by `make bench`. Medians of repeated rounds in which the candidates take turns, all in one run; "
        "the machine is shared and noisy, so read the ratios."
    )
    parts = [
        "# Benchmarks",
        "",
        how,
        "",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; {peers}.",
        "",
    ]
    for benchmark in BENCHMARKS:
        part = table(benchmark)
        print(part, flush=True)
        parts.append(part)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(parts), "utf-8")
    print(f"Written to {PAGE}")


if __name__ == "__main__":
    main()
