"""The record of an epoch, its line on the terminal, and records of older versions."""

import json
import math
from pathlib import Path

import pytest

from dlkit.core.store.renamed import upgrade_record
from dlkit.core.train.epoch_log import BestMetric, epoch_line, make_record
from dlkit.core.train.run_folder import RunFolder


def test_both_losses_come_first_and_each_metric_has_its_own_name() -> None:
    record = make_record(3, 0.5, {"top1": 0.25, "val_loss": 0.75}, 0.01, 12.345)
    assert list(record) == ["epoch", "loss", "val_loss", "top1", "lr", "seconds"]
    assert record["loss"] == 0.5
    assert record["val_loss"] == 0.75
    top1 = BestMetric("top1")
    line = "epoch 3/10  loss 0.5000  val_loss 0.7500  top1 0.2500"
    assert epoch_line(record, 10, top1, "top1") == f"{line} (best)  12 s"
    assert epoch_line(record, 10, top1) == f"{line}  12 s"
    by_loss = "epoch 3/10  loss 0.5000  val_loss 0.7500 (best)  top1 0.2500  12 s"
    assert epoch_line(record, 10, top1, "val_loss") == by_loss
    lowest = BestMetric("val_loss", lower=True)
    assert epoch_line(record, 10, lowest, "val_loss") == (
        "epoch 3/10  loss 0.5000  val_loss 0.7500 (best)  12 s"
    )
    alone = make_record(1, 0.5, {}, 0.01, 200)
    assert epoch_line(alone, 1, None, "epoch") == "epoch 1/1  loss 0.5000  3 min 20 s"


@pytest.mark.parametrize("name", ["loss", "epoch", "lr", "seconds", "score"])
def test_no_metric_may_have_the_name_of_a_field(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_record(1, 0.5, {name: 1.0}, 0.01, 1)


def test_a_metric_is_ranked_by_its_direction() -> None:
    for metric, better, worse in ((BestMetric("a"), 2.0, 1.0), (BestMetric("a", True), 1.0, 2.0)):
        assert metric.rank(better) > metric.rank(worse) > metric.rank(math.nan)


@pytest.mark.parametrize(
    ("records", "best", "by"),
    [
        ([(0.0, 3.0, 1.0), (0.0, 2.0, 1.0), (0.0, 2.5, 0.5)], 2, "val_loss"),
        ([(0.0, None, 3.0), (0.0, None, 1.0), (0.0, None, 2.0)], 2, "loss"),
        ([(None, 3.0, 1.0), (None, 2.0, 3.0)], 2, "val_loss"),
        ([(None, None, 1.0), (0.0, None, 3.0)], 2, "a"),
        ([(0.5, 1.0, 1.0), (0.5, 1.0, 1.0)], 2, "epoch"),
        ([(0.5, 9.0, 9.0), (0.4, 1.0, 1.0), (None, 1.0, 1.0)], 1, "a"),
    ],
)
def test_losses_decide_between_epochs_that_the_metric_does_not_tell_apart(
    records: list[tuple[float | None, float | None, float]], best: int, by: str
) -> None:
    """By metric, loss on the validation data, loss on the training data, and the epoch."""
    metric = BestMetric("a")
    keys = [
        metric.key({"epoch": number, "a": value, "val_loss": val_loss, "loss": loss})
        for number, (value, val_loss, loss) in enumerate(records, 1)
    ]
    assert max(keys)[-1] == best
    assert metric.decider(max(keys), sorted(keys)[-2]) == by


def test_the_losses_of_a_gan_decide_nothing() -> None:
    metric = BestMetric("fid", lower=True, losses_compare=False)
    keys = [metric.key({"epoch": n, "fid": None, "loss": float(n)}) for n in (1, 2)]
    assert max(keys)[-1] == 2


def test_records_of_older_versions_get_todays_names(tmp_path: Path) -> None:
    """0.2's classify wrote the loss on validation data over that on training data."""
    old = {"epoch": 1, "loss": 0.9, "score": 0.5, "top1": 0.5, "lr": 0.1, "seconds": 1}
    new = {"epoch": 1, "loss": None, "val_loss": 0.9, "top1": 0.5, "lr": 0.1, "seconds": 1}
    assert upgrade_record(old, "classify") == new
    without_validation = {"epoch": 1, "loss": 0.9, "score": 0.0, "lr": 0.1, "seconds": 1}
    assert upgrade_record(without_validation, "classify")["loss"] == 0.9
    translated = {"epoch": 1, "loss": 0.9, "score": -0.8, "val_loss": 0.8}
    assert upgrade_record(translated, "translate") == {"epoch": 1, "loss": 0.9, "val_loss": 0.8}
    files = RunFolder(tmp_path)
    files.log.write_text(json.dumps(old) + "\n" + json.dumps(new) + '\n{"half a rec')
    files.upgrade_log("classify", 2)
    assert files.read_log() == [new, new]
