"""Layouts of labeled images."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.layouts import ImageSample, read_split, read_training
from dlkit.core.datasets.splits import Draw
from tests.classify.helpers import train, write_folders


def test_a_folder_without_splits_is_split_at_random(tmp_path: Path) -> None:
    data = write_folders(tmp_path, {"x": 20}) / "x"

    def read(split: str, seed: int = 3) -> list[ImageSample]:
        return read_split(data, split, draw=Draw(0.2, seed)).samples

    parts = {split: read(split) for split in ("train", "val", "test")}
    paths = {name: {sample.path for sample in part} for name, part in parts.items()}
    assert {name: len(part) for name, part in paths.items()} == {"test": 12, "val": 9, "train": 39}
    assert len(set.union(*paths.values())) == 60
    assert read("test") == parts["test"]
    assert read("test", seed=4) != parts["test"]
    counts = np.bincount([sample.labels[0] for sample in parts["test"]])
    assert counts.tolist() == [4, 4, 4]
    assert len(read_split(data, "all").samples) == 60


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"an image")


def test_one_odd_row_does_not_make_the_data_multi_label(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{n}.png" for n in range(30)))
    rows = [f"{n}.png,{'cat' if n % 2 else 'dog'}" for n in range(30)]
    rows[3], rows[4] = "3.png,", "4.png,cat;dog"
    table = tmp_path / "all.csv"
    table.write_text("\n".join(["path,label", *rows]))
    found = read_split(table, "all")
    assert not found.multi_label
    assert found.ledger.places["images"] == {
        "image without a label": [f"{table}:5"],
        "image with several labels where others have one": [f"{table}:6 (cat, dog)"],
    }
    assert read_split(table, "all", multi_label=True).ledger.places == {}
    table.write_text("\n".join(["path,label", *rows, *rows[4:5] * 9]))
    assert read_split(table, "all").multi_label


def test_labels_that_differ_only_in_form_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("cat/1.png", "Cat/2.png", "hot dog/3.png", "hot_dog/4.png", "fox/5.png")
    write_images(tmp_path, *names)
    config = ClassifyTrainConfig(data=tmp_path, val_share=0)
    training, _ = read_training(config)
    assert training.labels == ["Cat", "cat", "fox", "hot dog", "hot_dog"]
    assert (
        "differ only in case, blanks or Unicode form: 'Cat', 'cat'; 'hot dog', 'hot_dog'"
        in capsys.readouterr().err
    )


def test_bad_csv_gets_one_line(tmp_path: Path) -> None:
    data = tmp_path / "list.csv"
    data.write_text("path,label\nnone.png,a\n")
    reason = "none of the 1 images of 'train' can be used, most often: missing image"
    assert reason in train(data, tmp_path / "run").err
    data.write_text("picture,label\nnone.png,a\n")
    assert "no column named path" in train(data, tmp_path / "run").err
