"""Keypoints: `dlkit detect train --arch localize --keypoints K`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.keypoint_data import KeypointDataset, KeypointSample, read_keypoints
from dlkit.detect.keypoints import distances
from dlkit.detect.losses.localize import keypoint_losses
from tests.conftest import run

NAN = float("nan")


class Fixed(torch.nn.Module):
    """A network that always answers the same."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_the_loss_by_hand() -> None:
    """Three of four keypoints are annotated, and off by 0.5, 0 and 0.25 of the side."""
    said = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.0, 0.25], [9.0, 9.0]]])
    truth = torch.tensor([[[32.0, 0.0], [16, 48]], [[0, 0], [NAN, NAN]]])
    losses = keypoint_losses(Fixed(said), torch.zeros(2, 3, 64, 64), truth)
    assert float(losses["keypoints"]) == pytest.approx((0.25 + 0.0625) / 3)
    nothing = keypoint_losses(Fixed(said), torch.zeros(2, 3, 64, 64), truth * NAN)
    assert float(nothing["keypoints"]) == 0


def test_distances_by_hand() -> None:
    """In an image 100 wide, keypoints 40 apart: off by 3, 5 and unknown; then one alone."""
    truth = np.array([[[10.0, 10], [50, 20], [NAN, NAN]], [[8, 8], [NAN, NAN], [NAN, NAN]]])
    points = truth + np.array([[[3.0, 0], [3, -4], [1, 1]], [[0, 20], [0, 0], [0, 0]]])
    found = distances(points, truth, np.array([[100, 60], [40, 200]]))
    assert found.of_image[0, :2].tolist() == pytest.approx([0.03, 0.05])
    assert found.of_object[0, :2].tolist() == pytest.approx([3 / 40, 5 / 40])
    assert found.scores() == pytest.approx({"distance": (0.03 + 0.05 + 0.1) / 3, "pck_0.1": 0.5})
    first, second, third = (own.scores() for own in found.each())
    assert first == pytest.approx({"distance": (0.03 + 0.1) / 2, "pck_0.1": 1.0})
    assert second == pytest.approx({"distance": 0.05, "pck_0.1": 0.0})
    assert np.isnan([*third.values()]).all()


def test_keypoints_move_with_their_pictures(tmp_path: Path) -> None:
    """A spot at the first keypoint is where the keypoint is said to be, after all changes."""
    image = Image.new("RGB", (120, 80))
    ImageDraw.Draw(image).ellipse((26, 46, 34, 54), fill="white")
    image.save(tmp_path / "a.png")
    points = np.array([[30.5, 50.5], [119, 79], [NAN, NAN]], np.float32)
    config = DetectTrainConfig(data=tmp_path, image_size=96, zoom=2.0, color_jitter=0)
    pictures = KeypointDataset([KeypointSample(tmp_path / "a.png", 120, 80, points)], config)
    unseen = 0
    for _ in range(20):
        pixels, moved = pictures[0]
        assert moved[2].isnan().all()
        unseen += int(moved[1].isnan().any())
        y, x = np.nonzero((pixels[0] > 200).numpy())
        # At the border, only a part of the spot is seen.
        if len(x) and not moved[0].isnan().any() and min(moved[0]) > 8 and max(moved[0]) < 88:
            assert moved[0].tolist() == pytest.approx([x.mean() + 0.5, y.mean() + 0.5], abs=1)
        else:
            unseen += 1
    assert 0 < unseen < 20


