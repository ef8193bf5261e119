"""Several servers as one: which is asked, how they are, and models that must be loaded first."""

from pixel_llm.lm_studio.servers.servers import Servers

__all__ = ["Servers"]
