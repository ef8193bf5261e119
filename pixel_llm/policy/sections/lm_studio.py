"""The `lm_studio` section: which server, which model, what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, Integer, Number, SecretText, Text
from pixel_llm.policy.secrets import Secret
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
        Text("an http or https address such as http://127.0.0.1:1234/v1", r"^https?://[^\s/]+(/\S*)?$"),
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
