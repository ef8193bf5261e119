"""Chat in, text out over httpx; errors are translated at this edge. The only room that knows httpx."""

from pixel_llm.lm_studio.chat_stream import ChatChunk
from pixel_llm.lm_studio.client import LMStudioClient
from pixel_llm.lm_studio.embeddings import EmbeddingReply
from pixel_llm.lm_studio.model_states import ModelState
from pixel_llm.lm_studio.payload import ChatRequest, chat_payload, request_key
from pixel_llm.lm_studio.policy_transport import (
    AsyncPolicyTransport,
    DoubleRetryWarning,
    HTTPReply,
    PolicyTransport,
    error_behind,
)
from pixel_llm.lm_studio.replies import ChatReply, ModelList
from pixel_llm.lm_studio.transport import LimitedAsyncTransport, LimitedTransport

__all__ = [
    "AsyncPolicyTransport",
    "ChatChunk",
    "ChatReply",
    "ChatRequest",
    "DoubleRetryWarning",
    "EmbeddingReply",
    "HTTPReply",
    "LMStudioClient",
    "LimitedAsyncTransport",
    "LimitedTransport",
    "ModelList",
    "ModelState",
    "PolicyTransport",
    "chat_payload",
    "error_behind",
    "request_key",
]