CORNERS = "file,x1,y1,x2,y2,x3,y3"


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright rectangle an image; its keypoints are three corners, some not annotated."""
    root = tmp_path_factory.mktemp("keypoints")
    (root / "images").mkdir()
    for split, seeds in {"train": range(40), "val": range(40, 48), "test": range(48, 56)}.items():
        lines = [CORNERS]
        for seed in seeds:
            rng = np.random.default_rng(seed)
            image = Image.fromarray(rng.integers(0, 60, (64, 64, 3), dtype=np.uint8))
            left, top = (int(v) for v in rng.integers(2, 30, 2))
            right, bottom = left + int(rng.integers(16, 32)), top + int(rng.integers(16, 32))
            box = (left, top, right - 1, bottom - 1)
            ImageDraw.Draw(image).rectangle(box, fill=(255, 60, 40))
            image.save(root / "images" / f"{seed}.png")
            fields = [left, top, right, top, right, bottom]
            texts = [*map(str, fields)]
            if split == "train" and seed % 4 == 0:
                texts[2:4] = ["", ""]
            lines.append(",".join([f"images/{seed}.png", *texts]))
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def test_it_learns_where_the_corners_are(corners: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", corners, "--out", tmp_path / "run", "--arch", "localize",
        "--keypoints", 3, "--image-size", 64, "--epochs", 8, "--lr", 0.003, "--batch-size", 8,
        "--workers", 0, "--device", "cpu", "--ema", 0, "--zoom", 1.1, "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "examples.png").exists()
    best = done.out.strip()

    printed = run("detect", "evaluate", corners, "-m", best, "-f", "json", "--save", tmp_path / "s")
    values = {(r["metric"], r["label"]): r["value"] for r in json.loads(printed.out)}
    assert values["truths", "all"] == 24
    assert (tmp_path / "s" / "pck.png").exists()
    # The best that can be said without a look at the picture is where corners are on average.
    training, _ = read_keypoints(corners, "train", 3)
    testing, _ = read_keypoints(corners, "test", 3)
    mean = np.nanmean([sample.points for sample in training], axis=0)
    blind = np.mean([np.linalg.norm(sample.points - mean, axis=1) for sample in testing]) / 64
    assert values["distance", "all"] < 0.7 * blind

    image = corners / "images" / "50.png"
    found = run("detect", image, "-m", best, "-f", "json", "--save", tmp_path / "drawn")
    [record] = json.loads(found.out)
    assert [point["keypoint"] for point in record["keypoints"]] == [1, 2, 3]
    assert (record["width"], record["height"]) == (64, 64)
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "50.png"))
    changed = (drawn != np.asarray(Image.open(image))).any(axis=2)
    for point in record["keypoints"]:
        assert changed[min(int(point["y"]), 63), min(int(point["x"]), 63)]
    rows = [line.split("\t") for line in run("detect", image, "-m", best).out.splitlines()]
    assert [row[1] for row in rows] == ["1", "2", "3"]

    for options in ("--threshold 0.5", "--tta", "--count", "--image-size 96", "-f coco"):
        refused = run("detect", image, "-m", best, *options.split())
        assert refused.code == 2
        assert "finds keypoints of images" in refused.err
        assert len(refused.err.strip().splitlines()) == 1


def test_what_is_no_keypoint_is_left_out_and_named(
    corners: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    rows = [CORNERS, "a.png,1,2,64,48,,", "a.png,65,2,1,x,nan,3", "gone.png,1,2,3,4,5,6"]
    (tmp_path / "val.csv").write_text("\n".join(rows))
    samples, skipped = read_keypoints(tmp_path, "val", 3)
    expected = np.array([[[1, 2], [64, 48], [NAN, NAN]], [[NAN, NAN]] * 3])
    found = np.array([sample.points for sample in samples])
    assert np.array_equal(found, expected, equal_nan=True)
    where = f"{tmp_path / 'val.csv'}:3: keypoint"
    assert skipped.places == {
        "keypoint outside the image": [f"{where} 1", f"{where} 3"],
        "keypoint that is not two numbers": [f"{where} 2"],
        "missing image": [str(tmp_path / "gone.png")],
    }
    assert "gone.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--keypoints 2", "train.csv: has more than 2 keypoints"),
        ("--keypoints 4", "train.csv: no column named x4"),
        ("--keypoints 3 --alpha 0.4", "--alpha is for boxes, not for --keypoints"),
        ("--keypoints 3 --flip 0.2", "--flip is for boxes"),
        ("--keypoints 3 --arch ssd", "--keypoints is for localize, not ssd"),
        ("--keypoints 3 --mosaic 0.5", "--mosaic is for yolo"),
    ],
)
def test_options_that_do_not_fit(corners: Path, tmp_path: Path, options: str, message: str) -> None:
    done = run(
        "detect", "train", corners, "--out", tmp_path / "run", "--arch", "localize",
        *options.split(),
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_data_without_keypoints_says_what_is_missing(shapes: Path, tmp_path: Path) -> None:
    command = ["--out", tmp_path / "run", "--arch", "localize", "--keypoints", 3]
    done = run("detect", "train", shapes, *command)
    assert done.code == 2
    assert "no train.csv" in done.err
    (tmp_path / "train.csv").write_text(f"{CORNERS}\ngone.png,1,2,3,4,5,6\n")
    done = run("detect", "train", tmp_path, *command)
    assert done.code == 2
    assert "no readable image has a keypoint (missing image: " in done.err
    assert len(done.err.strip().splitlines()) == 1
