"""A target's stack as a transport, for httpx clients and all that is built on them, such as the ``openai`` package."""

from pixel_llm.lm_studio.policy_transport.edge import DoubleRetryWarning, error_behind
from pixel_llm.lm_studio.policy_transport.reply import HTTPReply
from pixel_llm.lm_studio.policy_transport.transports import AsyncPolicyTransport, PolicyTransport

__all__ = ["AsyncPolicyTransport", "DoubleRetryWarning", "HTTPReply", "PolicyTransport", "error_behind"]
