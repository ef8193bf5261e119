"""``python -m pixel_llm`` is ``pixel-llm``."""

from pixel_llm.cli import main

main()
