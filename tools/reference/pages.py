"""Every page that is made from the code, and how it gets into the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.reference.commands_page import commands_page
from tools.reference.error_codes_page import error_codes_page
from tools.reference.metrics_page import metrics_page
from tools.reference.policy_page import policy_page
from tools.reference.rule_pages import rule_pages, rules_index

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "policy.md": policy_page,
    "rules.md": rules_index,
    "error-codes.md": error_codes_page,
    "commands.md": commands_page,
    "metrics.md": metrics_page,
}


def render_pages() -> dict[str, str]:
    """The text of each page, by its name below ``docs/reference/``."""
    pages = {name: render() for name, render in PAGES.items()}
    return pages | {f"rules/{rule_id}.md": text for rule_id, text in rule_pages().items()}


def stale_pages() -> list[str]:
    """The pages that are not what the code says: changed, missing, or left over."""
    pages = render_pages()
    wrong = [name for name, text in pages.items() if _read(name) != text.encode()]
    return sorted({*wrong, *_left_over(pages)})


def write_pages() -> list[str]:
    """Bring the folder up to date. Gives the names of the pages that changed."""
    pages = render_pages()
    changed = stale_pages()
    for name in _left_over(pages):
        (FOLDER / name).unlink()
    for name, text in pages.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return changed


def _read(name: str) -> bytes | None:
    path = FOLDER / name
    return path.read_bytes() if path.exists() else None


def _left_over(pages: dict[str, str]) -> list[str]:
    """Pages of rules that there are no longer."""
    found = (f"rules/{path.name}" for path in (FOLDER / "rules").glob("*.md"))
    return [name for name in found if name not in pages]
