"""``pixel-llm caption``: what it takes, and which parts it puts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.caption.images import find_images
from pixel_llm.cli.policy.options import check_options, complete_profile


@click.command("caption")
@click.argument("images", nargs=-1)
@click.option(
    "--profile", help="The profile.  [default: $PIXEL_LLM_PROFILE, else basic]", shell_complete=complete_profile
)
@click.option("--policies", type=click.Path(path_type=Path), help="The folder of policies.")
@click.option("--prompt", help="What to ask about each image.")
@click.option("--base-url", help="The server, such as http://127.0.0.1:1234/v1.")
@click.option("--model", help="The model, by the name that the server lists.")
@click.option(
    "--files-from",
    metavar="FILE",
    help="Caption the images that FILE lists, one a line or NUL-terminated; - for stdin.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="How many images to ask about at once.  [default: what the policy's bulkhead lets in, else 4]",
)
@click.option("--stream", is_flag=True, help="Print each caption while it is written, one image after the other.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Add the captions to FILE as JSON lines. Run again after an interruption: what is finished is left out.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve metrics on this port of 127.0.0.1 while it runs, for Prometheus and `pixel-llm top`; 0: a free one.",
)
@click.option("--allow-degraded", is_flag=True, help="Exit 0 although a fallback served.")
@click.pass_context
def caption_command(
    context: click.Context,
    /,
    images: tuple[str, ...],
    files_from: str | None,
    stream: bool,
    style: str,
    output: Path | None,
    **options: Any,
) -> None:
    """
    Caption IMAGES: files, folders, patterns such as 'photos/**/*.jpg', or - for an image on standard input.

    A caption that a fallback served is marked as degraded. Exit 0 if each image has its caption,
    1 if one failed or is degraded, 2 for wrong usage. With --format json, one object per image.
    """
    if stream and (style == "json" or output is not None or options["jobs"] not in (None, 1)):
        raise click.UsageError("--stream prints text, one image after the other: leave --format, --output, --jobs out")
    if output is not None and context.get_parameter_source("style") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--output writes JSON lines: leave --format out")
    check_options(options["policies"], options["profile"], options["base_url"], options["model"])
    if options["prompt"] is not None and not options["prompt"].strip():
        raise click.BadParameter("must not be empty", param_hint="--prompt")
    found = find_images(images, files_from)

    from pixel_llm.cli.caption.run import Run

    run = Run(found, style=style, output=output, **options)
    code = run.stream() if stream else run.batch()
    context.exit(code)
