"""Training: architectures, options, starting points, resuming."""

import json
import math
from pathlib import Path

import pytest
import torch

from dlkit.classify import backbones
from dlkit.core.store import checkpoint
from tests.conftest import assert_killed_ends_as_whole, run
from tests.segment.helpers import (
    NAMES,
    NARROW,
    SMALL,
    camvid,
    folders,
    voc,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--loss dice --ema 0.9",
        "--loss focal --focal-gamma 1 --class-weights inverse --border-weight 10 --border-sigma 3",
        "--loss cross-entropy+dice --loss-share 0.5 --crop 32 --elastic 3",
        "--padding valid --image-size 48",
    ],
)
def test_one_epoch_with_every_option(options: str, tmp_path: Path) -> None:
    done = run(
        "segment", "train", voc(tmp_path / "data"), "--out", tmp_path / "run", *SMALL,
        "--epochs", 1, *options.split(),
    )  # fmt: skip
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert math.isfinite(record["loss"])
    assert 0 <= record["mean_iou"] <= 1


def test_a_border_map_needs_masks_of_objects(tmp_path: Path) -> None:
    done = run(
        "segment", "train", camvid(tmp_path), "--out", tmp_path / "run", "--border-weight", 5
    )
    assert done.code == 2
    assert "no object mask" in done.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("fcn8s", NARROW),
        ("segnet", NARROW),
        ("dilated", NARROW),
        ("patch", [*NARROW, "--places", "8", "--step", "16"]),
        ("shift-and-stitch", [*NARROW, "--step", "16"]),
        ("lraspp", ["--crop", "32", "--batch-size", "2"]),
        pytest.param(
            "maskrcnn",
            ["--task", "instance", "--backbone", "mobilenet", "--image-size", "32"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_kind_of_architecture_trains(arch: str, options: list[str], tmp_path: Path) -> None:
    done = run(
        "segment", "train", voc(tmp_path / "data"), "--out", tmp_path / "run", "--arch", arch,
        *options, "--epochs", 1, "--workers", 0, "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert math.isfinite(record["loss"])
    labels = NAMES[1:] if arch == "maskrcnn" else NAMES
    assert checkpoint.read_header(Path(done.out.strip())).labels == labels


@pytest.mark.slow
def test_16s_starts_as_the_32s_it_takes_over(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    fixed = [*NARROW, "--epochs", 1, "--workers", 0, "--device", "cpu"]
    coarse = run(
        "segment", "train", root, "--out", tmp_path / "32s", "--arch", "fcn32s", *fixed
    ).out.strip()
    done = run(
        "segment", "train", root, "--out", tmp_path / "16s", "--arch", "fcn16s", *fixed,
        "--init-from", coarse, "--lr", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    _, before = checkpoint.load(Path(coarse))
    _, after = checkpoint.load(Path(done.out.strip()))
    same = [name for name in before if name in after and name.endswith("weight")]
    assert len(same) > 10
    assert all(torch.equal(before[name], after[name]) for name in same)


@pytest.mark.slow
def test_a_unet_starts_from_the_backbone_or_only_from_its_form(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")

    def first_weights(out: str, *options: str) -> torch.Tensor:
        # At this learning rate nothing moves.
        done = run(
            "segment", "train", root, "--out", tmp_path / out, "--epochs", 1, "--lr", 0,
            "--workers", 0, "--device", "cpu", *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        _, weights = checkpoint.load(Path(done.out.strip()))
        return weights["backbone.stages.0.0.weight"]

    trained = backbones.load("caltech101")[0].state_dict()["stages.0.0.weight"]
    assert torch.equal(first_weights("default"), trained)
    assert not torch.equal(first_weights("form", "--no-pretrained-backbone"), trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task instance", "--arch maskrcnn"),
        ("--arch maskrcnn", "--task instance"),
        ("--focal-gamma 1", "--loss focal"),
        ("--border-sigma 3", "--border-weight"),
        ("--loss dice --class-weights median", "not dice"),
        ("--task instance --arch maskrcnn --loss dice", "--loss is for fcn32s"),
        ("--no-pretrained-backbone --width-multiplier 0.5", "--backbone"),
        ("--backbone none --no-pretrained-backbone", "--backbone"),
        ("--backbone caltech101 --depth 3", "depth"),
        ("--backbone digits", "1-channel"),
        ("--window 32", "window"),
        ("--places 9", "--places is for patch, not unet"),
        ("--arch patch --window 16", "window"),
        ("--arch patch --loss-share 0.5", "not patch"),
        ("--arch lraspp --backbone caltech101", "backbone"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    options: str, message: str, tmp_path: Path
) -> None:
    done = run(
        "segment", "train", camvid(tmp_path / "data"), "--out", tmp_path / "run", *options.split(),
        "--epochs", 1,
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    command = ["segment", "train", str(root), *SMALL, "--ema", "0.9", "--crop", "40"]
    assert_killed_ends_as_whole(tmp_path, 4, *command, "--elastic", "2")
