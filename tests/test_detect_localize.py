"""Classification with localization: the largest object of an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dlkit.core.store import checkpoint
from dlkit.detect.losses.localize import localize_losses
from dlkit.detect.models.localize import LocalizerOutput
from dlkit.detect.options import Suppression
from tests.conftest import run, voc_xml
from tests.detect.helpers import build
from tests.test_detect import NARROW


class Fixed(torch.nn.Module):
    """A network that always answers the same."""

    def __init__(self, labels: torch.Tensor, boxes: torch.Tensor) -> None:
        super().__init__()
        self.answer = LocalizerOutput(labels, boxes)

    def forward(self, images: torch.Tensor) -> LocalizerOutput:
        return self.answer


def test_the_multitask_loss_by_hand() -> None:
    """Two objects of which the second is larger; an image without any counts nothing."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [8, 16, 56, 64]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 1], [-1, -1]])
    said = torch.tensor([[0.125, 0.25, 0.875, 0.5], [9.0, 9, 9, 9]])
    images = torch.zeros(2, 3, 64, 64)
    network = Fixed(torch.tensor([[0.0, np.log(3)], [50.0, -50.0]]), said)
    losses = localize_losses(network, images, boxes, labels, alpha=0.7)
    # The box is 1/8, 1/4, 7/8, 1 of the side, its label has three quarters.
    assert float(losses["labels"]) == pytest.approx(0.7 * np.log(4 / 3), rel=1e-5)
    assert float(losses["boxes"]) == pytest.approx(0.3 * 0.25, rel=1e-5)
    nothing = localize_losses(network, images, boxes, labels * 0 - 1, alpha=0.7)
    assert [float(loss) for loss in nothing.values()] == [0, 0]


def test_one_object_an_image_of_any_shape_in_its_pixels() -> None:
    network = build("localize", num_labels=3, image_size=64, backbone=NARROW).eval()
    with torch.no_grad():
        network.head[-1].weight.zero_()
        network.head[-1].bias.copy_(torch.tensor([0.0, 2.0, 0.0, 0.25, 0.125, 0.75, 0.5]))
    images = torch.zeros(2, 3, 96, 160, dtype=torch.uint8)
    for found in network.predict(images, 0.5, Suppression(), 10):
        assert found.boxes.tolist() == [[40, 20, 120, 80]]
        assert found.labels.tolist() == [1]
        assert float(found.scores) == pytest.approx(np.exp(2) / (np.exp(2) + 2), rel=1e-5)
    assert [len(f.boxes) for f in network.predict(images, 0.99, Suppression(), 10)] == [0, 0]


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One square or disc an image."""
    root = tmp_path / "single"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, seeds in {"train": range(24), "val": range(24, 32)}.items():
        for seed in seeds:
            rng = np.random.default_rng(seed)
            image = Image.fromarray(rng.integers(0, 60, (64, 64, 3), dtype=np.uint8))
            x, y = (int(v) for v in rng.integers(2, 30, 2))
            box = (x, y, x + 30, y + 30)
            draw = ImageDraw.Draw(image)
            corners = (x, y, x + 29, y + 29)
            if seed % 2:
                draw.rectangle(corners, fill=(255, 60, 40))
            else:
                draw.ellipse(corners, fill=(60, 120, 255))
            image.save(root / "JPEGImages" / f"{seed}.png")
            label = "square" if seed % 2 else "disc"
            (root / "Annotations" / f"{seed}.xml").write_text(voc_xml([(label, box)]))
        lines = "".join(f"{seed}\n" for seed in seeds) * (4 if split == "train" else 1)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(lines)
    return root


def test_it_learns_where_and_what(single: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", single, "--out", tmp_path / "run", "--arch", "localize",
        "--image-size", 64, "--epochs", 4, "--lr", 0.002, "--batch-size", 8, "--workers",
        0, "--device", "cpu", "--ema", 0, "--zoom", 1.1, "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert checkpoint.read_header(best).metrics["ap50_coco101"] > 0.5
    found = run("detect", single / "JPEGImages" / "24.png", "-m", best)
    assert [line.split("\t")[1] for line in found.out.splitlines()] == ["disc"]


def test_it_refuses_pictures_made_of_several(single: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", single, "--out", tmp_path / "run", "--arch", "localize", "--mosaic", 0.5
    )
    assert done.code == 2
    assert "--mosaic is for yolo" in done.err
    assert len(done.err.strip().splitlines()) == 1
