"""What curves.png shows: which numbers in which panel, over whole epochs."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dlkit.core.train import curves as drawing
from dlkit.core.train.curves import curves
from dlkit.core.train.epoch_log import BestMetric


def drawn(records: list[dict[str, float | None]], best: BestMetric | None) -> dict[str, Any]:
    """The panels by their titles."""
    with mock.patch.object(drawing, "save_figure") as save:
        curves(records, best, Path("curves.png"))
    figure = save.call_args.args[0]
    figure.canvas.draw()
    return {axes.get_title(): axes for axes in figure.axes}


def records_of(epochs: int, **more: float) -> list[dict[str, float | None]]:
    return [
        {"epoch": number, "loss": 1 / number, **more, "lr": 0.1, "seconds": 2.0}
        for number in range(1, epochs + 1)
    ]


def test_both_losses_share_a_panel_and_the_metric_has_its_own() -> None:
    records = records_of(4, val_loss=0.7, top5=0.9)
    for record, top1 in zip(records, [0.1, None, 0.4, 0.3], strict=True):
        record["top1"] = top1
    panels = drawn(records, BestMetric("top1"))
    assert list(panels) == ["loss", "top1 (higher is better)", "learning rate", "top5"]
    lines = {line.get_label(): list(line.get_ydata()) for line in panels["loss"].lines}
    assert lines == {
        "training": [1 / number for number in range(1, 5)],
        "validation": [0.7] * 4,
    }
    _, best = panels["top1 (higher is better)"].lines
    assert best.get_label() == "best: 0.4 in epoch 3"
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([3], [0.4])
    large, small = panels["loss"].get_position(), panels["top5"].get_position()
    assert large.height > 1.5 * small.height


def test_a_loss_that_selects_is_marked_in_its_panel() -> None:
    panels = drawn(records_of(3, val_loss=0.7, perplexity=2.0), BestMetric("val_loss", lower=True))
    assert list(panels) == ["loss", "learning rate", "perplexity"]
    assert panels["loss"].lines[-1].get_label() == "best: 0.7 in epoch 3"
    assert list(drawn(records_of(3), None)) == ["loss on training data", "learning rate"]


@pytest.mark.parametrize("epochs", [1, 2, 7, 500])
def test_ticks_are_whole_epochs_and_no_axis_is_logarithmic(epochs: int) -> None:
    for axes in drawn(records_of(epochs, top1=0.5, top5=0.6), BestMetric("top1")).values():
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert low <= 1
        assert high >= epochs
        assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
        assert axes.get_xlabel() == "epoch"
