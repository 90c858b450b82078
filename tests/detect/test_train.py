"""Trainings that start, resume and refuse options."""

import json
from pathlib import Path

import pytest
import torch

from dlkit.core.store import checkpoint
from tests.conftest import assert_killed_ends_as_whole, run, scene

TRAIN = "--size nano --image-size 64 --batch-size 4 --workers 0 --device cpu"


@pytest.mark.slow
def test_training_with_a_teacher(model: Path, handful: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", handful, "--out", tmp_path / "run", *TRAIN.split(), "--epochs", 1,
        "--teacher", model, "--multi-scale", 1.6,
    )  # fmt: skip
    assert done.code == 0, done.err
    (line,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    taught = {k: v for k, v in json.loads(line).items() if k.startswith("loss_teacher_")}
    assert len(taught) == 3
    assert all(value > 0 for value in taught.values())
    done = run("detect", "train", handful, "--out", tmp_path / "other", "--teacher", "animals")
    assert (done.code, done.err.count("dlkit: ")) == (2, 1)
    assert "disc, square" in done.err


@pytest.mark.slow
def test_training_starts_from_the_backbone_or_only_from_its_form(
    handful: Path, narrow: Path, tmp_path: Path
) -> None:
    header, weights = checkpoint.load(narrow)
    path = tmp_path / "small.safetensors"
    weights["features.conv1.weight"] = torch.full_like(weights["features.conv1.weight"], 0.25)
    checkpoint.save(path, weights, header)

    def first_weights(out: str, *options: str) -> torch.Tensor:
        # At this learning rate nothing moves.
        done = run(
            "detect", "train", handful, "--out", tmp_path / out, "--backbone", path, "--epochs", 1,
            "--image-size", 64, "--lr", 0, "--workers", 0, "--ema", 0, *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        _, weights = checkpoint.load(Path(done.out.strip()))
        return weights["backbone.stages.0.0.weight"]

    assert (first_weights("trained") == 0.25).all()
    assert (first_weights("form", "--no-pretrained-backbone") != 0.25).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--backbone cifar10", "strides [1, 2, 4, 8]"),
        ("--backbone digits", "1-channel"),
        ("--arch ssd --backbone cifar10", "strides [1, 2, 4, 8]"),
        ("--arch ssd --backbone resnet50", "resnet50"),
        ("--no-pretrained-backbone", "--backbone"),
        ("--arch fasterrcnn --no-pretrained-backbone", "--backbone"),
        ("--arch ssd --size nano", "--size"),
        ("--arch fcos --teacher animals", "--teacher"),
        ("--image-size 100", "multiple of 32"),
        ("--arch yolo-v1 --multi-scale 1.5", "--multi-scale"),
    ],
)
def test_backbones_that_do_not_fit(
    shapes: Path, tmp_path: Path, options: str, message: str
) -> None:
    done = run("detect", "train", shapes, "--out", tmp_path / "run", *options.split())
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1


@pytest.mark.slow
def test_training_at_several_sizes_with_copies(handful: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", handful, "--out", tmp_path / "run", *TRAIN.split(), "--epochs", 3,
        "--close-mosaic", 1, "--multi-scale", 1.6, "--copy-paste", 0.5,
    )  # fmt: skip
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(shapes: Path, tmp_path: Path) -> None:
    assert_killed_ends_as_whole(tmp_path, 2, "detect", "train", str(shapes), *TRAIN.split())


def test_it_refuses_pictures_made_of_several(single: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", single, "--out", tmp_path / "run", "--arch", "localize", "--mosaic", 0.5
    )
    assert done.code == 2
    assert "--mosaic is for yolo" in done.err
    assert done.err.count("dlkit: ") == 1


ON_A_BACKBONE = ["ssd", "yolo-v1", "retinanet", "fcos", "fasterrcnn"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ON_A_BACKBONE)
def test_an_architecture_trains_and_is_used(
    arch: str, handful: Path, narrow: Path, tmp_path: Path
) -> None:
    done = run(
        "detect", "train", handful, "--out", tmp_path / "run", "--arch", arch, "--backbone", narrow,
        "--epochs", 1, "--image-size", 64, "--batch-size", 4, "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    scene(20)[0].crop((0, 0, 96, 60)).save(tmp_path / "a.png")
    found = run("detect", tmp_path / "a.png", "-m", done.out.strip(), "--threshold", 0)
    assert found.code == 0, found.err
    for line in found.out.splitlines():
        x1, y1, x2, y2 = (float(value) for value in line.split("\t")[3:])
        assert 0 <= x1 <= x2 <= 96
        assert 0 <= y1 <= y2 <= 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch fast-rcnn --size nano", "--size is for yolo, not fast-rcnn"),
        ("--arch rcnn --backbone digits", "1-channel"),
        (
            "--arch fasterrcnn --no-pretrained-backbone",
            "--no-pretrained-backbone: needs a --backbone",
        ),
    ],
)
def test_options_of_classifiers_of_regions_that_do_not_fit(
    shapes: Path, tmp_path: Path, options: str, message: str
) -> None:
    done = run("detect", "train", shapes, "--out", tmp_path / "run", *options.split())
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1
