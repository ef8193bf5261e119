"""``pixel-llm metrics``: what it takes, and which parts it puts together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click

from pixel_llm.cli.duration import DurationType
from pixel_llm.cli.endpoint_url import DEFAULT_URL, end_unavailable, remote

if TYPE_CHECKING:
    from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots

#: What is printed, and the path of an endpoint that answers with it.
_PATHS = {"prometheus": "/metrics", "json": "/snapshot", "health": "/health"}


@click.command("metrics")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The endpoint of the running process.")
@click.option(
    "--format", "style", type=click.Choice(list(_PATHS)), help="What is printed of it.  [default: prometheus]"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Serve all of it on this port until Ctrl-C, and print nothing."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address that --port listens on.")
@click.option(
    "--timeout",
    type=DurationType(),
    default="5s",
    show_default=True,
    help="How long the process may take for its whole answer.",
)
@click.pass_context
def metrics_command(
    context: click.Context, url: str, style: str | None, port: int | None, host: str, timeout: float
) -> None:
    """
    Print the metrics of a running process, or serve them on.

    The process serves them with `pixel_llm.serve_metrics`, or mounts them in its application; of those only /snapshot
    is needed. Exit 0 if it answers, 1 if it does not or, with --format health, a target is failing, 2 for wrong usage.
    """
    if port is not None and style is not None:
        raise click.UsageError("--port serves every format: leave --format out")
    snapshots = remote(url, timeout)
    if port is not None:
        _serve(context, snapshots, port, host)
    else:
        _print(context, snapshots, _PATHS[style or "prometheus"])


def _print(context: click.Context, snapshots: RemoteSnapshots, path: str) -> None:
    from pixel_llm.monitoring.endpoint.answers import Answers, Unavailable

    try:
        read = snapshots()
    except Unavailable as error:
        end_unavailable(context, error)
    answer = Answers(lambda: read).answer("GET", path)
    click.echo(answer.body.decode(), nl=False)
    context.exit(0 if answer.status == 200 else 1)


def _serve(context: click.Context, snapshots: RemoteSnapshots, port: int, host: str) -> None:
    from pixel_llm.monitoring.endpoint import MetricsServer

    with MetricsServer(snapshots, port, host) as server:
        if not server.is_serving:
            click.echo(f"error: {server.trouble}", err=True)
            context.exit(1)
        try:
            click.echo(f"serves the metrics of {snapshots.url} on {server.url}/metrics", err=True)
            while True:
                threading.Event().wait(1.0)  # with a limit: Windows waits deafly to Ctrl-C
        except KeyboardInterrupt:
            return
