"""SSD against its paper."""

import pytest
import torch

from dlkit.detect.boxes import iou
from dlkit.detect.losses.ssd import hard_negatives, match, ssd_losses
from dlkit.detect.models.ssd import DefaultBoxes, default_boxes
from dlkit.detect.options import Suppression
from tests.conftest import NARROW
from tests.detect.helpers import NO_IMAGES, Says, build

PAPERS_MAPS = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]


def test_default_boxes_are_those_of_the_paper() -> None:
    boxes = default_boxes(PAPERS_MAPS, (300, 300), 300)
    assert len(boxes) == 8732  # Liu et al. 2016, table 7: SSD300
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    cell = 300 / 38
    assert centers[0].tolist() == pytest.approx([cell / 2, cell / 2], abs=1e-3)
    assert centers[4].tolist() == pytest.approx([1.5 * cell, cell / 2], abs=1e-3)  # along the row
    assert centers[4 * 38].tolist() == pytest.approx([cell / 2, 1.5 * cell], abs=1e-3)
    assert centers[-4:].tolist() == [[150, 150]] * 4
    assert sizes[0].tolist() == pytest.approx([30, 30], abs=1e-3)
    assert sizes[1].tolist() == pytest.approx([300 * (0.1 * 0.2) ** 0.5] * 2, abs=1e-3)
    second = sizes[4 * 38 * 38 :][:6]
    assert second[0].tolist() == pytest.approx([60, 60], abs=1e-3)
    # For a ratio r, width = s sqrt(r) and height = s / sqrt(r): all of the same area.
    assert (second[2:, 0] / second[2:, 1]).tolist() == pytest.approx([2, 1 / 2, 3, 1 / 3])
    assert second[2:].prod(dim=1).tolist() == pytest.approx([3600] * 4, rel=1e-4)
    assert sizes[-4].tolist() == pytest.approx([270, 270], abs=1e-2)


def test_default_boxes_keep_their_pixels_in_wide_images() -> None:
    maps = [(2, 4), *[(1, 1)] * 5]
    boxes = default_boxes(maps, (50, 100), 300)[: 4 * 8]
    assert ((boxes[:, :2] + boxes[:, 2:]) / 2)[::4].tolist() == [
        [12.5, 12.5], [37.5, 12.5], [62.5, 12.5], [87.5, 12.5],
        [12.5, 37.5], [37.5, 37.5], [62.5, 37.5], [87.5, 37.5],
    ]  # fmt: skip
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == pytest.approx([30, 30])


def test_every_object_takes_a_box_and_close_boxes_take_an_object() -> None:
    """Both objects overlap the first box most; the first overlaps it more, and the second has to
    take what it overlaps next, however little. The second box is like the first object."""
    defaults = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [8, 8, 18, 18], [50, 50, 60, 60]])
    boxes = torch.tensor([[[0.0, 0, 10, 9.5], [5, 8.2, 10, 10.2], [0, 0, 0, 0]]])
    assert match(defaults, boxes, torch.tensor([[5, 6, -1]])).tolist() == [[0, 0, 1, -1]]
    alone = match(defaults, boxes, torch.tensor([[-1, -1, -1]]))
    assert alone.tolist() == [[-1, -1, -1, -1]]
    beyond = torch.tensor([[[90.0, 90, 99, 99]]])
    assert match(defaults, beyond, torch.tensor([[0]])).tolist() == [[-1, -1, -1, -1]]


