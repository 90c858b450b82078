"""Accounts of what a reader saw: counts that add up, lines, limits."""

import csv
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import save_ledgers
from dlkit.core.ledger import Ledger, write_skipped


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger("train")
    ledger.use("images", 4)
    ledger.use("boxes", 8)
    ledger.skip("boxes", "outside the image", "a.xml:3")
    ledger.skip("boxes", "unknown class 'dgo'", "b.xml:9")
    ledger.skip("boxes", "outside the image", "c.xml:4")
    return ledger


def test_the_counts_add_up(ledger: Ledger) -> None:
    assert (ledger.seen("boxes"), ledger.used["boxes"], ledger.skipped("boxes")) == (11, 8, 3)
    assert ledger.skipped("images") == 0


def test_the_summary_names_the_reasons_the_most_frequent_first(ledger: Ledger) -> None:
    assert ledger.summary({"boxes": "of 2 labels"}) == [
        "train: 4 images, 8 boxes of 2 labels",
        "train: skipped 3 of 11 boxes (27 %): 2 outside the image, 1 unknown class 'dgo';"
        " the first: a.xml:3",
    ]


def test_more_than_the_allowed_share_is_an_error_with_the_option_that_allows_it(
    ledger: Ledger,
) -> None:
    with pytest.raises(DlkitError, match=r"3 of 11 boxes .*outside the image \(a.xml:3, c.xml:4\)"):
        ledger.check(0.05, Path("data"))
    with pytest.raises(DlkitError) as error:
        ledger.check(0.05, Path("data"))
    allowed = float(str(error.value).rsplit("--allow-skipped ", 1)[1])
    ledger.check(allowed, Path("data"))


def test_nothing_left_is_an_error_with_the_most_frequent_reason() -> None:
    ledger = Ledger("val")
    ledger.skip("images", "missing image", "a.jpg")
    with pytest.raises(DlkitError, match=r"none of the 1 images of 'val' .* missing image \(a.jpg"):
        ledger.require("images", Path("data"))
    with pytest.raises(DlkitError, match="no boxes of 'val'"):
        ledger.require("boxes", Path("data"))


def test_notes_follow_the_counts(ledger: Ledger) -> None:
    ledger.note("images whose boxes are scaled", "a.jpg")
    ledger.note("images whose boxes are scaled", "b.jpg")
    assert ledger.summary()[-1] == "train: 2 images whose boxes are scaled; the first: a.jpg"


def test_a_run_has_the_file_only_if_something_was_skipped(ledger: Ledger, tmp_path: Path) -> None:
    save_ledgers(tmp_path, Ledger("val"))
    assert not (tmp_path / "skipped.csv").exists()
    save_ledgers(tmp_path, ledger, Ledger("val"))
    assert len((tmp_path / "skipped.csv").read_text().splitlines()) == 4


def test_the_file_has_a_row_for_each_thing_skipped(ledger: Ledger, tmp_path: Path) -> None:
    write_skipped([ledger, Ledger("val")], tmp_path / "skipped.csv")
    with (tmp_path / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[0] == {
        "split": "train",
        "kind": "boxes",
        "reason": "outside the image",
        "place": "a.xml:3",
    }
