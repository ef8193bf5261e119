"""Whether what is known of mutants was found out with the checkout as it is now."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

#: Written after a run, and no test's business.
_BESIDE = "mutants/survivors.md"


def listed(root: Path) -> list[str]:
    """The files of the checkout at *root*, but for those that git ignores."""
    found = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=True,
    )  # fmt: skip
    return sorted({name for name in found.stdout.decode().split("\0") if name and (root / name).is_file()})


def digest(root: Path) -> str:
    """What tells two states of the checkout at *root* apart."""
    found = hashlib.sha256()
    for name in listed(root):
        if name != _BESIDE:
            found.update(f"{name}\0".encode() + hashlib.sha256((root / name).read_bytes()).digest())
    return found.hexdigest()


def forget_other_states(root: Path, folder: Path, *, keep_kills: bool) -> None:
    """
    Empty *folder* of what was found out in another state of the checkout: lines have moved, and tests have changed.

    With *keep_kills* what was killed stays so, while the files that were changed for it are the same.
    """
    file, now = folder / "state", digest(root)
    if file.exists() and file.read_text("utf-8") == now:
        return
    results = folder / "results.jsonl"
    kills = []
    if keep_kills and results.exists():
        kills = [line for line in results.read_text("utf-8").splitlines() if '"verdict": "killed"' in line]
    for name in ("coverage", "seconds.json", "control.json", "results.jsonl"):
        (folder / name).unlink(missing_ok=True)
    results.write_text("".join(f"{line}\n" for line in kills), "utf-8")
    file.write_text(now, "utf-8")
