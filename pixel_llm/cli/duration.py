"""Durations on the command line, written as in policies."""

from __future__ import annotations

from typing import Any

import click

from pixel_llm.policy import parse_duration

#: Nobody waits longer, in seconds.
_LONGEST = 3600.0


class DurationType(click.ParamType):  # type: ignore[type-arg]  # of click 8.3 and later only; 8.1 takes none
    """A duration as policies have it; seconds for the command."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that *value* means."""
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= _LONGEST:
            self.fail(f"must be longer than 0s and at most 1h (got {value})", param, ctx)
        return seconds
