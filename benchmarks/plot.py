"""What a call costs, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "pixel-llm"  # the same figures give the same file

from matplotlib import pyplot as plt  # noqa: E402 - after the backend was chosen

OURS, THEIRS = "#2a6f97", "#b0b7bf"


def draw(tables: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Draw a chart for each of *tables*, seconds by name, one below the other, on a logarithmic scale of µs."""
    heights = [len(rows) for rows in tables.values()]
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(9, 0.42 * sum(heights) + len(tables)), height_ratios=heights, layout="constrained"
    )
    for axis, (title, rows) in zip(axes, tables.items(), strict=True):
        names, values = list(rows), [seconds * 1e6 for seconds in rows.values()]
        colours = [OURS if name.startswith("pixel-llm") else THEIRS for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, labels=[f"{value:.2f}" for value in values], padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.set_title(f"{title}, µs", loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
