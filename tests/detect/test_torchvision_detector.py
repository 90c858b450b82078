"""torchvision's detectors."""

import torch
from torch import nn

from dlkit.detect.options import Suppression
from tests.conftest import NARROW
from tests.detect.helpers import build


def test_fcos_begins_with_boxes_that_overlap_objects() -> None:
    """Boxes without a size have a generalized IoU of 0 at most, and so a loss of 1 or more."""
    torch.manual_seed(0)
    network = build("fcos", num_labels=2, backbone=NARROW)
    images = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    boxes = torch.tensor([[[20.0, 20, 64, 64]], [[30, 40, 110, 120]]])
    losses = network(images, boxes, torch.tensor([[0], [1]]))
    assert losses["bbox_regression"].item() < 0.8


def test_boxes_are_exact_in_bf16() -> None:
    """A bf16 number has eight bits: beyond 256 only every second pixel."""
    torch.manual_seed(0)
    network = build("retinanet", num_labels=1, backbone=NARROW).eval()
    head = network.network.head
    for layer in (head.classification_head.cls_logits, head.regression_head.bbox_reg):
        nn.init.zeros_(layer.weight)
    images = torch.zeros(1, 3, 384, 384, dtype=torch.uint8)
    (exact,) = network.predict(images, 0.001, Suppression(), 5000)
    network.prepare(torch.bfloat16)
    (found,) = network.predict(images, 0.001, Suppression(), 5000)
    assert torch.equal(found.boxes, exact.boxes)
    assert (exact.boxes % 2 == 1).any()
