"""What is examined, and what is known of it so far."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixel_llm.errors import APIError
from pixel_llm.lm_studio import LMStudioClient, ModelList, ModelState
from pixel_llm.policy import EndpointConfig, LMStudioConfig, LoadedPolicy


@dataclass(slots=True)
class Case:
    """
    One examination, or the part of it that is about one server.

    The checks fill it in, one after the other; it belongs to one thread at a time.

    Attributes:
        folder: Where policies lie, or None as :func:`load_policy` has it.
        profile: The profile, or None.
        overrides: Sections laid over it.
        policy: The policy, once it is loaded.
        endpoint: The server that is looked at; None before the policy is loaded.
        section: Where the policy says how that server is reached.
        server: The client, once the base URL is known to be one.
        listed: What the server lists.
        refusal: What it said instead, if it wants another key.
        states: What LM Studio's own list says; None if the server has none, or it can't be read.
        no_states: Why they are not known.
    """

    folder: Path | None = None
    profile: str | None = None
    overrides: Mapping[str, Any] | None = None
    policy: LoadedPolicy | None = None
    endpoint: EndpointConfig | None = None
    section: str = "lm_studio"
    server: LMStudioClient | None = None
    listed: ModelList = field(default_factory=lambda: ModelList(()))
    refusal: APIError | None = None
    states: tuple[ModelState, ...] | None = None
    no_states: str = "this server does not tell: it has no list like LM Studio's own"

    @property
    def loaded(self) -> LoadedPolicy:
        """The policy; only for checks that need it."""
        assert self.policy is not None  # noqa: S101 - such a check runs only after it was loaded
        return self.policy

    @property
    def config(self) -> LMStudioConfig:
        """Its section `lm_studio`."""
        return self.loaded.config.lm_studio

    def at(self, index: int) -> Case:
        """The case of the policy's *index*-th server, counted from 0; what is known of the policy is shared."""
        section = "lm_studio" if self.config.endpoints is None else f"lm_studio.endpoints[{index}]"
        return Case(self.folder, self.profile, self.overrides, self.policy, self.config.servers[index], section)

    def in_its_words(self, text: str) -> str:
        """*text* with the settings of the server as the policy has them: where there are several, each has its own."""
        if self.section == "lm_studio":
            return text
        text = text.replace("lm_studio.api_key (or $LM_STUDIO_API_KEY)", "lm_studio.api_key")
        return re.sub(r"\blm_studio\.(base_url|api_key)\b", rf"{self.section}.\1", text)

    @property
    def client(self) -> LMStudioClient:
        """The client; only for checks that need it."""
        assert self.server is not None  # noqa: S101 - the same
        return self.server
