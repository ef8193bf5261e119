"""The list of mutants that survive, each with the reason."""

from __future__ import annotations

from pathlib import Path

from mutants.making import Mutant


class Survivors:
    """
    The rows of ``mutants/survivors.md``: file and function, the line before and after, and the reason.

    Lines are compared without their numbers, so a row stays true while the code around it changes.
    """

    def __init__(self, rows: dict[tuple[str, str, str], str]) -> None:
        self._rows = rows

    @classmethod
    def read(cls, file: Path) -> Survivors:
        """The rows of *file*; none if it is not there."""
        rows = {}
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        for line in lines:
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            if len(cells) == 4 and cells[0].startswith("`pixel_llm/"):
                where, before, after = (cell.strip("`").replace("\\|", "|") for cell in cells[:3])
                rows[where, before, after] = cells[3]
        return cls(rows)

    def reason(self, mutant: Mutant) -> str | None:
        """Why *mutant* survives; None if the list does not say."""
        return self._rows.get(_key(mutant))

    @staticmethod
    def row(mutant: Mutant) -> str:
        """The row that is missing, but for its reason."""
        return "| " + " | ".join(f"`{cell.replace('|', chr(92) + '|')}`" for cell in _key(mutant)) + " | why |"


def _key(mutant: Mutant) -> tuple[str, str, str]:
    return f"{mutant.file} {mutant.place}".strip(), mutant.before, mutant.after
