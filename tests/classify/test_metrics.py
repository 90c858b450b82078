"""Metrics against values by hand."""

import math

import numpy as np
import pytest
import torch

from dlkit.classify.metrics import (
    average_precision,
    score_multi_label,
    score_retrieval,
    score_single_label,
)

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
