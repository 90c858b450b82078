"""A training that must reach a score."""

import json
from pathlib import Path

import pytest

from dlkit.core.store import checkpoint
from tests.conftest import run
from tests.segment.helpers import (
    NAMES,
    SMALL,
    folders,
)


@pytest.mark.slow
def test_a_unet_learns_discs_and_squares(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    done = run(
        "segment", "train", root, "--out", tmp_path / "run", *SMALL, "--epochs", 12, "--lr", 0.01,
        "--batch-size", 1, "--zoom", 1.1, "--rotate", 5, "--class-weights", "median",
    )  # fmt: skip
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert records[-1]["mean_iou"] > 0.55
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    header = checkpoint.read_header(Path(done.out.strip()))
    assert header.labels == NAMES
    assert header.metrics["mean_iou"] == max(record["mean_iou"] for record in records)
    assert header.settings == {"width_multiplier": 0.125, "depth": 2}
    assert (tmp_path / "run/examples.png").exists()