def test_matching_by_brute_force() -> None:
    torch.manual_seed(0)
    corners_of = torch.rand(3, 6, 2) * 60
    boxes = torch.cat([corners_of, corners_of + 8 + torch.rand(3, 6, 2) * 30], dim=2)
    labels = torch.tensor([[0] * 6, [0] * 3 + [-1] * 3, [0, -1, 0, -1, 0, -1]])
    defaults = default_boxes([(8, 8), (4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], (96, 96), 96)
    for own, present, found in zip(boxes, labels, match(defaults, boxes, labels), strict=True):
        overlaps = iou(own[:, None], defaults)
        expected = [-1] * len(defaults)
        for a in range(len(defaults)):
            values = {n: float(overlaps[n, a]) for n in range(6) if present[n] >= 0}
            best = max(values, key=lambda n: values[n])
            if values[best] > 0.5:
                expected[a] = best
        pairs = [(float(overlaps[n, a]), n, a) for n in range(6) for a in range(len(defaults))]
        objects, taken = set(), set()
        for _, n, a in sorted(pairs, reverse=True):
            if present[n] >= 0 and n not in objects and a not in taken:
                objects.add(n)
                taken.add(a)
                expected[a] = n
        assert found.tolist() == expected


def test_three_hard_negatives_for_each_positive() -> None:
    losses = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3, 0.8], [1, 2, 3, 4, 5, 6]])
    positive = torch.tensor([[True, False, False, False, False, False], [False] * 6])
    assert hard_negatives(losses, positive).tolist() == [
        [False, True, False, True, False, True],
        [False] * 6,
    ]


def test_ssd_losses_by_hand() -> None:
    defaults = torch.tensor([[0.0, 0, 20, 10], *[[60.0 + i, 60, 70 + i, 70] for i in range(9)]])
    said = DefaultBoxes(torch.zeros(1, 10, 3), torch.zeros(1, 10, 4), defaults)
    # One pixel to the right of a box 20 wide, whose offset is thus 0.05, by the variance 0.5.
    truth = torch.tensor([[[1.0, 0, 21, 10]]])
    losses = ssd_losses(Says(said), NO_IMAGES, truth, torch.tensor([[1]]))
    assert float(losses["boxes"]) == pytest.approx(0.5 * 0.5**2, rel=1e-4)
    assert float(losses["labels"]) == pytest.approx(4 * 1.0986123, rel=1e-5)  # ln 3 each
    losses = ssd_losses(Says(said), NO_IMAGES, truth, torch.tensor([[-1]]))
    assert float(losses["boxes"]) == float(losses["labels"]) == 0


def test_ssd_finds_the_box_that_its_loss_asks_for() -> None:
    """Offsets that bring the loss to zero are read back as the truth."""
    torch.manual_seed(0)
    network = build("ssd", num_labels=2, image_size=64, backbone=NARROW).eval()
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        said = network(images)
    offsets = torch.zeros_like(said.offsets).requires_grad_()
    truth, labels = torch.tensor([[[10.0, 12, 50, 40]]]), torch.tensor([[1]])
    logits = torch.zeros_like(said.logits)
    logits[..., 0] = 20
    responsible = int((match(said.defaults, truth, labels)[0] >= 0).nonzero()[0])
    logits[0, responsible] = torch.tensor([0.0, 0, 20])
    optimizer = torch.optim.SGD([offsets], lr=0.5)
    for _ in range(80):
        answer = DefaultBoxes(logits, offsets, said.defaults)
        losses = ssd_losses(Says(answer), images, truth, labels)
        optimizer.zero_grad()
        losses["boxes"].backward()
        optimizer.step()
    network.forward = Says(DefaultBoxes(logits, offsets.detach(), said.defaults)).forward
    (found,) = network.predict(images, 0.5, Suppression(), 10)
    assert found.labels.tolist() == [1]
    assert torch.allclose(found.boxes, truth[0], atol=0.1)


def test_ssd_learns_from_one_image_at_a_time() -> None:
    """Its last maps have one place; together with another image they are as ever."""
    torch.manual_seed(0)
    network = build("ssd", num_labels=2, image_size=64, backbone=NARROW).train()
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    network(images).logits.square().sum().backward()
    grads = [parameter.grad for parameter in network.extras.parameters()]
    assert all(grad is not None and grad.isfinite().all() and grad.any() for grad in grads)
    last = network.extras[-1][1][1]
    assert int(last.num_batches_tracked) == 0
    network(images.repeat(2, 1, 1, 1))
    assert int(last.num_batches_tracked) == 1
