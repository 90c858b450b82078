"""Losses against values by hand."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.loss import (
    adaline_loss,
    classification_loss,
    perceptron_loss,
    triplet_loss,
)
from dlkit.classify.models.network import WithAuxiliary


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
