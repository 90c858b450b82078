"""Boxes: overlap, suppression, offsets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import ops

from dlkit.detect.boxes import complete_iou, decode, encode, iou, suppress
from dlkit.detect.options import Suppression


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


def test_the_second_best_is_found_behind_many_copies_of_the_best() -> None:
    boxes = torch.tensor([[0.0, 0.0, 50.0, 50.0]] * 400 + [[60.0, 60.0, 90.0, 90.0]])
    scores = torch.linspace(0.9, 0.5, 401)
    found = suppress(boxes, scores, torch.zeros(401), 0.3, Suppression(), limit=2)
    assert torch.equal(found[1], scores[[0, 400]])


def test_offsets_by_hand_and_back() -> None:
    """A box 20 x 40 around (30, 50), from a reference 10 x 20 around (25, 40)."""
    box, reference = torch.tensor([20.0, 30, 40, 70]), torch.tensor([20.0, 30, 30, 50])
    expected = [0.5, 0.5, np.log(2), np.log(2)]
    assert encode(box, reference).tolist() == pytest.approx(expected, abs=1e-6)
    torch.manual_seed(0)
    boxes, references = random_boxes(50), random_boxes(50)
    assert torch.allclose(decode(encode(boxes, references), references), boxes, atol=1e-3)
    assert torch.isfinite(decode(torch.full((4,), 1e4), reference)).all()
