"""The way into the command line. It imports next to nothing, so that Ctrl-C is heard before anything is loaded."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded ends it quietly, with 130."""
    before = signal.getsignal(signal.SIGINT)
    is_usual = before is signal.default_int_handler  # it is not where whoever started us wants Ctrl-C ignored
    if is_usual:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from pixel_llm.cli.main import run

    if is_usual:
        signal.signal(signal.SIGINT, before)
    run()
