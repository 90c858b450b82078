"""The val split that data lack: its share, strata, groups and seed."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dlkit.core.datasets.samples import ALL, Annotation, Classes, Sample
from dlkit.core.datasets.splits import Draw, read_split, read_training
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger


@dataclass
class Fixed:
    """Images of three labels, ten photographs of each of twenty patients."""

    splits: list[str]
    layout: str = "fixed"
    root: Path = Path("data")
    classes: Classes = field(default_factory=Classes)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        labels = ["common"] * 150 + ["rare"] * 40 + ["rarest"] * 10
        return [
            Sample(
                self.root / f"patient{number // 10}_{number % 10}.jpg",
                split,
                (9, 9),
                (Annotation("common", "", (0, 0, 1, 1)), Annotation(label, "", (0, 0, 1, 1))),
            )
            for number, label in enumerate(labels)
        ]


def names(samples: list[Sample]) -> list[str]:
    return [sample.path.name for sample in samples]


def test_the_share_is_that_of_each_label_and_the_two_add_up() -> None:
    train, val = read_training(Fixed(["train", "test"]), Draw(0.1), Ledger("train"), Ledger("val"))
    assert Counter(s.annotations[1].label for s in val) == {"common": 15, "rare": 4, "rarest": 1}
    assert sorted(names(train) + names(val)) == sorted(names(Fixed([]).read("", Ledger())))


def test_each_split_alone_is_that_of_the_training() -> None:
    source, draw = Fixed([ALL]), Draw(0.2, 3)
    train, val = read_training(source, draw, Ledger(), Ledger())
    assert names(read_split(source, "train", draw, Ledger())) == names(train)
    assert names(read_split(source, "val", draw, Ledger())) == names(val)
    assert names(read_split(source, "val", Draw(0.2, 4), Ledger())) != names(val)


def test_groups_are_kept_together() -> None:
    draw = Draw(0.2, group_by="^patient[0-9]+")
    train, val = read_training(Fixed(["train"]), draw, Ledger(), Ledger())
    groups = [{name.split("_")[0] for name in names(part)} for part in (train, val)]
    assert not groups[0] & groups[1]
    assert len(groups[0] | groups[1]) == 20
    assert val


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a regular"), ("dog", "finds nothing")])
def test_a_pattern_that_groups_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(DlkitError, match=message):
        read_split(Fixed(["train"]), "val", Draw(group_by=pattern), Ledger())


def test_what_cannot_be_drawn_is_refused_by_name() -> None:
    with pytest.raises(DlkitError, match="no split 'val', and no training data"):
        read_split(Fixed(["test"]), "val", Draw(), Ledger())
    with pytest.raises(DlkitError, match="no split 'val', and --val-share 0"):
        read_split(Fixed(["train"]), "val", Draw(0), Ledger())
    with pytest.raises(DlkitError, match="no split 'holiday'; choose from train, val"):
        read_split(Fixed(["train", "val"]), "holiday", Draw(), Ledger())
