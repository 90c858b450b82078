"""R-CNN's SVMs, their calibration, and box regression."""

import numpy as np
import pytest
import torch

from dlkit.detect.boxes import iou
from dlkit.detect.models.rcnn import linear
from dlkit.detect.models.regions import to_rois
from dlkit.detect.selective_search import propose
from dlkit.detect.svm import (
    COST,
    POSITIVE_COST,
    calibration,
    fit,
    fit_ridge,
    fit_svm,
    linear_svm,
)
from tests.conftest import NARROW, scene
from tests.detect.helpers import build


def objective(w: np.ndarray, x: np.ndarray, signs: np.ndarray, costs: np.ndarray) -> float:
    return float(w @ w / 2 + (costs * np.maximum(0, 1 - signs * (x @ w))).sum())


@pytest.mark.slow
def test_the_svm_is_the_best_one() -> None:
    """By the objective: gradient descent from zero and from the solution finds none better."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.4, 1, (40, 5)), rng.normal(-0.4, 1, (120, 5))
    w = linear_svm(positive, negative, 0.2, 0.1)
    x = np.concatenate([positive, negative])
    signs = np.array([1.0] * 40 + [-1.0] * 120)
    costs = np.array([0.2] * 40 + [0.1] * 120)
    best = objective(w, x, signs, costs)
    other = np.zeros(5)
    for step in range(1, 20_000):
        wrong = signs * (x @ other) < 1
        other -= (other - (costs * signs * wrong) @ x) / (step + 10)
    assert best <= objective(other, x, signs, costs) * 1.0001
    assert best == pytest.approx(objective(other, x, signs, costs), rel=0.01)
    for _ in range(200):
        assert best <= objective(w + rng.normal(0, 0.05, 5), x, signs, costs) + 1e-3


def test_the_svm_is_scikit_learns() -> None:
    svm = pytest.importorskip("sklearn.svm")
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.4, 1, (40, 5)), rng.normal(-0.4, 1, (120, 5))
    peer = svm.LinearSVC(
        loss="hinge", C=0.1, class_weight={1: 2.0}, fit_intercept=False, tol=1e-6, max_iter=100_000
    ).fit(np.concatenate([positive, negative]), [1] * 40 + [0] * 120)
    found = linear_svm(positive, negative, 0.2, 0.1)
    assert np.allclose(found, peer.coef_[0], atol=0.01)


def test_adding_hard_negatives_ends_with_the_svm_of_all_of_them() -> None:
    rng = np.random.default_rng(0)
    positive = torch.from_numpy(rng.normal(1.0, 1, (50, 6))).float()
    negative = torch.from_numpy(rng.normal(-0.5, 1, (5000, 6))).float()
    found = fit_svm(positive, negative).numpy()
    scale = 20.0 / float(torch.cat([positive, negative]).norm(dim=1).mean())
    x, others = (np.c_[p.numpy() * scale, np.full(len(p), 10.0)] for p in (positive, negative))
    w = linear_svm(x.astype(float), others.astype(float), COST * POSITIVE_COST, COST)
    expected = np.r_[w[:-1] * scale, w[-1] * 10]
    points = torch.cat([positive, negative]).numpy()
    ours, theirs = (points @ v[:-1] + v[-1] for v in (found, expected))
    assert np.abs(ours - theirs).max() < 0.05
    assert ours[:50].mean() > 0 > ours[50:].mean()


def test_margins_become_the_chances_that_made_them() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 2, 40_000)
    for slope, offset in [(2.0, -1.0), (0.3, -3.0)]:
        shows = rng.random(len(margins)) < 1 / (1 + np.exp(-slope * margins - offset))
        assert calibration(margins, shows) == pytest.approx((slope, offset), rel=0.06)
    # The scale of the margins makes no difference to the chances.
    first, second = calibration(margins, shows), calibration(margins * 50, shows)
    assert (second[0] * 50, second[1]) == pytest.approx(first, rel=1e-4)
    apart = calibration(np.array([-1.0, -1, 1, 1]), np.array([False, False, True, True]))
    assert np.isfinite(apart).all()
    assert apart[0] > 0
    # Where all is background, that is all that is known.
    assert calibration(np.zeros(98), np.zeros(98, bool)) == pytest.approx((0, np.log(1 / 99)))


@pytest.mark.slow
def test_scores_of_rcnn_are_chances_in_each_label() -> None:
    """Over all regions that it was fitted to, the scores of a label add up to its regions."""
    torch.manual_seed(0)
    network = build("rcnn", num_labels=3, backbone=NARROW).eval()
    examples, shown, scores = [], [], []
    for seed in range(4):
        image, objects = scene(seed)
        pixels = np.asarray(image)
        boxes = torch.tensor([box for _, box in objects]).float()
        proposed = torch.from_numpy(propose(pixels)).float()[:40]
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        examples.append((tensor, boxes, torch.tensor([0, 1]), proposed))
    fit(network, examples)
    for tensor, boxes, _, proposed in examples:
        regions = torch.cat([boxes, proposed])
        shown.append(iou(regions[:, None], boxes[None]) >= 0.5)
        with torch.no_grad():
            maps = torch.cat(list(network.last_maps(tensor[None], to_rois([regions]))))
        scores.append(linear(maps.mean(dim=(2, 3)), network.svms).sigmoid())
    truth, found = torch.cat(shown), torch.cat(scores)
    for label in (0, 1):
        yes, no = int(truth[:, label].sum()), int((~truth[:, label]).sum())
        expected = yes * (yes + 1) / (yes + 2) + no / (no + 2)  # by Platt's targets
        assert yes > 4
        assert float(found[:, label].sum()) == pytest.approx(expected, rel=1e-3)
        assert found[truth[:, label], label].mean() > 2 * found[~truth[:, label], label].mean()
    assert found[:, 2].max() < 0.02  # a label that the images do not show


@pytest.mark.parametrize("count", [10, 60])
def test_corrections_solve_the_ridge_regression(count: int) -> None:
    """Where the objective is least, its gradient vanishes."""
    torch.manual_seed(0)
    x, targets = torch.randn(count, 20) + 3, torch.randn(count, 4)
    found = fit_ridge(x, targets, 5.0).double().requires_grad_()
    off = x.double() @ found[:, :-1].T + found[:, -1] - targets
    (off.square().sum() + 5.0 * found[:, :-1].square().sum()).backward()
    assert found.grad is not None
    assert found.grad.abs().max() < 1e-3
