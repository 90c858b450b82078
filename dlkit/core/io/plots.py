"""Figures as PNG files: lines, heat maps, attention. matplotlib is imported when used."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.io.files import whole_file


def figure(width: float, height: float) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def save_figure(drawn: Any, path: Path) -> None:
    """Write a figure as a PNG file."""
    with whole_file(path) as partial:
        drawn.savefig(partial, format="png", dpi=110)


def lines(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]], x: str, y: str, title: str, path: Path
) -> None:
    """One line for each name, from its x and y values."""
    drawn = figure(7, 5)
    axes = drawn.add_subplot()
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, label=name, linewidth=1.4)
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if series:
        axes.legend(fontsize=8)
    save_figure(drawn, path)


def heat_map(
    counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, path: Path
) -> None:
    """A matrix of counts, colored by each row's shares: truth in rows, prediction in columns."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.55 * len(columns)
    drawn = figure(side + 1, side)
    axes = drawn.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_title(title, fontsize=9)
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, str(int(count)), ha="center", va="center", color=ink, fontsize=7)
    save_figure(drawn, path)


def attention(
    weights: np.ndarray, rows: Sequence[str], columns: Sequence[str], y: str, x: str, path: Path
) -> None:
    """A matrix of shares from 0 to 1; the darker, the larger."""
    drawn = figure(2 + 0.45 * len(columns), 1.5 + 0.4 * len(rows))
    axes = drawn.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", parse_math=False)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set(xlabel=x, ylabel=y)
    drawn.colorbar(image)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        save_figure(drawn, path)
