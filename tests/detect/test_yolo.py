"""YOLO: cells, assignment, losses, distillation, fusion."""

import pytest
import torch
from torch import nn

from dlkit.classify import backbones
from dlkit.detect.boxes import complete_iou
from dlkit.detect.losses.yolo import assign, distillation_losses, yolo_losses
from dlkit.detect.models.yolo import Grids, cell_centers
from tests.conftest import NARROW
from tests.detect.helpers import Says, build


def test_cell_centers() -> None:
    assert cell_centers(2, 3, 8, torch.device("cpu")).tolist() == [
        [4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12],
    ]  # fmt: skip


def grids_of(boxes: torch.Tensor, confidence: list[float], labels: torch.Tensor) -> Grids:
    """One image of four cells of 16 pixels in a 32 x 32 picture."""
    centers = cell_centers(2, 2, 16, torch.device("cpu"))
    return Grids(boxes[None], torch.tensor([confidence]), labels[None], centers)


def test_a_cell_answers_for_the_object_it_overlaps_most() -> None:
    """Object 0 covers the picture, object 1 its upper left cell, object 2 is padding."""
    truth = torch.tensor([[[0.0, 0, 32, 32], [0, 0, 16, 16], [0, 0, 0, 0]]])
    predicted = torch.tensor(
        [[0.0, 0, 16, 16], [0, 0, 32, 32], [0, 0, 32, 16], [100, 100, 110, 110]]
    )
    grids = grids_of(predicted, [0.0, 0.0, 0.0, 0.0], torch.zeros(4, 2))
    assignment = assign(grids, truth, torch.tensor([[0, 1, -1]]))
    # The last cell's box misses everything, so its target is zero though its center is inside.
    assert assignment.responsible[0, :3].tolist() == [True, True, True]
    assert assignment.objects[0, :3].tolist() == [1, 0, 0]
    # Alignment is score * IoU^6: the best cell of each object gets its IoU, the third 0.5^6 of it.
    assert assignment.confidence[0].tolist() == pytest.approx([1, 1, 0.5**6, 0], abs=1e-6)


def test_nothing_in_the_picture_is_background_everywhere() -> None:
    grids = grids_of(torch.zeros(4, 4), [0.0] * 4, torch.zeros(4, 2))
    assignment = assign(grids, torch.zeros(1, 1, 4), torch.tensor([[-1]]))
    assert not assignment.responsible.any()
    assert not assignment.confidence.any()


def test_losses_by_hand() -> None:
    box = [0.0, 0, 16, 16]
    predicted = torch.tensor([box, [90.0, 90, 99, 99], [90, 90, 99, 99], [90, 90, 99, 99]])
    labels = torch.tensor([[0.0, 0.0]] * 4)
    grids = grids_of(predicted, [0.0] * 4, labels)
    losses = yolo_losses(
        Says(grids), torch.zeros(1, 3, 32, 32), torch.tensor([[box]]), torch.tensor([[1]])
    )
    ln2 = 0.6931472
    # One cell has the target 1 and three have 0, all at probability 1/2; the box is perfect;
    # two labels at even odds cost ln 2 with any smoothing.
    assert float(losses["confidence"]) == pytest.approx(4 * ln2, rel=1e-5)
    assert float(losses["boxes"]) == pytest.approx(0, abs=1e-4)
    assert float(losses["labels"]) == pytest.approx(ln2, rel=1e-5)


def test_a_teacher_is_learned_from_where_it_is_sure() -> None:
    ln2 = 0.6931472
    box, other = [0.0, 0, 16, 16], [90.0, 90, 99, 99]
    sure = [50.0, -50.0, -50.0, -50.0]  # of its first cell, and of no other
    taught = grids_of(torch.tensor([box] * 4), sure, torch.tensor([[50.0, 0]] * 4))
    same = distillation_losses(taught, taught)
    assert [float(loss) for loss in same.values()] == pytest.approx([0, 0, 0], abs=1e-4)
    # Even odds cost ln 2 in each cell; boxes and labels of the first cell alone count.
    grids = grids_of(torch.tensor([box, other, other, other]), [0.0] * 4, torch.zeros(4, 2))
    losses = distillation_losses(grids, taught)
    assert float(losses["teacher_confidence"]) == pytest.approx(4 * ln2, rel=1e-5)
    assert float(losses["teacher_boxes"]) == pytest.approx(0, abs=1e-4)
    assert float(losses["teacher_labels"]) == pytest.approx(ln2, rel=1e-5)
    grids = grids_of(torch.tensor([other, box, box, box]), [0.0] * 4, torch.zeros(4, 2))
    far = 2.5 * (1 - float(complete_iou(torch.tensor(other), torch.tensor(box))))
    assert float(distillation_losses(grids, taught)["teacher_boxes"]) == pytest.approx(far)


def test_prepared_for_inference_the_network_says_the_same() -> None:
    torch.manual_seed(0)
    network = build("yolo", num_labels=3, size="nano")
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    network.train()(images)  # norms with statistics of their own
    network.eval()
    with torch.inference_mode():
        before = network(images)
        network.prepare(torch.float32)
        after = network(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(before.boxes, after.boxes, atol=1e-2)
    assert torch.allclose(before.confidence, after.confidence, atol=1e-3)


def test_yolo_on_a_backbone_of_dlkit_classify() -> None:
    torch.manual_seed(0)
    network = build("yolo", num_labels=2, size="nano", backbone=NARROW).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    backbone = backbones.build(NARROW).eval()
    backbone.load_state_dict(network.backbone.state_dict())
    mean = 255 * torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    std = 255 * torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        own = network.first_maps(images)
        expected = backbone((images - mean) / std)[-3:]
        before = network(images)
        network.prepare(torch.float32)
        after = network(images)
    assert [tuple(m.shape) for m in own] == [(2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(own, expected, strict=True))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(before.boxes, after.boxes, atol=1e-2)
