"""Losses, metrics and random changes of `dlkit classify`, against hand-computed values."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.augment import augment, mix
from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.loss import (
    adaline_loss,
    classification_loss,
    perceptron_loss,
    triplet_loss,
)
from dlkit.classify.metrics import (
    average_precision,
    score_multi_label,
    score_retrieval,
    score_single_label,
)
from dlkit.classify.models.network import WithAuxiliary


def settings(**changed: Any) -> ClassifyTrainConfig:
    plain: dict[str, Any] = {"shift": 0.0, "flip": 0.0}
    return ClassifyTrainConfig(data="none", **{**plain, **changed})  # type: ignore[arg-type]


def stepped(loss: Any, x: list[float], label: int, rate: float, weight: Tensor) -> Tensor:
    """The weights (2, D) of two labels after one step of plain gradient descent on one sample."""
    layer = nn.Linear(len(x), 2, bias=False)
    layer.weight.data = weight.clone()
    loss(layer(torch.tensor([x])), torch.tensor([label])).backward()
    assert layer.weight.grad is not None
    return layer.weight.data - rate * layer.weight.grad


def test_a_step_of_the_perceptron_is_rosenblatts_rule() -> None:
    """A mistake adds x to the right label's weights and takes it from the wrong one's."""
    x, weight = [2.0, -1.0], torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # scores 2 and -1
    wrong = stepped(perceptron_loss, x, 1, 1.0, weight)
    assert wrong.tolist() == [[1.0 - 2.0, 0.0 + 1.0], [0.0 + 2.0, 1.0 - 1.0]]
    assert torch.equal(stepped(perceptron_loss, x, 0, 1.0, weight), weight)


def test_a_step_of_adaline_is_the_lms_rule() -> None:
    """w + rate (target - w x) x, for each label with its target +1 or -1."""
    x, weight, rate = [2.0, -1.0], torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 0.1
    expected = [
        [1.0 + rate * (1 - 2) * 2, 0.0 + rate * (1 - 2) * -1],
        [0.0 + rate * (-1 + 1) * 2, 1.0 + rate * (-1 + 1) * -1],
    ]
    assert torch.allclose(
        stepped(adaline_loss, x, 0, rate, weight), torch.tensor(expected), atol=1e-6
    )


def test_the_perceptron_learns_what_is_separable_and_stops() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator)
    x = x[x.sum(1).abs() > 0.3]
    targets = (x.sum(1) > 0).long()
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    for _ in range(200):
        mistakes = 0
        for sample, target in zip(x, targets, strict=True):
            layer.zero_grad()
            loss = perceptron_loss(layer(sample[None]), target[None])
            mistakes += float(loss.detach()) > 0 or bool(layer.weight.eq(0).all())
            loss.backward()
            with torch.no_grad():
                for parameter in layer.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad)
        if mistakes == 0:
            break
    assert mistakes == 0  # Novikoff's theorem: finitely many mistakes
    assert torch.equal(layer(x).argmax(1), targets)


def test_auxiliary_classifiers_count_less() -> None:
    logits, other, targets = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])

    def criterion(scores: Tensor) -> Tensor:
        return F.cross_entropy(scores, targets)

    loss = classification_loss(WithAuxiliary(logits, [other, other]), criterion)
    assert float(loss) == pytest.approx(float(criterion(logits) + 0.6 * criterion(other)))


def test_triplets_are_the_semi_hard_ones() -> None:
    """Against a loop over all pairs, as section 3.2 of Schroff et al. words it."""
    generator = torch.Generator().manual_seed(1)
    d = F.normalize(torch.randn(12, 4, generator=generator))
    targets = torch.arange(12) % 3
    square = torch.cdist(d, d).square()
    losses = []
    for a, p in itertools.permutations(range(12), 2):
        if targets[a] != targets[p]:
            continue
        negatives = [float(square[a, n]) for n in range(12) if targets[n] != targets[a]]
        farther = [value for value in negatives if value > float(square[a, p])]
        negative = min(farther) if farther else max(negatives)
        losses.append(max(float(square[a, p]) - negative + 0.2, 0))
    assert float(triplet_loss(d, targets, 0.2)) == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_batch_of_one_label_has_no_triplets() -> None:
    d = F.normalize(torch.randn(4, 3)).requires_grad_()
    loss = triplet_loss(d, torch.zeros(4, dtype=torch.long), 0.2)
    loss.backward()
    assert float(loss.detach()) == 0


PROBABILITIES = torch.tensor(
    [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]
)


def test_scores_of_single_labels_by_hand() -> None:
    metrics = score_single_label(PROBABILITIES, torch.tensor([0, 0, 2, 1, 1]), ["a", "b", "c"])
    assert metrics.summary["top1"] == pytest.approx(2 / 5)
    assert metrics.summary["top5"] == 1
    assert metrics.summary["mean_recall"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert metrics.summary["loss"] == pytest.approx(
        -np.mean(np.log([0.7, 0.4, 0.7, 0.3, 0.2])), abs=1e-6
    )
    assert metrics.confusion is not None
    assert metrics.confusion.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert metrics.per_label["a"] == pytest.approx(
        {"samples": 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2}
    )
    assert metrics.per_label["c"]["precision"] == pytest.approx(1 / 2)


def test_calibration_error_by_hand() -> None:
    """Two bins of 15 are used: 0.7 (both right), and 0.5 to 0.6 in two bins, all wrong."""
    metrics = score_single_label(PROBABILITIES, torch.tensor([0, 0, 2, 1, 1]), ["a", "b", "c"])
    # confidence .7 .7 (right, right): gap 2 - 1.4; .5: gap -.5; .6, .6: gap -1.2
    assert metrics.summary["calibration_error"] == pytest.approx((0.6 + 0.5 + 1.2) / 5)


def test_average_precision_by_hand() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    truth = torch.tensor([True, False, True, False, True])
    assert average_precision(scores, truth) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert math.isnan(average_precision(scores, torch.zeros(5, dtype=torch.bool)))


def test_average_precision_does_not_depend_on_the_order_of_ties() -> None:
    truth = torch.tensor([True, False, False, True])
    flat = torch.full((4,), 0.5)
    assert average_precision(flat, truth) == average_precision(flat, truth.flip(0)) == 0.5


def test_scores_of_several_labels_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    metrics = score_multi_label(probabilities, targets, ["a", "b"])
    assert metrics.summary["map"] == 1
    assert metrics.summary["exact"] == pytest.approx(2 / 3)
    assert metrics.per_label["a"]["precision"] == pytest.approx(1 / 2)
    assert metrics.summary["loss"] == pytest.approx(
        -np.mean(np.log([0.9, 0.8, 0.4, 0.7, 0.9, 0.8])), abs=1e-6
    )


def test_retrieval_by_hand() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 1.0])
    descriptors = torch.stack([angles.cos(), angles.sin()], 1)
    metrics = score_retrieval(descriptors, torch.tensor([0, 1, 0, 1]))
    # Nearest others: 0 -> 1, 2, 3; 1 -> 0, 2, 3; 2 -> 1, 0, 3; 3 -> 2, 1, 0.
    assert metrics.summary["recall_at_1"] == 0
    assert metrics.summary["recall_at_5"] == 1
    assert metrics.summary["retrieval_map"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 4)


@pytest.fixture
def picture() -> Tensor:
    """32 copies of one image (3, 16, 16), dark with a bright square left of the middle."""
    image = torch.full((3, 16, 16), 20, dtype=torch.uint8)
    image[:, 6:10, 4:8] = torch.tensor([250, 200, 150], dtype=torch.uint8).view(3, 1, 1)
    torch.manual_seed(0)
    return image.expand(32, -1, -1, -1).clone()


def test_nothing_asked_for_changes_nothing(picture: Tensor) -> None:
    assert torch.equal(augment(picture, settings()), picture)


def test_half_of_the_images_are_mirrored(picture: Tensor) -> None:
    out = augment(picture, settings(flip=0.5))
    mirrored = [bool(torch.equal(image, picture[0].flip(-1))) for image in out]
    same = [bool(torch.equal(image, picture[0])) for image in out]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 6 <= sum(mirrored) <= 26


def test_shifts_move_each_image_by_its_own_whole_pixels(picture: Tensor) -> None:
    out = augment(picture, settings(shift=0.125))
    places = {tuple((image[0] > 100).nonzero().float().mean(0).tolist()) for image in out}
    assert len(places) > 10
    for y, x in places:
        assert abs(y - 7.5) <= 2
        assert abs(x - 5.5) <= 2
    assert ((out > 100).sum(dim=(1, 2, 3)) == 48).all()  # the square stays whole


def test_a_zoom_keeps_colors_and_changes_sizes(picture: Tensor) -> None:
    out = augment(picture, settings(zoom=1.5))
    sizes = (out[:, 0] > 120).sum(dim=(1, 2)).float()
    assert float(sizes.max()) > 24
    assert float(sizes.min()) < 13
    assert float(sizes.min()) >= 4 / 9 * 16 - 4
    assert float(sizes.max()) <= 2.25 * 16 + 8


def test_a_turn_by_a_quarter_moves_the_square_above_or_below(picture: Tensor) -> None:
    torch.manual_seed(3)
    out = augment(picture, settings(rotate=180))
    distance = [((image[0] > 120).nonzero().float().mean(0) - 7.5).norm().item() for image in out]
    assert np.allclose(distance, 2.0, atol=0.5)  # it turns about the middle
    rows = {round((image[0] > 120).nonzero().float().mean(0)[0].item()) for image in out}
    assert len(rows) > 2


def test_holes_have_the_asked_size_at_most(picture: Tensor) -> None:
    out = augment(picture, settings(cutout=0.5))
    changed = (out != picture).any(dim=1).sum(dim=(1, 2))
    assert int(changed.max()) <= 64
    assert int(changed.max()) >= 36
    assert len(set(changed.tolist())) > 3


def test_recoloring_keeps_gray_gray_and_in_range() -> None:
    gray = torch.full((8, 3, 4, 4), 100, dtype=torch.uint8)
    out = augment(gray, settings(color_jitter=0.5))
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-3)
    assert float(out.min()) >= 50 - 1e-3
    assert float(out.max()) <= 150 + 1e-3
    assert out.std() > 1


def test_randaugment_changes_images_and_keeps_their_form(picture: Tensor) -> None:
    out = augment(picture, settings(randaugment=9))
    assert out.shape == picture.shape
    assert out.dtype == torch.uint8
    assert (out != picture).any(dim=1).any(dim=1).any(dim=1).sum() > 20


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_images_are(name: str) -> None:
    """Label 1 is white, label 0 black: the mean of an image is its share of label 1."""
    torch.manual_seed(0)
    labels = torch.arange(16) % 2
    images = (255 * labels).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).to(torch.uint8)
    seen = set()
    for _ in range(5):
        out, targets = mix(images, F.one_hot(labels, 2).float(), settings(**{name: 1.0}))
        assert torch.allclose(out.float().mean(dim=(1, 2, 3)) / 255, targets[:, 1], atol=1e-2)
        assert torch.allclose(targets.sum(1), torch.ones(16))
        seen.add(round(float(targets[0, 0]), 3))
    assert len(seen) > 1
