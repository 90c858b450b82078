"""The last stages of R-CNN's training: linear SVMs, their calibration, and box regression.

Shapes: N regions, D features, C labels.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from dlkit.detect.boxes import encode, iou
from dlkit.detect.models.rcnn import RCNN, linear
from dlkit.detect.models.regions import to_rois

FITTED_ON, PROPOSALS = 200, 100  # training images, spread over the data, and regions per image
# As in Girshick et al. 2014, section 2.3 and appendix C, and in the published code.
NEGATIVE = 0.3  # IoU with every object of a label below which a region is a negative
CLOSE = 0.6  # IoU with an object from which a region is used for box regression
COST, POSITIVE_COST = 0.001, 2.0
NORM = 20.0  # mean norm that the features are scaled to
BIAS = 10.0  # value of a constant feature, so that the bias is hardly regularized
RIDGE = 1000.0
EASY, HARD = -1.2, -1.0  # scores below which negatives are dropped, above which they are added
TOLERANCE, MAX_PASSES, MAX_ROUNDS = 0.01, 300, 20
POSITIVE, MAX_STEPS = 0.5, 100  # for the calibration: IoU of a positive region; Newton steps

Example = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.inference_mode()
def fit(network: RCNN, examples: Iterable[Example]) -> None:
    """Fit the SVMs and corrections of a network in evaluation mode to annotated images.

    SVM outputs are calibrated to log-odds, since margins of different SVMs cannot be compared. An
    example: uint8 image (3, H, W), boxes (N, 4), labels (N), proposals (P, 4).
    """
    labels_count, device = len(network.svms), network.svms.device
    means, overlaps, maps, close_labels, offsets = [], [], [], [], []
    for example in examples:
        image, boxes, labels, proposed = (part.to(device) for part in example)
        proposed = proposed[:PROPOSALS]
        regions = torch.cat([boxes, proposed])
        of_image = torch.cat(list(network.last_maps(image[None], to_rois([regions]))))
        each = iou(regions[:, None], boxes[None])
        of_label = torch.zeros(len(regions), labels_count, device=each.device)
        for label in torch.unique(labels):
            of_label[:, label] = each[:, labels == label].amax(dim=1)
        # Only the true boxes, which come first, are positive examples of the SVMs.
        of_label[torch.arange(len(boxes)), labels] = 2.0
        means.append(of_image.mean(dim=(2, 3)).cpu())
        overlaps.append(of_label.cpu())
        if len(boxes):
            best, object_ = each[len(boxes) :].max(dim=1)
            close = best >= CLOSE
            maps.append(of_image[len(boxes) :][close].flatten(1).cpu())
            close_labels.append(labels[object_[close]].cpu())
            offsets.append(encode(boxes[object_[close]], proposed[close]).cpu())
    features, shares = torch.cat(means), torch.cat(overlaps)
    for label in range(labels_count):
        positive, negative = shares[:, label] == 2.0, shares[:, label] < NEGATIVE
        weights = torch.zeros(features.shape[1] + 1)
        if positive.any():
            weights = fit_svm(features[positive], features[negative])
        margins, shows = linear(features, weights), shares[:, label] >= POSITIVE
        slope, offset = calibration(margins.double().numpy(), shows.numpy())
        weights *= slope
        weights[-1] += offset
        network.svms[label] = weights.to(network.svms)
    if maps:
        x, labels, targets = torch.cat(maps), torch.cat(close_labels), torch.cat(offsets)
        for label in torch.unique(labels).tolist():
            weights = fit_ridge(x[labels == label], targets[labels == label], RIDGE)
            network.corrections[label] = weights.to(network.corrections)


def fit_svm(positive: Tensor, negative: Tensor) -> Tensor:
    """The weights (D + 1), bias last, of an SVM trained with hard negative mining.

    Only negatives within the margin change the solution, so this is the SVM of all negatives.
    """
    scale = NORM / float(torch.cat([positive, negative]).norm(dim=1).mean().clamp(min=1e-9))
    x, others = (
        np.hstack([part.numpy() * scale, np.full((len(part), 1), BIAS)]).astype(np.float64)
        for part in (positive, negative)
    )
    w = np.zeros(x.shape[1])
    cached = np.zeros(len(others), dtype=bool)
    cached[:: max(1, len(others) // 1000)] = True
    for _ in range(MAX_ROUNDS):
        w = linear_svm(x, others[cached], COST * POSITIVE_COST, COST)
        scores = others @ w
        hard = (scores > HARD) & ~cached
        if not hard.any():
            break
        cached = (cached & (scores >= EASY)) | hard
    w[:-1] *= scale
    w[-1] *= BIAS
    return torch.from_numpy(w).float()


def linear_svm(
    positive: np.ndarray, negative: np.ndarray, positive_cost: float, negative_cost: float
) -> np.ndarray:
    """The w (D) that minimizes |w|^2 / 2 + the weighted hinge losses of both classes."""
    from dlkit.detect.compiled_svm import dual_descent  # compiled: slow to import

    signs = np.concatenate([np.ones(len(positive)), -np.ones(len(negative))])
    costs = np.where(signs > 0, positive_cost, negative_cost)
    features = np.concatenate([positive, negative])
    w: np.ndarray = dual_descent(features, signs, costs, TOLERANCE, MAX_PASSES, 0)
    return w


def calibration(margins: np.ndarray, shows: np.ndarray) -> tuple[float, float]:
    """Platt scaling: slope and offset that map margins (N,) to log-odds of `shows` (N,).

    The maximum likelihood solution with the smoothed targets of Platt 1999, found by Newton's
    method with backtracking (Lin et al. 2007, algorithm 1).
    """
    yes, no = shows.sum(), (~shows).sum()
    targets = np.where(shows, (yes + 1) / (yes + 2), 1 / (no + 2))
    x = np.stack([margins, np.ones_like(margins)])

    def loss(w: np.ndarray) -> float:
        return float((np.logaddexp(0, w @ x) - targets * (w @ x)).sum())

    w = np.array([0.0, np.log((yes + 1) / (no + 1))])
    for _ in range(MAX_STEPS):
        chances = 1 / (1 + np.exp(-w @ x))
        gradient = x @ (chances - targets)
        if np.abs(gradient).max() < 1e-5:
            break
        curvature = (x * chances * (1 - chances)) @ x.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        share = 1.0
        while share > 1e-10 and loss(w - share * step) > loss(w) - 1e-4 * share * step @ gradient:
            share /= 2
        w = w - share * step
    return float(w[0]), float(w[1])


def fit_ridge(x: Tensor, targets: Tensor, strength: float) -> Tensor:
    """The weights (T, D + 1), bias last, of the ridge regression of targets (N, T) on x (N, D).

    Minimizes |x w + b - target|^2 + strength * |w|^2 (appendix C, eq. 5).
    """
    mean, target = x.mean(dim=0), targets.mean(dim=0)
    centered = (x - mean).double()
    if len(x) < x.shape[1]:  # the smaller of two equivalent systems
        gram = centered @ centered.T + strength * torch.eye(len(x), dtype=torch.float64)
        w = torch.linalg.solve(gram, (targets - target).double()).T @ centered
    else:
        gram = centered.T @ centered + strength * torch.eye(x.shape[1], dtype=torch.float64)
        w = torch.linalg.solve(gram, centered.T @ (targets - target).double()).T
    w = w.float()
    return torch.cat([w, (target - w @ mean)[:, None]], dim=1)
