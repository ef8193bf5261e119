"""``pixel-llm top``: a running process, watched."""

from pixel_llm.cli.top.command import top_command

__all__ = ["top_command"]
