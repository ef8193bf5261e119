"""Run every benchmark and write docs/reference/benchmarks.md, with its plot."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import captions, commands, concurrency, encoders, logs, memory, monitoring, plot, stacks

PAGE = Path("docs/reference/benchmarks.md")
PLOT = PAGE.with_suffix(".svg")
PEERS = (
    "httpx",
    "openai",
    "litellm",
    "opentelemetry-sdk",
    "tenacity",
    "pybreaker",
    "nopanic",
    "pyresilience",
    "stamina",
    "check-jsonschema",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """What a benchmark is held to: a limit, and the row that must stay below it."""

    text: str
    row: int
    #: The most, as a ratio to the row *to*; without one, in the benchmark's unit.
    limit: float
    to: int | None = 0
    #: The limit is for what the row takes more than the row *to*, in the benchmark's unit.
    more: bool = False

    def judge(self, values: list[float]) -> str:
        """What was measured, and whether that meets it."""
        value, unit = values[self.row], ""
        if self.to is not None:
            value = value - values[self.to] if self.more else value / values[self.to]
        return f"Bar: {self.text}. Measured: {value:.2f}{unit}, **{'met' if value <= self.limit else 'missed'}**."


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A table: what is measured, in which unit, and what it is held to. Ratios are to its first row."""

    title: str
    run: Callable[[], dict[str, float]]
    unit: str
    factor: float
    bars: tuple[Bar, ...] = ()
    plotted: bool = False


