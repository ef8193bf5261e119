"""
The samples in the documentation, run: what a page shows is what a reader gets.

CONTRIBUTING.md says how samples are written. ``python -m tools.samples PAGE…`` runs those of the
pages and writes the output that came under each command.
"""

from tools.samples.blocks import Block, read_blocks
from tools.samples.running import Mismatch, run_page

__all__ = ["Block", "Mismatch", "read_blocks", "run_page"]
