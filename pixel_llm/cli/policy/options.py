"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pixel_llm.errors import PolicyError
from pixel_llm.policy import find_folder, profiles_in
from pixel_llm.policy.env_file import read_env_file

F = TypeVar("F", bound=Callable[..., Any])


def complete_profile(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The profiles that begin with *incomplete*, for the shell."""
    try:
        return [CompletionItem(name) for name in profiles_in(find_folder(None)) if name.startswith(incomplete)]
    except PolicyError:  # a shell that completes is no place for complaints
        return []


def complete_policy(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The same where a file may be named, too; the shell knows those."""
    names = complete_profile(context, parameter, incomplete)
    return names if names and "/" not in incomplete else [CompletionItem(incomplete, type="file")]


def source_options(command: F) -> F:
    """``--overlay``, repeatable, and ``--env-file``."""
    overlay = click.option(
        "--overlay",
        "overlays",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A file laid over the policy; repeatable.  [default: $PIXEL_LLM_OVERLAYS]",
    )
    env_file = click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        help="A file of NAME=VALUE lines that ${NAME} sees before the environment.",
    )
    return overlay(env_file(command))


def variables_from(env_file: Path | None) -> Mapping[str, str]:
    """The environment, below what *env_file* sets."""
    return os.environ if env_file is None else {**os.environ, **read_env_file(env_file)}


def server_overrides(base_url: str | None, model: str | None) -> dict[str, Any] | None:
    """Sections that stand above the policy: the server at *base_url* in place of all that it names, and *model*."""
    server: dict[str, Any] = {} if base_url is None else {"base_url": base_url, "endpoints": None}
    if model is not None:
        server["model"] = model
    return {"lm_studio": server} if server else None