BENCHMARKS = (
    Benchmark(
        "A sync call that succeeds",
        stacks.sync_success,
        "µs",
        1e6,
        (Bar("at most half of nopanic", 1, 0.5), Bar("at most 1/20 of tenacity(pybreaker)", 1, 0.05, to=4)),
        plotted=True,
    ),
    Benchmark(
        "An async call that succeeds",
        stacks.async_success,
        "µs",
        1e6,
        (Bar("at most half of nopanic", 1, 0.5),),
        plotted=True,
    ),
    Benchmark(
        "An async call that suspends once and succeeds",
        stacks.async_with_timeout_and_bulkhead,
        "µs",
        1e6,
        (Bar("at most 0.8 of nopanic's retry + breaker + timeout", 1, 0.8),),
        plotted=True,
    ),
    Benchmark(
        "A refusal of an open breaker",
        stacks.refusal,
        "µs",
        1e6,
        (Bar("at most 3 µs more than raising an exception", 1, 3.0, more=True),),
    ),
    Benchmark(
        "A call that fails once and is tried again at once",
        stacks.one_retry,
        "µs",
        1e6,
        (Bar("at most 1.25 times tenacity alone", 1, 1.25),),
    ),
    Benchmark(
        "The same, async",
        stacks.one_retry_async,
        "µs",
        1e6,
        (Bar("at most 1.25 times tenacity alone", 1, 1.25),),
    ),
    Benchmark(
        "32 calls of 50 ms on 16 threads",
        concurrency.threads,
        "ms",
        1e3,
        (Bar("at most 1.05 times the function itself", 1, 1.05),),
    ),
    Benchmark(
        "1,000 calls of 50 ms on one event loop",
        concurrency.tasks,
        "ms",
        1e3,
        (Bar("at most 1.05 times the coroutine function itself", 1, 1.05),),
    ),
    Benchmark("Compiling", memory.compiling, "s", 1, (Bar("10,000 targets under 2 s", 0, 2.0, to=None),)),
    Benchmark("Memory of a target", memory.bytes_each, "KiB", 1 / 1024, (Bar("at most 8 KiB", 0, 8.0, to=None),)),
    Benchmark(
        "A call among many targets",
        memory.one_of_many,
        "µs",
        1e6,
        (Bar("does not depend on how many there are: at most 1.1 times", 1, 1.1),),
    ),
    Benchmark(
        "Memory of many calls",
        memory.many_calls,
        "KiB",
        1 / 1024,
        (
            Bar("flat after the first 10,000: at most 16 KiB more", 1, 16.0, more=True),
            Bar("at most 16 KiB more", 3, 16.0, to=2, more=True),
        ),
    ),
    Benchmark(
        "A sync call that succeeds, watched",
        monitoring.watched_call,
        "µs",
        1e6,
        (Bar("at most 1.5 times what it costs with metrics and log off", 1, 1.5),),
    ),
    Benchmark("A sync call that succeeds, with spans of OpenTelemetry", monitoring.traced_call, "µs", 1e6),
    Benchmark("A scrape", monitoring.scrape, "ms", 1e3, (Bar("1,000 targets under 50 ms", 0, 50.0, to=None),)),
    Benchmark(
        "Memory of many calls, watched",
        monitoring.memory,
        "KiB",
        1 / 1024,
        (Bar("flat after the first 10,000: at most 16 KiB more", 1, 16.0, more=True),),
    ),
    Benchmark(
        "A chat with a server that answers at once, p50",
        captions.chat,
        "µs",
        1e6,
        (
            Bar("at most 1.10 times a bare post of httpx", 1, 1.10),
            Bar("at most half of the official client's call", 1, 0.5, to=2),
            Bar("at most a sixth of a call of LiteLLM's Router", 1, 1 / 6, to=3),
        ),
    ),
    Benchmark(
        "A chat, 64 at once on one event loop",
        captions.chat_at_once,
        "µs",
        1e6,
        (Bar("at least 90 % of bare httpx's throughput, so at most 1.11 times as long", 1, 1 / 0.9),),
    ),
    Benchmark(
        "A chunk of a stream of 500",
        captions.stream,
        "µs",
        1e6,
        (Bar("at most 20 µs more than reading it with httpx", 1, 20.0, more=True),),
    ),
    Benchmark(
        "Memory of many captions",
        captions.memory,
        "KiB",
        1 / 1024,
        (Bar("flat after the first 2,000: at most 16 KiB more", 1, 16.0, more=True),),
    ),
    Benchmark(
        "A log record, for its caller",
        logs.record,
        "µs",
        1e6,
        (Bar("at most 1.2 times structlog over the standard QueueHandler", 1, 1.2),),
    ),
    Benchmark(
        "100,000 log records, until they are in the file, in order and complete",
        logs.many,
        "s",
        1,
        (Bar("no longer than structlog over the standard QueueHandler", 1, 1.0),),
    ),
    Benchmark(
        "A call that succeeds, with logging",
        logs.success,
        "µs",
        1e6,
        (Bar("logging at INFO costs nothing: at most 1.05 times", 1, 1.05),),
    ),
    Benchmark(
        "The patch encoder on pictures of 224×224",
        encoders.patch,
        "ms",
        1e3,
        (Bar("at least 150 pictures a second on two cores, so at most 6.67 ms each", 0, 1000 / 150, to=None),),
    ),
    Benchmark(
        "A ViT-S/16 as encoder",
        encoders.vit,
        "ms",
        1e3,
        (Bar("at most 1.05 times what its parts take", 1, 1.05),),
    ),
    Benchmark(
        "CLIP, SigLIP and DINOv2 of that size as encoders",
        encoders.transformers,
        "ms",
        1e3,
        tuple(Bar("at most 1.05 times what its parts take", row, 1.05, to=row - 1) for row in (1, 3, 5)),
    ),
    Benchmark(
        "A picture whose encoding is kept",
        encoders.hit,
        "ms",
        1e3,
        (Bar("under 1 ms beyond hashing the pixels", 0, 1.0, to=None),),
    ),
    Benchmark(
        "A fresh interpreter",
        commands.importing,
        "ms",
        1e3,
        (Bar("`import pixel_llm` under 300 ms", 1, 300.0, to=None),),
    ),
    Benchmark(
        "Checking the five shipped profiles",
        commands.validating,
        "ms",
        1e3,
        (Bar("with meaning and lint no longer than check-jsonschema takes for the schema alone", 1, 1.0),),
    ),
    Benchmark(
        "Checking a file of many targets",
        commands.many_targets,
        "s",
        1,
        (
            Bar("1,000 targets under 3 s", 0, 3.0, to=None),
            Bar("growing linearly: 4,000 targets at most 4.5 times as long", 2, 4.5),
        ),
    ),
    Benchmark("Peak memory of a check", commands.memory, "MB", 1e-6, (Bar("under 150 MB", 3, 150.0, to=None),)),
)


def table(benchmark: Benchmark, results: dict[str, float]) -> str:
    """Draw one table; ratios are to its first row."""
    values = [result * benchmark.factor for result in results.values()]
    rows = [f"| {name} | {value:.2f} | {value / values[0]:.2f} |" for name, value in zip(results, values, strict=True)]
    bars = [part for bar in benchmark.bars for part in (bar.judge(values), "")]
    return "\n".join(
        [f"## {benchmark.title}", "", *bars, f"| | {benchmark.unit} | ratio |", "|---|---:|---:|", *rows, ""]
    )


def main() -> None:
    """Measure everything, or what the arguments name, print it, write the page."""
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
        f"![What a call costs]({PLOT.name})",
        "",
    ]
    wanted = " ".join(sys.argv[1:]).lower()
    plotted: dict[str, dict[str, float]] = {}
    for benchmark in BENCHMARKS:
        if wanted not in benchmark.title.lower():
            continue
        results = benchmark.run()
        part = table(benchmark, results)
        print(part, flush=True)
        parts.append(part)
        if benchmark.plotted:
            plotted[benchmark.title] = results
    if wanted:
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(parts), "utf-8")
    plot.draw(plotted, PLOT)
    print(f"Written to {PAGE} and {PLOT}")


if __name__ == "__main__":
    main()
