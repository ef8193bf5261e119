"""Image in, caption out: the encoder and LM Studio behind the stacks of one policy."""

from pixel_llm.hybrid.batch import BatchItem, BatchProgress
from pixel_llm.hybrid.config import HybridConfig
from pixel_llm.hybrid.model import HybridPixelLLM
from pixel_llm.hybrid.question import DEFAULT_PROMPT
from pixel_llm.hybrid.result import CaptionResult
from pixel_llm.hybrid.stream import AsyncCaptionStream, CaptionStream

__all__ = [
    "DEFAULT_PROMPT",
    "AsyncCaptionStream",
    "BatchItem",
    "BatchProgress",
    "CaptionResult",
    "CaptionStream",
    "HybridConfig",
    "HybridPixelLLM",
]
