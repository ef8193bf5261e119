"""The `lm_studio` section: which server, which model, what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, Integer, ListOf, Number, SecretText, Text
from pixel_llm.policy.secrets import Secret
from pixel_llm.policy.sections.endpoints import BASE_URL, Balance, ColdStartConfig, EndpointConfig, HealthConfig
from pixel_llm.policy.sections.image import ImageConfig
from pixel_llm.policy.settings import Section, setting


class Vision(StrEnum):
    """What of the picture is sent to the model."""

    DESCRIPTION = "description"
    IMAGE = "image"
    BOTH = "both"


class WithoutVision(StrEnum):
    """What happens when the model turns out to take no images."""

    FAIL = "fail"
    DESCRIPTION = "description"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """What the model is asked to do. Immutable, safe to share between threads."""

    max_tokens: int = setting(Integer(1, 1_000_000), "The longest answer, in tokens.", default=256, example=256)
    temperature: float = setting(
        Number(0, 2), "How freely the model chooses its words; 0 always takes the likeliest.", default=0.2, example=0.2
    )
    top_p: float | None = setting(
        Number(0, 1), "Choose only among the likeliest words that make up this share.", default=None, example=0.95
    )
    seed: int | None = setting(
        Integer(0, 2**63 - 1), "Makes the model's choices repeatable, where it can.", default=None, example=7
    )
    system_prompt: str = setting(
        Text(),
        "What the model is told before every request.",
        default="Describe the picture in one sentence.",
        example="Describe the picture in one sentence.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LMStudioConfig:
    """The LM Studio server, or any other OpenAI-compatible one. Immutable, safe to share between threads."""

    base_url: str = setting(
        BASE_URL,
        "Where the server's API starts. 127.0.0.1 is faster than localhost.",
        default="http://127.0.0.1:1234/v1",
        example="http://127.0.0.1:1234/v1",
    )
    api_key: Secret | None = setting(
        SecretText(),
        "The key, if the server wants one: always as ${VARIABLE}, never in the file itself.",
        default=None,
        example="${LM_STUDIO_API_KEY}",
    )
    endpoints: tuple[EndpointConfig, ...] | None = setting(
        ListOf(Section(EndpointConfig)),
        "Several servers, in place of base_url and api_key. Each has its own breaker, rate limit, bulkhead and "
        "timeout; when one fails, the next is asked at once.",
        default=None,
        example=[{"base_url": "http://127.0.0.1:1234/v1"}, {"base_url": "http://10.0.0.5:1234/v1"}],
    )
    balance: Balance = setting(
        Choice(Balance),
        "Which of the endpoints is asked first, among those that are well and have the model loaded: each in turn, or "
        "the one with the fewest calls under way.",
        default=Balance.ROUND_ROBIN,
        example="least_busy",
    )
    health: HealthConfig = setting(
        Section(HealthConfig),
        "How the endpoints are looked after in the background. It only changes the order in which they are asked.",
        default=HealthConfig(),
        example={"interval": "30s"},
    )
    cold_start: ColdStartConfig | None = setting(
        Section(ColdStartConfig),
        "What a call to a model that is not loaded waits for: one load for all callers.",
        default=None,
        example={"grace": "60s"},
    )
    model: str = setting(
        Text("the name of a model", may_be_empty=False),
        "The model that is asked, by the name that the server lists.",
        default="qwen2.5-vl-7b-instruct",
        example="qwen2.5-vl-7b-instruct",
    )
    vision: Vision = setting(
        Choice(Vision),
        "What is sent of the picture: the encoder's description, the image itself, or both.",
        default=Vision.BOTH,
        example="both",
    )
    without_vision: WithoutVision = setting(
        Choice(WithoutVision),
        "What happens when the model turns out to take no images: the call fails, or the model is asked again with the "
        "encoder's description alone. Such a caption is degraded, and says that the description served.",
        default=WithoutVision.FAIL,
        example="description",
    )
    generation: GenerationConfig = setting(
        Section(GenerationConfig),
        "What the model is asked to do.",
        default=GenerationConfig(),
        example={"max_tokens": 256},
    )
    image: ImageConfig = setting(
        Section(ImageConfig),
        "How a picture is written for the model.",
        default=ImageConfig(),
        example={"max_side": 1024},
    )

    @property
    def servers(self) -> tuple[EndpointConfig, ...]:
        """Every server: the endpoints, or the only one."""
        return self.endpoints or (EndpointConfig(base_url=self.base_url, api_key=self.api_key),)

    @property
    def has_routes(self) -> bool:
        """True if it must be found out for each call which server is asked, or whether it is ready."""
        return self.endpoints is not None or self.cold_start is not None
