"""Metrics of label maps, in NumPy.

All but the boundary F1 are computed from the confusion matrix (Shelhamer et al. 2016, section 5).
The boundary F1 follows Csurka et al. 2013 ("a good evaluation measure for semantic segmentation"),
with distances between pixel centers.

Shapes: H x W pixels, C classes. Label maps are integers (H, W); pixels that are IGNORED in the
ground truth do not count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dlkit.core.io.scores import known_mean
from dlkit.segment.masks import IGNORED

TOLERANCE = 0.0075  # maximum distance of two boundaries, relative to the image's diagonal

_MEAN = "mean over the classes that occur in truth or prediction"
DEFINITIONS = {
    "pixel_accuracy": "Share of the pixels whose class is right.",
    "mean_class_accuracy": "Share of a class's pixels that are found, mean over classes in truth.",
    "mean_iou": f"Intersection over union of truth and prediction, all images together; {_MEAN}.",
    "frequency_weighted_iou": "IoU, mean over classes weighted by their pixels in the truth.",
    "dice": f"2 |truth and prediction| / (|truth| + |prediction|), all images together; {_MEAN}.",
    "boundary_f1": (
        "F1 of boundary pixels nearer than 0.75 % of the diagonal to the other map's boundary of"
        " the class; mean over the classes with a boundary in an image, then over images."
    ),
}
LABEL_DEFINITIONS = {
    "class_accuracy": "Share of the class's pixels that are found.",
    "iou": "Intersection over union of truth and prediction, all images together.",
    "dice": "2 |truth and prediction| / (|truth| + |prediction|), all images together.",
    "boundary_f1": "F1 of boundary pixels, mean over the images with a boundary of the class.",
}


@dataclass(frozen=True)
class PixelCounts:
    """The confusion matrix and boundary scores of one or several images."""

    confusion: np.ndarray  # (C, C) pixels: ground truth in rows, prediction in columns
    boundary_f1: np.ndarray  # (images, C); nan where a class has no boundary in either map


@dataclass(frozen=True)
class SegmentationMetrics:
    """Metrics by the names in DEFINITIONS and LABEL_DEFINITIONS; nan where undefined."""

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]


def count_pixels(
    truth: np.ndarray, predicted: np.ndarray, classes: int, boundaries: bool = True
) -> PixelCounts:
    """The counts of one image from its two label maps (H, W)."""
    scores = boundary_f1(truth, predicted, classes) if boundaries else np.full(classes, np.nan)
    return PixelCounts(confusion_matrix(truth, predicted, classes), scores[None])


def sum_counts(counts: Iterable[PixelCounts]) -> PixelCounts:
    """The combined counts of several images."""
    listed = list(counts)
    return PixelCounts(
        np.sum([c.confusion for c in listed], axis=0),
        np.concatenate([c.boundary_f1 for c in listed]),
    )


def segmentation_metrics(counts: PixelCounts, label_names: Sequence[str]) -> SegmentationMetrics:
    """Compute all metrics from the counts."""
    right = np.diagonal(counts.confusion).astype(float)
    true, found = counts.confusion.sum(axis=1), counts.confusion.sum(axis=0)
    accuracy = ratio(right, true)
    iou = ratio(right, true + found - right)
    dice = ratio(2 * right, true + found)
    per_image = [known_mean(row) for row in counts.boundary_f1]
    summary = {
        "pixel_accuracy": float(ratio(right.sum(), true.sum())),
        "mean_class_accuracy": known_mean(accuracy),
        "mean_iou": known_mean(iou),
        "frequency_weighted_iou": float(ratio((true * np.nan_to_num(iou)).sum(), true.sum())),
        "dice": known_mean(dice),
        "boundary_f1": known_mean(np.array(per_image)),
    }
    per_label = {
        name: {
            "class_accuracy": float(accuracy[k]),
            "iou": float(iou[k]),
            "dice": float(dice[k]),
            "boundary_f1": known_mean(counts.boundary_f1[:, k]),
        }
        for k, name in enumerate(label_names)
    }
    return SegmentationMetrics(summary, per_label)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; nan where the whole is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    ratios: np.ndarray = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return ratios


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Number of pixels (C, C) by ground-truth class (rows) and predicted class (columns)."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def boundary_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """F1 (C,) of each class's boundary in one image; nan for a class without a boundary.

    A pixel is on its class's boundary if one of its four neighbors is of another class. A class
    with a boundary in only one of the maps scores 0.
    """
    counted = truth != IGNORED
    radius = TOLERANCE * float(np.hypot(*truth.shape))
    scores = np.full(classes, np.nan)
    true_points, found_points = boundary_points(truth, counted), boundary_points(predicted, counted)
    for k in range(classes):
        true, found = true_points.get(k), found_points.get(k)
        if true is not None and found is not None:
            precision = mark_near(found, true, radius).mean()
            recall = mark_near(true, found, radius).mean()
            total = precision + recall
            scores[k] = 2 * precision * recall / total if total else 0
        elif true is not None or found is not None:
            scores[k] = 0
    return scores


def boundary_points(labels: np.ndarray, counted: np.ndarray) -> dict[int, np.ndarray]:
    """Rows and columns (N, 2) of the boundary pixels of each class that has any."""
    points = np.argwhere(mark_boundary(labels, counted))
    classes = labels[points[:, 0], points[:, 1]]
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    parts = np.split(points[order], starts[1:])
    return dict(zip(present.tolist(), parts, strict=False))


def mark_boundary(labels: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mark the counted pixels (H, W) that have a counted neighbor of another class."""
    edges = np.zeros(labels.shape, bool)
    across = (labels[:, 1:] != labels[:, :-1]) & counted[:, 1:] & counted[:, :-1]
    down = (labels[1:] != labels[:-1]) & counted[1:] & counted[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def mark_near(points: np.ndarray, others: np.ndarray, radius: float) -> np.ndarray:
    """Mark the points (N, 2) that lie within `radius` of one of the others; rows and columns."""
    reach = int(radius)
    corner = others.min(axis=0) - reach
    height, width = others.max(axis=0) + reach - corner + (1, 2)
    # A disc around each of the others, as the first and last pixel of each of its rows.
    rows = np.arange(-reach, reach + 1)
    half = np.sqrt(radius**2 - rows**2).astype(int)
    own = others - corner
    middles = (own[:, :1] + rows) * width + own[:, 1:]
    begins = np.bincount((middles - half).ravel(), minlength=height * width)
    ends = np.bincount((middles + half + 1).ravel(), minlength=height * width)
    covered = np.cumsum(begins - ends).reshape(height, width) > 0
    row, column = (points - corner).T
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    near = np.zeros(len(points), bool)
    near[inside] = covered[row[inside], column[inside]]
    return near
