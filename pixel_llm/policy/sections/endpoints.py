"""Parts of the `lm_studio` section: several servers, how they are looked after, and models that are not loaded yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, SecretText, Text
from pixel_llm.policy.secrets import Secret
from pixel_llm.policy.settings import setting

#: The kind of a server's address.
BASE_URL = Text("an http or https address such as http://127.0.0.1:1234/v1", r"^https?://[^\s/]+(/\S*)?$")


class Balance(StrEnum):
    """Which of several servers is asked first, when nothing else tells them apart."""

    ROUND_ROBIN = "round_robin"
    LEAST_BUSY = "least_busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """One of several servers. Immutable, safe to share between threads."""

    base_url: str = setting(BASE_URL, "Where its API starts.", example="http://127.0.0.1:1234/v1")
    api_key: Secret | None = setting(
        SecretText(),
        "Its key, if it wants one: always as ${VARIABLE}. No other server is given it.",
        default=None,
        example="${LM_STUDIO_API_KEY}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """How several servers are looked after in the background. Durations are seconds. Immutable."""

    interval: float = setting(
        Duration(), "How long after a look at all servers the next one begins.", default=30.0, example="30s"
    )
    timeout: float = setting(Duration(), "How long one server may take to say how it is.", default=5.0, example="5s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartConfig:
    """What a call to a model that is not loaded waits for. Durations are seconds. Immutable."""

    grace: float = setting(
        Duration(),
        "How long loading the model may take. Calls wait for it, within their deadlines, before their first attempt.",
        default=60.0,
        example="60s",
    )
    idle: float = setting(
        Duration(),
        "Where a server does not tell what is loaded: a model that was not asked for so long is taken for unloaded.",
        default=3600.0,
        example="1h",
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        return f"up to {format_duration(self.grace)} for a model that is not loaded, before the attempt"
