"""Training curves as a PNG file.

Above: training and validation loss in one panel, the metric that selects the best checkpoint, the
learning rate. Below, small: all other metrics.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.core.io.plots import figure, save_figure
from dlkit.core.train.epoch_log import BestMetric, as_float

LOSSES = {"loss": "training", "val_loss": "validation"}
NO_PANEL = {"epoch", "seconds", "lr", *LOSSES}
COLUMNS = 6  # of small panels; a large one is two wide
MAX_MARKED = 40  # epochs up to which each point is marked

Records = Sequence[dict[str, float | None]]


def curves(records: Records, best: BestMetric | None, path: Path) -> None:
    """Draw the numbers of the epochs' records; None leaves a gap."""
    names = dict.fromkeys(name for record in records for name in record)
    chosen = best.name if best and best.name not in NO_PANEL else None
    small = [name for name in names if name not in NO_PANEL and name != chosen]
    large = ["loss", *([chosen] if chosen else []), *(["lr"] if "lr" in names else [])]
    rows = -(-len(small) // COLUMNS)
    drawn = figure(13, 3.6 + 1.9 * rows)
    cells = drawn.add_gridspec(1 + rows, COLUMNS, height_ratios=[3.6, *[1.9] * rows])
    width = COLUMNS // len(large)
    for number, name in enumerate(large):
        axes = drawn.add_subplot(cells[0, number * width : (number + 1) * width])
        if name == "loss":
            own = {field: label for field, label in LOSSES.items() if field in names}
            title = "loss" if len(own) > 1 else "loss on training data"
        elif name == "lr":
            own, title = {"lr": "lr"}, "learning rate"
        else:
            better = "lower" if best and best.lower else "higher"
            own, title = {name: name}, f"{name} ({better} is better)"
        for field, label in own.items():
            draw_line(axes, records, field, label)
        finish(axes, records, "learning rate" if name == "lr" else name, title)
        if best and best.name in own:
            mark_best(axes, records, best)
        if len(axes.lines) > 1:
            axes.legend(fontsize=8)
        if name == "lr":
            axes.set_ylim(bottom=0)
    for number, name in enumerate(small):
        axes = drawn.add_subplot(cells[1 + number // COLUMNS, number % COLUMNS])
        draw_line(axes, records, name, name)
        finish(axes, records, "", name, size=8)
    save_figure(drawn, path)


def draw_line(axes: Any, records: Records, name: str, label: str) -> None:
    """The line of a number over the epochs, with its points where they are few."""
    points = [as_float(record.get(name)) for record in records]
    marker = "o" if len(records) <= MAX_MARKED else ""
    axes.plot(
        [record["epoch"] for record in records],
        points,
        label=label,
        linewidth=1.3,
        marker=marker,
        markersize=3,
    )


def mark_best(axes: Any, records: Records, best: BestMetric) -> None:
    """A ring around the best epoch, with its number in the legend."""
    known = [record for record in records if record.get(best.name) is not None]
    if known:
        first = max(known, key=best.key)
        epoch, value = first["epoch"], as_float(first[best.name])
        axes.plot(
            [epoch],
            [value],
            label=f"best: {value:.4g} in epoch {epoch}",
            linestyle="",
            marker="o",
            markersize=8,
            markerfacecolor="none",
            color="black",
        )


def finish(axes: Any, records: Records, y: str, title: str, size: int = 10) -> None:
    """Titles of the panel and its axes, and whole epochs from the first to the last."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=size)
    axes.set_xlabel("epoch", fontsize=size - 1)
    axes.set_ylabel(y, fontsize=size - 1)
    axes.tick_params(labelsize=size - 2)
    first, last = as_float(records[0]["epoch"]), as_float(records[-1]["epoch"])
    room = max(0.02 * (last - first), 0.5 if first == last else 0.1)
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=8 if size > 8 else 4, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    axes.grid(alpha=0.3)
