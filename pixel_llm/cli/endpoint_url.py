"""The address of a running process's endpoint, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from pixel_llm.cli.terminal import printable
from pixel_llm.errors import ValidationError

if TYPE_CHECKING:
    from pixel_llm.monitoring.endpoint.answers import Unavailable
    from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots

#: Where :func:`pixel_llm.serve_metrics` serves unless told otherwise.
DEFAULT_URL = "http://127.0.0.1:9464"


def remote(url: str, timeout: float) -> RemoteSnapshots:
    """
    The snapshots of the process at *url*, their whole answer within *timeout* seconds.

    Raises:
        UsageError: If that is no address.
    """
    from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots

    try:
        return RemoteSnapshots(url, timeout=timeout)
    except ValidationError as error:
        raise click.UsageError(error.message) from None


def end_unavailable(context: click.Context, error: Unavailable) -> NoReturn:
    """Say why there are no snapshots, and end the command with 1."""
    click.echo(f"error: {printable(str(error))}", err=True)
    context.exit(1)
