"""``pixel-llm top``: what it takes, and which parts it puts together."""

from __future__ import annotations

import click

from pixel_llm.cli.duration import DurationType
from pixel_llm.cli.endpoint_url import DEFAULT_URL, end_unavailable, remote


@click.command("top")
@click.argument("url", default=DEFAULT_URL)
@click.option(
    "--interval", type=DurationType(), default="2s", show_default=True, help="How often the process is asked."
)
@click.option("--once", is_flag=True, help="Print what there is and end, as where the output is no terminal.")
@click.option(
    "--timeout",
    type=DurationType(),
    default="5s",
    show_default=True,
    help="How long the process may take for its whole answer.",
)
@click.pass_context
def top_command(context: click.Context, url: str, interval: float, once: bool, timeout: float) -> None:
    """
    Watch the targets of the running process whose endpoint is at URL, until Ctrl-C or q.

    Shows for each target calls a second, the share that failed and that a fallback served, latencies, the worst state
    of its breakers and how full its bulkhead is, all of the last minute; and the last errors. A process that answers no
    longer is asked on: what it said last stays, marked as old. Where the output is no terminal it is printed once,
    since the start. The process serves metrics, as by `pixel_llm.serve_metrics` or `pixel-llm caption --metrics-port`.
    URL is http://127.0.0.1:9464 unless told otherwise. Exit 1 if nothing answers at first.
    """
    from rich.console import Console

    from pixel_llm.cli.top.watching import print_once, watch
    from pixel_llm.monitoring.endpoint.answers import Unavailable

    snapshots = remote(url, timeout)
    console = Console()
    try:
        if once or not console.is_terminal:
            print_once(snapshots, console)
        else:
            watch(snapshots, console, interval)
    except Unavailable as error:
        end_unavailable(context, error)
