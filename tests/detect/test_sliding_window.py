"""The sliding window, and its convolutional form."""

import pytest
import torch

from dlkit.detect.losses.sliding_window import (
    choose_window_size,
    label_windows,
    sliding_window_losses,
)
from dlkit.detect.models.sliding_window import CROP, STRIDE, WINDOW, windows
from tests.conftest import NARROW
from tests.detect.helpers import build


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (50, 50)], ids=["wide", "square"])
def test_in_one_pass_as_window_by_window(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = build("sliding-window", num_labels=3, backbone=NARROW)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features) * 0.1
            module.bias = torch.nn.Parameter(torch.rand(module.num_features))
    network.eval()
    images = torch.randint(0, 255, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        at_once = network(images, 60.0, 45.0)
        network.by_cropping = True
        each = network(images, 60.0, 45.0)
    assert at_once.shape == each.shape == (2, *windows(images, 60.0, 45.0).shape[:2], 4)
    assert each.flatten(0, 2).std(dim=0).min() > 1e-3
    assert torch.allclose(at_once, each, atol=1e-5)


def test_a_window_is_what_the_classifier_looks_at() -> None:
    """Change the pixels of one window: its logits change most, and far windows' not at all."""
    torch.manual_seed(0)
    network = build("sliding-window", num_labels=2, backbone=NARROW).eval()
    images = torch.full((1, 3, 96, 384), 100, dtype=torch.uint8)
    boxes = windows(images, 48.0, 48.0)
    assert boxes.shape == (15, 57, 4)
    # Centers are a stride apart, in the image as scaled by 112 / 48.
    assert float(boxes[0, 1, 0] - boxes[0, 0, 0]) == pytest.approx(STRIDE * 48 / WINDOW)
    x1, y1, x2, y2 = (round(value) for value in boxes[7, 10].tolist())
    changed = images.clone()
    changed[:, :, max(y1, 0) : y2, x1:x2] = torch.randint(0, 255, (y2 - max(y1, 0), x2 - x1))
    with torch.no_grad():
        moved = (network(changed, 48.0, 48.0) - network(images, 48.0, 48.0)).norm(dim=-1)[0]
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert abs(row - 7) <= 2
    assert abs(column - 10) <= 2
    reach = (CROP + WINDOW) / 2 * 48 / WINDOW  # between the centers of windows that share a pixel
    far = (boxes[..., 0] - boxes[7, 10, 0]).abs() > reach
    assert far.any()
    assert moved[far].max() < 1e-5


def test_windows_are_of_the_size_of_an_object() -> None:
    """Of 12 sizes: four sides, as shares of 100 pixels, in three shapes."""
    images = torch.zeros(1, 3, 80, 100, dtype=torch.uint8)
    assert choose_window_size(images, torch.tensor([[10.0, 0, 62, 49]])) == pytest.approx((50, 50))
    wide = torch.tensor([[0.0, 20, 100, 66]])
    assert choose_window_size(images, wide) == pytest.approx((70 * 2**0.5, 70 / 2**0.5))
    assert len({choose_window_size(images, torch.zeros(0, 4)) for _ in range(50)}) > 4


def test_windows_that_show_an_object() -> None:
    boxes = torch.tensor([[[0.0, 0, 40, 40], [60, 0, 100, 40]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    labels = torch.tensor([[1, 0], [-1, -1]])
    seen = torch.tensor([[0.0, 0, 40, 30], [60, 0, 100, 18], [60, 0, 100, 15], [0, 60, 40, 90]])
    assert label_windows(seen, boxes, labels).tolist() == [[2, -1, 0, 0], [0, 0, 0, 0]]


class Even(torch.nn.Module):
    """A network for which all labels are as likely, and that counts its windows."""

    def forward(self, images: torch.Tensor, width: float, height: float) -> torch.Tensor:
        shape = windows(images, width, height).shape[:2]
        return torch.zeros(len(images), *shape, 4)


def test_the_loss_by_hand() -> None:
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    nothing = torch.zeros(2, 1, 4), torch.full((2, 1), -1)
    ln4 = 1.3862944
    assert float(sliding_window_losses(Even(), images, *nothing)["labels"]) == pytest.approx(ln4)
