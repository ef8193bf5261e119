"""For tests, yours too: LM Studio on a real socket that fails as told, and a clock that moves as told."""

from pixel_llm.resilience.roads.binding import switched_off as disabled
from pixel_llm.testing.clock import VirtualClock
from pixel_llm.testing.request import RecordedRequest
from pixel_llm.testing.server import ScriptedLMStudio
from pixel_llm.testing.steps import (
    Answer,
    BrokenStream,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    ModelList,
    ModelLoad,
    Refuse,
    Reset,
    Status,
    Step,
    Truncated,
    WrongType,
)

__all__ = [
    "Answer",
    "BrokenStream",
    "Crash",
    "Drip",
    "EmptyChoices",
    "ErrorBody",
    "Garbage",
    "Hang",
    "ModelList",
    "ModelLoad",
    "RecordedRequest",
    "Refuse",
    "Reset",
    "ScriptedLMStudio",
    "Status",
    "Step",
    "Truncated",
    "VirtualClock",
    "WrongType",
    "disabled",
]
