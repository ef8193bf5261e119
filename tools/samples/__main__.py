"""Write what commands really print under them; say what else is wrong with samples."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from tools.samples.running import Mismatch, pages, run_page


def main(names: list[str]) -> int:
    """Bring the transcripts of the pages *names*, by default of all, up to date."""
    left = False
    for path in [Path(name) for name in names] or pages():
        for mismatch in reversed(list(run_page(path))):
            if mismatch.printed is None:
                print(mismatch)
                left = True
            else:
                _write(path, mismatch)
                print(f"{mismatch.block}: brought up to date")
    return int(left)


def _write(path: Path, mismatch: Mismatch) -> None:
    block, text = mismatch.block, path.read_text("utf-8")
    printed = textwrap.indent(f"{mismatch.printed}\n", block.indent)
    path.write_text(text[: block.start] + printed + text[block.end :], "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
