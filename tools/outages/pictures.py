"""The picture of each shipped profile, the page's table of all, and how they get into the folder."""

from __future__ import annotations

from pathlib import Path

from tools.outages.drawing import draw
from tools.outages.playing import play
from tools.outages.telling import table

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"

#: The page that has the table, between these two lines.
PAGE = "choose-a-profile.md"
BEGINS = "<!-- Written by `make docs` from tools/outages/: the calls. -->\n"
ENDS = "<!-- The end of what `make docs` writes. -->\n"

PROFILES = ("basic", "production", "development", "high-throughput", "low-latency")


def render_pictures() -> dict[str, str]:
    """
    The text of each picture, and of the page with its table, by the name below ``docs/how-to/``.

    All pictures have the same scale of time.
    """
    played = [play(profile) for profile in PROFILES]
    until = max(one.ended for one in played)
    before, _, rest = (FOLDER / PAGE).read_text("utf-8").partition(BEGINS)
    page = f"{before}{BEGINS}\n{table(played)}\n\n{ENDS}{rest.partition(ENDS)[2]}"
    return {PAGE: page} | {f"outages/{one.profile}.svg": draw(one, until) for one in played}


def stale_pictures() -> list[str]:
    """Those that are not what the engine does: changed, missing, or left over."""
    return _stale(render_pictures())


def write_pictures() -> list[str]:
    """Bring the folder up to date. Gives the names of what changed."""
    rendered = render_pictures()
    stale = _stale(rendered)
    (FOLDER / "outages").mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in rendered:
            (FOLDER / name).write_bytes(rendered[name].encode())
        else:
            (FOLDER / name).unlink()
    return stale


def _stale(rendered: dict[str, str]) -> list[str]:
    left_over = (f"outages/{path.name}" for path in (FOLDER / "outages").glob("*"))
    wrong = (name for name, text in rendered.items() if _read(name) != text.encode())
    return sorted({*wrong, *(name for name in left_over if name not in rendered)})


def _read(name: str) -> bytes | None:
    path = FOLDER / name
    return path.read_bytes() if path.exists() else None
