"""The command line: one file a command group."""

from pixel_llm.cli.entrance import main

__all__ = ["main"]
