"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pixel_llm.errors import PolicyError
from pixel_llm.policy import DEFAULT_PROFILE, find_folder, load_policy, profiles_in, shipped_folder
from pixel_llm.policy.env_file import read_env_file
from pixel_llm.policy.loading import OVERRIDES
from pixel_llm.policy.locating import profile_file

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


def check_options(policies: Path | None, profile: str | None, base_url: str | None, model: str | None) -> None:
    """
    See that the options that choose policy, server and model can be meant.

    Raises:
        BadParameter: If one can't, by its name.
        PolicyError: If the folder of policies, wherever it was named, is wrong in itself.
    """
    if policies is not None and not policies.is_dir():
        what = "is not a folder" if policies.exists() else "does not exist"
        raise click.BadParameter(f"{policies}: the folder of policies {what}", param_hint="--policies")
    if profile is not None and profile not in profiles_in(folder := find_folder(policies)):
        try:
            profile_file(folder, profile)
        except PolicyError as error:
            raise click.BadParameter(str(error), param_hint="--profile") from None
    for option, overrides in (
        ("--base-url", server_overrides(base_url, None)),
        ("--model", server_overrides(None, model)),
    ):
        if overrides is not None and (complaint := _complaint_of(overrides)):
            raise click.BadParameter(complaint, param_hint=option)


def _complaint_of(overrides: dict[str, Any]) -> str:
    """What is wrong with *overrides*, laid over a policy with which nothing is."""
    try:
        load_policy(shipped_folder("policies"), DEFAULT_PROFILE, overlays=(), overrides=overrides)
    except PolicyError as error:
        return "; ".join(problem.message for problem in error.problems if problem.place.file == OVERRIDES)
    return ""
