"""The picture of each shipped profile, a table of all, and how the pictures get into the folder."""

from __future__ import annotations

from pathlib import Path

from tools.outages.drawing import draw
from tools.outages.playing import play
from tools.outages.telling import table

FOLDER = Path(__file__).parents[2] / "docs" / "how-to" / "outages"

PROFILES = ("basic", "production", "development", "high-throughput", "low-latency")


def render_pictures() -> dict[str, str]:
    """The text of each picture, by its name below ``docs/how-to/outages/``. All have the same scale of time."""
    played = [play(profile) for profile in PROFILES]
    until = max(one.ended for one in played)
    return {f"{one.profile}.svg": draw(one, until) for one in played}


def table_of_outages() -> str:
    """What became of the calls, a row for each profile."""
    return table(play(profile) for profile in PROFILES)


def stale_pictures() -> list[str]:
    """Those that are not what the engine does: changed, missing, or left over."""
    return _stale(render_pictures())


def write_pictures() -> list[str]:
    """Bring the folder up to date. Gives the names of what changed."""
    rendered = render_pictures()
    stale = _stale(rendered)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in rendered:
            (FOLDER / name).write_bytes(rendered[name].encode())
        else:
            (FOLDER / name).unlink()
    return stale


def _stale(rendered: dict[str, str]) -> list[str]:
    left_over = (path.name for path in FOLDER.glob("*"))
    wrong = (name for name, text in rendered.items() if _read(name) != text.encode())
    return sorted({*wrong, *(name for name in left_over if name not in rendered)})


def _read(name: str) -> bytes | None:
    path = FOLDER / name
    return path.read_bytes() if path.exists() else None
