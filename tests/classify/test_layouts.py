"""Layouts of labeled images."""

from pathlib import Path

import numpy as np

from tests.classify.helpers import train, write_folders


def test_a_folder_without_splits_is_split_at_random(tmp_path: Path) -> None:
    from dlkit.classify.layouts import read_split

    data = write_folders(tmp_path, {"x": 20}) / "x"
    parts = {s: read_split(data, s, share=0.2, seed=3).samples for s in ("train", "val", "test")}
    paths = {name: {sample.path for sample in part} for name, part in parts.items()}
    assert {name: len(part) for name, part in paths.items()} == {"test": 12, "val": 9, "train": 39}
    assert len(set.union(*paths.values())) == 60
    assert read_split(data, "test", share=0.2, seed=3).samples == parts["test"]
    assert read_split(data, "test", share=0.2, seed=4).samples != parts["test"]
    counts = np.bincount([sample.labels[0] for sample in parts["test"]])
    assert counts.tolist() == [4, 4, 4]
    assert len(read_split(data, "all").samples) == 60


def test_bad_csv_gets_one_line(tmp_path: Path) -> None:
    data = tmp_path / "list.csv"
    data.write_text("path,label\nnone.png,a\n")
    assert "none of the listed images exists" in train(data, tmp_path / "run").err
    data.write_text("picture,label\nnone.png,a\n")
    assert "no column named path" in train(data, tmp_path / "run").err
