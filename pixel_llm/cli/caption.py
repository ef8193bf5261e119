"""``pixel-llm caption``: images in, captions out, through a policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixel_llm.cli.main import show_error
from pixel_llm.cli.terminal import printable
from pixel_llm.errors import PixelLMError
from pixel_llm.events import CircuitStateChanged, Event, RetryScheduled

if TYPE_CHECKING:
    from pixel_llm.hybrid import CaptionResult


@dataclass(frozen=True, slots=True)
class _Row:
    """What became of one image: a result, or an error."""

    image: str
    result: CaptionResult | None = None
    error: PixelLMError | None = None

    def is_fine(self, *, allow_degraded: bool) -> bool:
        return self.result is not None and (allow_degraded or not self.result.degraded)


@click.command("caption")
@click.argument("images", nargs=-1, required=True)
@click.option("--profile", help="The profile.  [default: $PIXEL_LLM_PROFILE, else basic]")
@click.option("--policies", type=click.Path(path_type=Path), help="The folder of policies.")
@click.option("--prompt", help="What to ask about each image.")
@click.option("--base-url", help="The server, such as http://127.0.0.1:1234/v1.")
@click.option("--model", help="The model, by the name that the server lists.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--allow-degraded", is_flag=True, help="Exit 0 although a fallback served.")
@click.pass_context
def caption_command(
    context: click.Context,
    images: tuple[str, ...],
    profile: str | None,
    policies: Path | None,
    prompt: str | None,
    base_url: str | None,
    model: str | None,
    style: str,
    allow_degraded: bool,
) -> None:
    """
    Caption IMAGES.

    A caption that a fallback served is marked as degraded. Exit 0 if each image has its caption,
    1 if one failed or is degraded, 2 for wrong usage. With --format json, one object per image.
    """
    from pixel_llm.hybrid import HybridPixelLLM

    server = {name: value for name, value in (("base_url", base_url), ("model", model)) if value is not None}
    listeners = [_show_progress] if sys.stderr.isatty() else []
    report = _report_json if style == "json" else _reporter_for(len(images))
    fine = True
    overrides = {"lm_studio": server} if server else None
    with HybridPixelLLM(profile, policies, error_config=overrides, listeners=listeners) as hybrid:
        for image in images:
            try:
                row = _Row(image, result=hybrid.generate(image, prompt))
            except PixelLMError as error:
                row = _Row(image, error=error)
            report(row)
            fine = fine and row.is_fine(allow_degraded=allow_degraded)
    context.exit(0 if fine else 1)


def _show_progress(event: Event) -> None:
    """Tell someone who waits what is going on."""
    if isinstance(event, RetryScheduled):
        why = event.error_code or "an error"
        click.echo(f"{event.target}: attempt {event.attempt} failed ({why}); next in {event.delay:.1f} s", err=True)
    elif isinstance(event, CircuitStateChanged):
        click.echo(f"{event.target}: circuit breaker {event.old_state} → {event.new_state}", err=True)


def _reporter_for(count: int) -> Callable[[_Row], None]:
    def report(row: _Row) -> None:
        if row.error is not None:
            show_error(row.error, about=row.image)
        elif row.result is not None:
            result = row.result
            text = printable(result.text, keep_lines=count == 1)
            caption = f"{printable(row.image)}: {text}" if count > 1 else text
            mark = f"  [degraded: {result.served_by} in place of {result.error_code}]" if result.degraded else ""
            click.echo(f"{caption}{mark}{'  [truncated]' if result.truncated else ''}")
            if result.error is not None:
                reason = printable(str(result.error), keep_lines=True)
                click.echo(f"{printable(row.image)}: degraded, because {reason}", err=True)

    return report


def _report_json(row: _Row) -> None:
    result = row.result
    error = row.error or (result.error if result is not None else None)
    fields: dict[str, Any] = {
        "image": row.image,
        "caption": result.text if result else None,
        "served_by": result.served_by if result else None,
        "degraded": result.degraded if result else None,
        "attempts": result.attempts if result else getattr(row.error, "attempts", None) or 0,
        "elapsed": round(result.elapsed, 3) if result else None,
        "model": result.model if result else None,
        "truncated": result.truncated if result else None,
        "error_code": getattr(error, "error_code", None),
        "error": str(error) if error is not None else None,
    }
    click.echo(json.dumps(fields, ensure_ascii=False))
