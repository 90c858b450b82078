"""SSD and YOLO v1 against their papers, and torchvision's detectors in dlkit's hands."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlkit.detect.boxes import iou
from dlkit.detect.losses.ssd import hard_negatives, match, ssd_losses
from dlkit.detect.losses.yolo_v1 import assign_targets, yolo_v1_losses
from dlkit.detect.models.detector import pad_narrow_maps
from dlkit.detect.models.ssd import DefaultBoxes, default_boxes
from dlkit.detect.models.yolo_v1 import Cells, corners, pad_to_square
from dlkit.detect.options import Suppression
from tests.conftest import NARROW, run, scene
from tests.detect.helpers import build

NO_IMAGES = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)


class Says(nn.Module):
    """A network that always answers the same."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer


# ---- SSD -----------------------------------------------------------------------------------------

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


# ---- YOLO v1 -------------------------------------------------------------------------------------


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


# ---- all on one backbone -------------------------------------------------------------------------


def test_fcos_begins_with_boxes_that_overlap_objects() -> None:
    """Boxes without a size have a generalized IoU of 0 at most, and so a loss of 1 or more."""
    torch.manual_seed(0)
    network = build("fcos", num_labels=2, backbone=NARROW)
    images = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    boxes = torch.tensor([[[20.0, 20, 64, 64]], [[30, 40, 110, 120]]])
    losses = network(images, boxes, torch.tensor([[0], [1]]))
    assert losses["bbox_regression"].item() < 0.8


ARCHITECTURES = ["ssd", "yolo-v1", "retinanet", "fcos", "fasterrcnn"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_prepared_networks_say_the_same(arch: str) -> None:
    torch.manual_seed(0)
    own = {"image_size": 64} if arch in {"ssd", "yolo-v1"} else {}
    network = build(arch, num_labels=3, backbone=NARROW, **own)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    targets = (torch.tensor([[[4.0, 4, 40, 40]]] * 2), torch.zeros(2, 1, dtype=torch.long))
    network.train()(images, *(targets if hasattr(network, "network") else ()))
    network.eval()
    before = network.predict(images, 0.0, Suppression(), 20)
    network.prepare(torch.float32)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    for one, two in zip(before, network.predict(images, 0.0, Suppression(), 20), strict=True):
        assert torch.allclose(one.scores, two.scores, atol=1e-3)
        assert len(one.boxes) == 20


def test_narrow_maps_are_widened_with_nothing() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    for shape in [(1, 1), (1, 4), (3, 1), (2, 2), (5, 3)]:
        x = torch.rand(2, 2, *shape)
        expected = layer(x)
        pad_narrow_map = nn.Sequential(copy.deepcopy(layer))
        pad_narrow_maps(pad_narrow_map)
        assert torch.allclose(pad_narrow_map(x), expected, atol=1e-6)


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


@pytest.mark.parametrize("arch", ARCHITECTURES)
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
