"""Names of splits: whole words in any case, never by luck."""

from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.splits import find_splits, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Train", "train"),
        ("TRAINING", "train"),
        ("training_set", "train"),
        ("train2017", "train"),
        ("instances_val2017", "val"),
        ("Flickr_8k.devImages", "val"),
        ("valid", "val"),
        ("imagesTest", "test"),
        ("trainval", None),
        ("train_val", None),
        ("contest", None),
        ("restrained", None),
        ("", None),
    ],
)
def test_a_whole_word_names_the_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_the_cleaner_name_is_taken_and_others_are_left() -> None:
    names = ["train", "train_old", "Valid", "backup"]
    assert find_splits(names, Path("data")) == {"train": "train", "val": "Valid"}


def test_two_names_that_are_as_good_are_refused_by_both() -> None:
    with pytest.raises(DlkitError, match="both dev and val can be the split 'val'"):
        find_splits(["val", "dev", "train"], Path("data"))
