"""The stage, set for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from staging import UNSHOWN, Stage

from pixel_llm import HybridPixelLLM
from pixel_llm.testing import ScriptedLMStudio, Step, VirtualClock


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(world: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Set the stage: ``stage(step, step, …, profile="production", clock=…, overrides=…)``."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as exits:

        def make(
            *script: Step,
            profile: str = "production",
            clock: Any = None,
            on_step: Callable[[Any, Any], None] | None = None,
            overrides: dict[str, Any] | None = None,
            **server_options: Any,
        ) -> Stage:
            clock = clock or VirtualClock()
            tell = None if on_step is None else (lambda step: on_step(clock, step))
            server = exits.enter_context(ScriptedLMStudio(script=list(script), on_step=tell, **server_options))
            overrides = overrides or {}
            config = {
                **overrides,
                "lm_studio": {"base_url": server.base_url, **overrides.get("lm_studio", {})},
                "logging": {**UNSHOWN, **overrides.get("logging", {})},
            }
            events: list[Any] = []
            model = exits.enter_context(
                HybridPixelLLM(profile, error_config=config, clock=clock, listeners=[events.append])
            )
            made = Stage(model, server, clock, world)
            made.events = events
            return made

        yield make
