"""Metrics of label maps by hand and against scikit-learn."""

import numpy as np
import pytest

from dlkit.segment.masks import IGNORED
from dlkit.segment.metrics import (
    DEFINITIONS,
    LABEL_DEFINITIONS,
    boundary_f1,
    confusion_matrix,
    count_pixels,
    segmentation_metrics,
    sum_counts,
)
from tests.segment.helpers import COLOR_NAMES, truth_of


def test_metrics_by_hand() -> None:
    """3 of 4 pixels right. Red: 2 of 2 found, 3 predicted; green: 1 of 2; blue: nowhere."""
    truth = np.array([[0, 0], [1, 1]])
    found = np.array([[0, 0], [0, 1]])
    metrics = segmentation_metrics(count_pixels(truth, found, 3, boundaries=False), COLOR_NAMES)
    assert metrics.summary == {
        "pixel_accuracy": 0.75,
        "mean_class_accuracy": 0.75,
        "mean_iou": pytest.approx((2 / 3 + 1 / 2) / 2),
        "frequency_weighted_iou": pytest.approx((2 / 3 + 1 / 2) / 2),
        "dice": pytest.approx((4 / 5 + 2 / 3) / 2),
        "boundary_f1": pytest.approx(np.nan, nan_ok=True),
    }
    assert metrics.per_label["red"]["iou"] == pytest.approx(2 / 3)
    assert np.isnan(metrics.per_label["blue"]["iou"])
    assert metrics.summary.keys() == DEFINITIONS.keys()
    assert metrics.per_label["blue"].keys() == LABEL_DEFINITIONS.keys()


def test_a_class_that_is_only_predicted_has_no_accuracy_and_an_iou_of_zero() -> None:
    metrics = segmentation_metrics(
        count_pixels(np.zeros((4, 4)), np.eye(4, dtype=int), 2), COLOR_NAMES[:2]
    )
    assert metrics.summary["mean_class_accuracy"] == 0.75
    assert metrics.summary["mean_iou"] == 0.75 / 2
    assert metrics.per_label["green"]["boundary_f1"] == 0


def test_metrics_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truths, maps = rng.integers(0, 5, (2, 3, 30, 40))
    truths[rng.random(truths.shape) < 0.1] = IGNORED
    counts = sum_counts(count_pixels(t, m, 5) for t, m in zip(truths, maps, strict=True))
    known = truths != IGNORED
    true, found = truths[known], maps[known]
    assert (counts.confusion == sklearn.confusion_matrix(true, found)).all()
    summary = segmentation_metrics(counts, list("abcde")).summary
    ious = sklearn.jaccard_score(true, found, average=None)
    assert summary["pixel_accuracy"] == pytest.approx(sklearn.accuracy_score(true, found))
    assert summary["mean_class_accuracy"] == pytest.approx(
        sklearn.balanced_accuracy_score(true, found)
    )
    assert summary["mean_iou"] == pytest.approx(ious.mean())
    assert summary["frequency_weighted_iou"] == pytest.approx(
        sklearn.jaccard_score(true, found, average="weighted")
    )
    assert summary["dice"] == pytest.approx(sklearn.f1_score(true, found, average="macro"))


def test_ignored_pixels_count_nowhere() -> None:
    truth = truth_of(0)
    ignored = truth.copy()
    ignored[:, 20:] = IGNORED
    worse = truth.copy()
    worse[:, 20:] = 2
    assert confusion_matrix(ignored, worse, 3).sum() == 20 * len(truth)
    assert (confusion_matrix(ignored, truth, 3) == confusion_matrix(ignored, worse, 3)).all()
    for k in (0, 1):
        assert boundary_f1(ignored, worse, 3)[k] == 1


def test_boundary_f1_is_that_of_measured_distances() -> None:
    """Every pair of boundary pixels compared; a diagonal of 400 pixels tolerates 3."""
    truth, found = np.zeros((2, 240, 320), int)
    truth[50:150, 60:200] = 1
    found[52:155, 58:200] = 1
    found[170:190, 20:60] = 1
    expected = []
    for k in (0, 1):
        edges = []
        for labels in (truth, found):
            padded = np.pad(labels, 1, mode="edge")
            shifted = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
            on_edge = np.any([labels != other for other in shifted], axis=0)
            edges.append(np.argwhere(on_edge & (labels == k)))
        squares = ((edges[0][:, None] - edges[1]) ** 2).sum(axis=2)
        recall = (squares.min(axis=1) <= 3**2).mean()
        precision = (squares.min(axis=0) <= 3**2).mean()
        assert 0.5 < precision < 1
        expected.append(2 * precision * recall / (precision + recall))
    assert boundary_f1(truth, found, 2) == pytest.approx(expected)
    assert boundary_f1(truth, truth, 3)[:2].tolist() == [1, 1]
    assert np.isnan(boundary_f1(truth, truth, 3)[2])
