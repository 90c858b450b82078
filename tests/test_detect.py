"""What only detectors have: boxes, assignment, losses, both architectures learning, a kill."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import ops

from dlkit.classify import backbones
from dlkit.core.store import checkpoint
from dlkit.detect.boxes import complete_iou, iou, suppress
from dlkit.detect.losses.yolo import assign, distillation_losses, yolo_losses
from dlkit.detect.model import ARCHITECTURES
from dlkit.detect.models.detector import ConvBlock
from dlkit.detect.models.yolo import Grids, cell_centers
from dlkit.detect.options import Suppression
from tests.conftest import NARROW, assert_killed_ends_as_whole, run
from tests.detect.helpers import build

TRAIN = "--size nano --image-size 64 --batch-size 4 --workers 0 --device cpu"
LEARN = (
    "--image-size 64 --batch-size 4 --workers 0 --device cpu --precision fp32 --ema 0 --mosaic 0"
    " --zoom 1.1 --warmup 0.2"
)


def random_boxes(count: int) -> torch.Tensor:
    corners = torch.rand(count, 2) * 60
    return torch.cat([corners, corners + 1 + torch.rand(count, 2) * 40], dim=1)


def test_iou_by_hand_and_against_torchvision() -> None:
    a = torch.tensor([[0.0, 0, 10, 10]])
    b = torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [2, 2, 4, 4]])
    assert iou(a, b).tolist() == pytest.approx([50 / 150, 1, 0, 4 / 100])
    torch.manual_seed(0)
    a, b = random_boxes(50), random_boxes(50)
    assert torch.allclose(iou(a[:, None], b[None]), ops.box_iou(a, b), atol=1e-6)
    expected = 1 - ops.complete_box_iou_loss(a, b)
    assert torch.allclose(complete_iou(a, b), expected, atol=1e-4)


def kept(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, *options: Any, limit: int = 10
) -> list[int]:
    """Which of the boxes, all different, are left, best first."""
    left, _, _ = suppress(boxes, scores, labels, 0.0, Suppression(*options), limit)
    return [boxes.tolist().index(box) for box in left.tolist()]


def test_suppression_keeps_the_best_of_each_label() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 11], [50, 50, 60, 60]])
    scores, labels = torch.tensor([0.8, 0.9, 0.7, 0.1]), torch.tensor([0, 0, 1, 0])
    assert kept(boxes, scores, labels) == [1, 2, 3]
    assert kept(boxes, scores, labels, limit=1) == [1]
    assert kept(boxes, scores, labels, "hard", 0.95) == [1, 0, 2, 3]
    assert kept(boxes[:0], scores[:0], labels[:0]) == []
    assert kept(boxes, scores, labels, "hard", 0.5, 0.5, True) == [1, 3]


def overlap_of(a: list[float], b: list[float]) -> float:
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def soft_by_formula(
    boxes: list[list[float]], scores: list[float], labels: list[int], threshold: float, how: Any
) -> list[tuple[int, float]]:
    """Bodla et al. 2017, figure 2, word for word: the boxes left with their scores."""
    left, done = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda i: left[i])
        done.append((best, left.pop(best)))
        for i in left:
            if labels[i] == labels[best]:
                left[i] *= how(overlap_of(boxes[best], boxes[i]))
    return [(i, score) for i, score in done if score >= threshold]


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("kind", ["soft-linear", "soft-gaussian"])
def test_soft_suppression_by_formula(kind: Any, agnostic: bool) -> None:
    torch.manual_seed(0)
    boxes, scores = random_boxes(60), torch.rand(60)
    labels = torch.randint(0, 2, (60,))
    suppression = Suppression(kind, 0.3, 0.4, agnostic)
    found = suppress(boxes, scores, labels, 0.1, suppression, 60)
    formulas = {
        "soft-linear": lambda overlap: 1 - overlap if overlap >= 0.3 else 1,
        "soft-gaussian": lambda overlap: math.exp(-(overlap**2) / 0.4),
    }
    rivals = [0] * 60 if agnostic else labels.tolist()
    expected = soft_by_formula(boxes.tolist(), scores.tolist(), rivals, 0.1, formulas[kind])
    order = [index for index, _ in expected]
    assert 10 < len(order) < 60
    assert torch.equal(found[0], boxes[order])
    assert found[1].tolist() == pytest.approx([score for _, score in expected], rel=1e-4)
    assert torch.equal(found[2], labels[order])
    best = suppress(boxes, scores, labels, 0.1, suppression, 5)
    assert all(torch.equal(some, of_all[:5]) for some, of_all in zip(best, found, strict=True))


def test_soft_suppression_keeps_a_box_once() -> None:
    """Copies fall to a score of zero, which a threshold of zero lets pass."""
    boxes = torch.tensor([[0.0, 0, 9, 9]] * 3)
    linear = Suppression("soft-linear", 0.5)
    found = suppress(boxes, torch.tensor([0.5, 0.7, 0.6]), torch.zeros(3), 0.0, linear, 10)
    assert found[1].tolist() == pytest.approx([0.7, 0, 0])
    flat = torch.zeros(2, 4)  # without area, no overlap is defined
    gaussian = Suppression("soft-gaussian")
    found = suppress(flat, torch.tensor([0.5, 0.7]), torch.zeros(2), 0.0, gaussian, 10)
    assert found[1].tolist() == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize("agnostic", [False, True])
def test_weighted_suppression_by_formula(agnostic: bool) -> None:
    """A kept box is the mean of those for which it is the first of the kept that they overlap."""
    torch.manual_seed(1)
    boxes, scores = random_boxes(60), torch.rand(60) + 0.1
    labels = torch.randint(0, 2, (60,))
    found = suppress(boxes, scores, labels, 0.0, Suppression("weighted", 0.2, 0.5, agnostic), 60)
    rivals = [0] * 60 if agnostic else labels.tolist()
    left = sorted(range(60), key=lambda i: -float(scores[i]))
    expected, values = [], []
    while left:
        best = left[0]
        group = [
            i
            for i in left
            if i == best
            or (
                rivals[i] == rivals[best]
                and overlap_of(boxes[best].tolist(), boxes[i].tolist()) > 0.2
            )
        ]
        left = [i for i in left if i not in group]
        weights = scores[group] / scores[group].sum()
        expected.append((boxes[group] * weights[:, None]).sum(dim=0))
        values.append(float(scores[best]))
    assert len(expected) < 50
    assert torch.allclose(found[0], torch.stack(expected), atol=1e-3)
    assert found[1].tolist() == pytest.approx(values)


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


class Fixed(nn.Module):
    """A network that always answers the same."""

    def __init__(self, grids: Grids) -> None:
        super().__init__()
        self.grids = grids

    def forward(self, images: torch.Tensor) -> Grids:
        return self.grids


def test_losses_by_hand() -> None:
    box = [0.0, 0, 16, 16]
    predicted = torch.tensor([box, [90.0, 90, 99, 99], [90, 90, 99, 99], [90, 90, 99, 99]])
    labels = torch.tensor([[0.0, 0.0]] * 4)
    grids = grids_of(predicted, [0.0] * 4, labels)
    losses = yolo_losses(
        Fixed(grids), torch.zeros(1, 3, 32, 32), torch.tensor([[box]]), torch.tensor([[1]])
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
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "disc, square" in done.err


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


def test_fusing_twice_changes_nothing() -> None:
    block = ConvBlock(2, 2).eval()
    block.fuse()
    x = torch.randn(1, 2, 8, 8)
    before = block(x)
    block.fuse()
    assert torch.equal(block(x), before)


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
    assert len(done.err.strip().splitlines()) == 1


CHOICES: dict[str, dict[str, Any]] = {
    "yolo": {"size": "nano"},
    "yolo on a backbone": {"size": "nano", "backbone": NARROW},
    "yolo-v1": {"image_size": 64, "backbone": NARROW},
    "ssd": {"image_size": 64, "backbone": NARROW},
    "retinanet": {"backbone": NARROW},
    "fcos": {"backbone": NARROW},
    "fasterrcnn": {"backbone": "mobilenet"},
    "fasterrcnn on a backbone": {"backbone": NARROW},
}
COUNTS = {"yolo": 3, "yolo-v1": 5, "ssd": 2, "retinanet": 2, "fcos": 3, "fasterrcnn": 4}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("objects", [0, 2])
def test_losses_are_finite_and_reach_every_weight(choice: str, objects: int) -> None:
    torch.manual_seed(0)
    arch = choice.partition(" ")[0]
    network = build(arch, num_labels=3, **CHOICES[choice]).train()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[[4.0, 4, 40, 40], [20, 10, 60, 50]]] * 2)
    labels = torch.full((2, 2), -1)
    labels[0, :objects] = torch.arange(objects)
    losses = ARCHITECTURES[arch].losses(network, images, boxes, labels)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert len(losses) == COUNTS[arch]
    if objects:
        without = [n for n, p in network.named_parameters() if p.grad is None]
        assert not without


def test_training_at_several_sizes_with_copies(handful: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", handful, "--out", tmp_path / "run", *TRAIN.split(), "--epochs", 3,
        "--close-mosaic", 1, "--multi-scale", 1.6, "--copy-paste", 0.5,
    )  # fmt: skip
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "options", "least"),
    [
        ("yolo", "--size nano --epochs 5 --lr 0.005", 0.6),
        ("fasterrcnn", "--epochs 2 --lr 0.001 --backbone caltech101", 0.5),
        ("ssd", "--epochs 5 --lr 0.001", 0.4),
        ("yolo-v1", "--epochs 12 --lr 0.001 --batch-size 8 --backbone NARROW", 0.1),
        ("retinanet", "--epochs 4 --lr 0.0005", 0.4),
        ("fcos", "--epochs 2 --lr 0.001", 0.6),
    ],
)
def test_an_architecture_learns_squares_and_discs(
    shapes: Path, narrow: Path, tmp_path: Path, arch: str, options: str, least: float
) -> None:
    """Before training none scores more than 0.15 on these four images, and yolo-v1 0.003."""
    done = run(
        "detect", "train", shapes, "--out", tmp_path / "run", "--arch", arch, *LEARN.split(),
        *options.replace("NARROW", str(narrow)).split(),
    )  # fmt: skip
    assert done.code == 0, done.err
    scores = run("detect", "evaluate", shapes, "-m", done.out.strip(), "-f", "jsonl").out
    values = {(r["metric"], r["label"]): r["value"] for r in map(json.loads, scores.splitlines())}
    assert values["ap50_coco101", "all"] > least
    assert (tmp_path / "run" / "examples.png").exists()
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_killed_training_resumes_to_the_same_weights(shapes: Path, tmp_path: Path) -> None:
    assert_killed_ends_as_whole(tmp_path, 2, "detect", "train", str(shapes), *TRAIN.split())


PACK = Path(__file__).parent.parent.parent / "shared" / "data" / "voc-animals.zip"


@pytest.mark.skipif(not PACK.exists(), reason="the data packs are not on this machine")
def test_the_bundled_animals_hold_their_score(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(PACK) as archive:
        archive.extractall(tmp_path)
    scores = run("detect", "evaluate", tmp_path, "-f", "jsonl").out
    values = {(r["metric"], r["label"]): r["value"] for r in map(json.loads, scores.splitlines())}
    header = checkpoint.read_header(
        Path(__file__).parent.parent / "dlkit/detect/weights/animals.safetensors"
    )
    assert values["ap50_coco101", "all"] >= 0.40
    assert values["ap50_coco101", "all"] == pytest.approx(header.metrics["ap50_coco101"], abs=0.01)


def test_the_readmes_first_command_says_cat(tmp_path: Path) -> None:
    cat = Path(__file__).parent.parent / "data" / "cat.jpg"
    result = run("detect", cat, "--save", tmp_path / "out", "--device", "cpu")
    assert result.code == 0
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert {row[1] for row in rows} == {"cat"}
    assert (tmp_path / "out" / "cat.jpg").exists()
