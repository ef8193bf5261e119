"""Chat in, text out over httpx; errors are translated at this edge. The only room that knows httpx."""

from pixel_llm.lm_studio.client import LMStudioClient
from pixel_llm.lm_studio.payload import ChatRequest, chat_payload, request_key
from pixel_llm.lm_studio.replies import ChatReply, ModelList

__all__ = [
    "ChatReply",
    "ChatRequest",
    "LMStudioClient",
    "ModelList",
    "chat_payload",
    "request_key",
]
