"""Training curves as a PNG file."""

from collections.abc import Sequence
from pathlib import Path

from dlkit.core.io.plots import figure, save_figure


def curves(records: Sequence[dict[str, float | None]], path: Path) -> None:
    """Draw a panel for each number in the epochs' records; None leaves a gap."""
    names = [name for name in records[-1] if name not in {"epoch", "seconds"}]
    rows = -(-len(names) // 3)
    drawn = figure(12, 2.8 * rows)
    epochs = [record["epoch"] for record in records]
    for index, name in enumerate(names):
        axes = drawn.add_subplot(rows, 3, index + 1)
        axes.plot(epochs, [number(record.get(name)) for record in records], linewidth=1.2)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.grid(alpha=0.3)
    save_figure(drawn, path)


def number(value: float | None) -> float:
    """The value, or nan for None."""
    return float("nan") if value is None else value
