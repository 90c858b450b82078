"""Figures as PNG files: lines, heat maps, attention. matplotlib is imported when used."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.io.files import whole_file

DPI = 110  # pixels an inch
NUMBERED = 40  # labels of a heat map from which on it has no numbers in its cells
MAX_TICKS = 120  # labels at an axis
MAX_INCHES = 60  # of a figure's side
MAX_IN_LEGEND = 24  # names
LONGEST_NAME = 40  # characters of a name in a figure


def figure(width: float, height: float) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def save_figure(drawn: Any, path: Path) -> None:
    """Write a figure as a PNG file."""
    with whole_file(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        # Of names that leave no room for the plot.
        warnings.filterwarnings("ignore", message=r"constrained_layout|There are no gridspecs")
        drawn.savefig(partial, format="png", dpi=DPI)


def short(name: str) -> str:
    """A name of one line, of which the middle is cut where it is long."""
    name = " ".join(name.split())
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def lines(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]], x: str, y: str, title: str, path: Path
) -> None:
    """One line for each name, from its x and y values; the first names are in the legend."""
    drawn = figure(7, 5)
    axes = drawn.add_subplot()
    for xs, ys in series.values():
        axes.plot(xs, ys, linewidth=1.4)
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if series:
        # matplotlib skips names that begin with an underscore.
        names = [f" {name}" if name.startswith("_") else name for name in map(short, series)]
        legend = axes.legend(axes.lines[:MAX_IN_LEGEND], names[:MAX_IN_LEGEND], fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    save_figure(drawn, path)


def heat_map(
    counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, path: Path
) -> None:
    """A matrix of counts, colored by each row's shares: truth in rows, prediction in columns.

    From NUMBERED labels on the figure does not grow, cells have no numbers, and only some labels
    are written.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbered = len(columns) < NUMBERED
    side = 2.5 + 0.55 * min(len(columns), NUMBERED)
    step = max(1, -(-len(columns) // MAX_TICKS))
    size = 8 if numbered else 5
    drawn = figure(side + 1, side)
    axes = drawn.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(
        range(0, len(columns), step),
        [short(name) for name in columns[::step]],
        rotation=60 if numbered else 90,
        ha="right" if numbered else "center",
        fontsize=size,
        parse_math=False,
    )
    axes.set_yticks(
        range(0, len(rows), step),
        [short(name) for name in rows[::step]],
        fontsize=size,
        parse_math=False,
    )
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_title(title, fontsize=9)
    for (row, column), count in np.ndenumerate(counts) if numbered else ():
        ink = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, str(int(count)), ha="center", va="center", color=ink, fontsize=7)
    save_figure(drawn, path)


def attention(
    weights: np.ndarray, rows: Sequence[str], columns: Sequence[str], y: str, x: str, path: Path
) -> None:
    """A matrix of shares from 0 to 1; the darker, the larger."""
    width, height = 2 + 0.45 * len(columns), 1.5 + 0.4 * len(rows)
    drawn = figure(min(width, MAX_INCHES), min(height, MAX_INCHES))
    axes = drawn.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    across, down = (max(1, -(-len(names) // MAX_TICKS)) for names in (columns, rows))
    names = [short(name) for name in columns[::across]]
    axes.set_xticks(
        range(0, len(columns), across), names, rotation=60, ha="right", parse_math=False
    )
    names = [short(name) for name in rows[::down]]
    axes.set_yticks(range(0, len(rows), down), names, parse_math=False)
    axes.set(xlabel=x, ylabel=y)
    drawn.colorbar(image)
    save_figure(drawn, path)
