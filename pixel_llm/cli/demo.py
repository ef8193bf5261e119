"""``pixel-llm demo``: watch a policy carry captions through a failing server."""

from __future__ import annotations

from itertools import chain

import click


@click.command("demo")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def demo_command(style: str) -> None:
    """
    Watch the `production` policy carry captions through a failing server.

    A scripted LM Studio answers, refuses, stalls, is overloaded, sends garbage and dies; a live table
    shows what each call went through. Ends by itself in under 30 s. Needs pixel-llm[encoder].
    """
    from rich.console import Console

    from pixel_llm.demo.report import JSONReport, LiveReport, PlainReport, Report
    from pixel_llm.demo.story import Act, Summary, play

    summary = Summary()
    steps = play(summary)
    first = next(steps)  # sets the stage; what is missing for it is said before anything is shown
    console = Console()
    report: Report
    if style == "json":
        report = JSONReport(click.echo)
    else:
        report = LiveReport(console) if console.is_terminal else PlainReport(click.echo)
    for step in chain([first], steps):
        if isinstance(step, Act):
            report.act(step)
        else:
            report.call(step)
    report.end(summary)
