"""The demonstration: a policy carries captions through a server that fails in every way it can."""

from pixel_llm.demo.story import Act, Call, Summary, play

__all__ = ["Act", "Call", "Summary", "play"]
