"""YOLO v1 against its paper."""

from typing import Any

import pytest
import torch

from dlkit.detect.losses.yolo_v1 import assign_targets, yolo_v1_losses
from dlkit.detect.models.yolo_v1 import Cells, corners, pad_to_square
from dlkit.detect.options import Suppression
from tests.conftest import NARROW
from tests.detect.helpers import NO_IMAGES, Says, build


def cells_of(num_labels: int = 3, **boxes: Any) -> Cells:
    """Cells that say zero."""
    return Cells(
        torch.zeros(1, 7, 7, 2, 4), torch.zeros(1, 7, 7, 2), torch.zeros(1, 7, 7, num_labels)
    )


def test_the_cell_of_the_center_is_responsible() -> None:
    cells = cells_of()
    # The second box of cell (row 3, column 1) is the object's; the first overlaps it less.
    cells.boxes[0, 3, 1, 0] = torch.tensor([0.5, 0.5, 0.3, 0.3])
    cells.boxes[0, 3, 1, 1] = torch.tensor([0.5, 0.5, 0.5, 0.6])
    box = [1.5 / 7 - 0.125, 3.5 / 7 - 0.18, 1.5 / 7 + 0.125, 3.5 / 7 + 0.18]
    targets = assign_targets(cells, torch.tensor([[box, [0.0, 0, 0, 0]]]), torch.tensor([[2, -1]]))
    assert targets.responsible.nonzero().tolist() == [[0, 3, 1, 1]]
    assert (targets.labels >= 0).nonzero().tolist() == [[0, 3, 1]]
    assert int(targets.labels[0, 3, 1]) == 2
    expected = [0.5, 0.5, 0.25**0.5, 0.36**0.5]
    assert targets.boxes[0, 3, 1].tolist() == pytest.approx(expected, abs=1e-5)
    overlaps = [0.09 * 0.09 / (0.25 * 0.36), 1.0]
    assert targets.overlap[0, 3, 1].tolist() == pytest.approx(overlaps, abs=1e-4)


def test_of_two_objects_in_a_cell_the_larger_is_its_own() -> None:
    small, large = [0.48, 0.48, 0.52, 0.52], [0.3, 0.3, 0.72, 0.72]
    for order in ([small, large], [large, small]):
        labels = torch.tensor([[order.index(small), order.index(large)]])
        labels = torch.tensor([[0 if box is small else 1 for box in order]])
        targets = assign_targets(cells_of(), torch.tensor([order]), labels)
        assert int(targets.labels[0, 3, 3]) == 1
        assert int(targets.responsible.sum()) == 1


def test_an_object_at_the_far_corner_has_a_cell() -> None:
    targets = assign_targets(cells_of(), torch.tensor([[[1.0, 1, 1, 1]]]), torch.tensor([[0]]))
    assert (targets.labels >= 0).nonzero().tolist() == [[0, 6, 6]]


def test_yolo_v1_losses_by_hand() -> None:
    cells = cells_of()
    cells.confidence.fill_(0.5)
    cells.labels.fill_(0.25)
    # In the middle of an image of 100 x 100: x and y are half a cell; 36 wide, 64 high.
    truth = torch.tensor([[[32.0, 18, 68, 82]]])
    losses = yolo_v1_losses(Says(cells), NO_IMAGES, truth, torch.tensor([[1]]))
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
        {
            "centers": 5 * (0.5**2 + 0.5**2),
            "sizes": 5 * (0.6**2 + 0.8**2),  # of the roots
            "objects": 0.5**2,  # its goal is the IoU, and the box of no size has none
            "background": 0.5 * 97 * 0.5**2,
            "labels": 0.75**2 + 2 * 0.25**2,  # of the one cell with an object
        },
        rel=1e-4,
    )


def test_yolo_v1_reads_boxes_as_its_targets_are_written() -> None:
    torch.manual_seed(0)
    lefts = torch.rand(1, 20, 2) * 0.6
    boxes = torch.cat([lefts, lefts + 0.05 + 0.3 * torch.rand(1, 20, 2)], dim=2)
    targets = assign_targets(cells_of(), boxes, torch.arange(20)[None])
    read = corners(targets.boxes[..., None, :])[:, :, :, 0]
    own = targets.labels >= 0
    assert own.sum() > 10
    assert torch.allclose(read[own], boxes[0, targets.labels[own]], atol=1e-5)


def test_yolo_v1_scores_are_products() -> None:
    network = build("yolo-v1", num_labels=3, image_size=64, backbone=NARROW).eval()
    cells = cells_of()
    cells.boxes[0, 2, 5, 1] = torch.tensor([0.5, 0.5, 0.5, 0.6])
    cells.confidence[0, 2, 5, 1] = 0.8
    cells.labels[0, 2, 5] = torch.tensor([0.5, 0.25, -0.3])
    network.forward = Says(cells).forward
    (found,) = network.predict(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), 0.1, Suppression(), 9)
    assert found.scores.tolist() == pytest.approx([0.4, 0.2])
    assert found.labels.tolist() == [0, 1]
    x, y = 5.5 / 7, 2.5 / 7
    expected = [x - 0.125, y - 0.18, x + 0.125, y + 0.18]
    assert found.boxes[0].tolist() == pytest.approx([96 * v for v in expected], abs=1e-3)


def test_yolo_v1_sees_a_square() -> None:
    image = torch.full((1, 3, 96, 192), 200, dtype=torch.uint8)
    square = pad_to_square(image, 64)
    assert square.shape == (1, 3, 64, 64)
    assert torch.allclose(square[:, :, :30], torch.tensor(200.0))
    assert torch.allclose(square[:, :, 34:], torch.tensor(114.0))
    assert build("yolo-v1", num_labels=1, image_size=256, backbone=NARROW).side == 224
    assert build("yolo-v1", num_labels=1, image_size=416, backbone=NARROW).side == 448
