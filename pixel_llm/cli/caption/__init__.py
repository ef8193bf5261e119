"""``pixel-llm caption``: images in, captions out, through a policy."""

from pixel_llm.cli.caption.command import caption_command

__all__ = ["caption_command"]
