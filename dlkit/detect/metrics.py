"""Detection metrics as COCO and Pascal VOC define them, in numpy.

COCO's are in dlkit.core.vision.average_precision. The VOC numbers follow the development kit
(Everingham et al. 2010): each detection claims the truth it overlaps most, and AP is the mean at
11 recalls (2007) or the area under the curve (2010 on).

Shapes: D detections, G truths, K labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlkit.core.io.scores import known_mean
from dlkit.core.vision.average_precision import (
    AREA_RANGES,
    COCO_DEFINITIONS,
    IOU_THRESHOLDS,
    Matches,
    Overlaps,
    Pool,
    best_precision_from,
    coco_detections,
    coco_precision_recall,
    coco_summary,
    match_coco,
    pool_overlaps,
)

_VOC = "Pascal VOC, IoU 0.50, mean over labels, difficult and crowd ignored"
DEFINITIONS = {
    **COCO_DEFINITIONS,
    "ap50_voc11": f"AP as mean of the best precisions at recalls 0, 0.1 ... 1 (2007); {_VOC}.",
    "ap50_voc_area": f"AP as area under the monotone precision-recall curve (2010 on); {_VOC}.",
}


@dataclass
class Truth:
    """The objects in one image, boxes as x1, y1, x2, y2 in continuous pixels.

    COCO ignores crowds and has no `difficult`; VOC ignores both. `area` sorts objects into small,
    medium and large: COCO has the area of the segment; None takes the box's.
    """

    boxes: np.ndarray  # (G, 4)
    labels: np.ndarray  # (G,) int
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool
    area: np.ndarray | None = None  # (G,)


@dataclass
class Predictions:
    """The detections in one image, in any order."""

    boxes: np.ndarray  # (D, 4)
    labels: np.ndarray  # (D,) int
    scores: np.ndarray  # (D,)


@dataclass
class PrecisionRecall:
    """One label's curve at IoU 0.5 with COCO's matching: a point per detection, best first."""

    recall: np.ndarray  # (D,)
    precision: np.ndarray  # (D,)
    scores: np.ndarray  # (D,)


@dataclass
class DetectionMetrics:
    """The keys of `summary` and of each label in `per_label` are explained in DEFINITIONS.

    Labels and areas without ground truth are nan, do not count in means, and have no curve.
    """

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]
    curves: dict[str, PrecisionRecall]


def detection_metrics(
    truths: Sequence[Truth], predictions: Sequence[Predictions], label_names: Sequence[str]
) -> DetectionMetrics:
    """All metrics of images; truths and predictions are in the same order."""
    pool = pool_images(truths, predictions, len(label_names))
    matches = [match_coco(pool, area_range) for area_range in AREA_RANGES.values()]
    precision, recall = coco_precision_recall(pool, matches)
    at_11, area = voc_average_precision(pool)
    per_label = {
        name: {
            "map_50_95_coco101": float(precision[0, k].mean()),
            "ap50_coco101": float(precision[0, k, 0].mean()),
            "ap50_voc11": float(at_11[k]),
            "ap50_voc_area": float(area[k]),
        }
        for k, name in enumerate(label_names)
    }
    summary = coco_summary(precision, recall)
    summary |= {"ap50_voc11": known_mean(at_11), "ap50_voc_area": known_mean(area)}
    return DetectionMetrics(summary, per_label, coco_curves(pool, matches[0], label_names))


# ---- Overlaps ------------------------------------------------------------------------------------


def box_area(boxes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = boxes.astype(float).T
    area: np.ndarray = (x2 - x1) * (y2 - y1)
    return area


def box_overlaps(boxes: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU (D, G), and the fraction of each detection's area inside each truth (D, G)."""
    boxes, truths = boxes.astype(float), truths.astype(float)
    top_left = np.maximum(boxes[:, None, :2], truths[:, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], truths[:, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    area = np.broadcast_to(box_area(boxes)[:, None], intersection.shape)
    union = area + box_area(truths) - intersection
    overlap = intersection > 0  # elsewhere, the areas may be 0
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=overlap)
    return iou, np.divide(intersection, area, out=np.zeros_like(union), where=overlap)


def pool_images(
    truths: Sequence[Truth], predictions: Sequence[Predictions], num_labels: int
) -> Pool:
    """Concatenate the overlaps of all images."""
    overlaps = []
    for truth, found in zip(truths, predictions, strict=True):
        iou, inside = box_overlaps(found.boxes, truth.boxes)
        overlaps.append(
            Overlaps(
                iou,
                inside,
                found.labels,
                found.scores,
                box_area(found.boxes),
                truth.labels,
                box_area(truth.boxes) if truth.area is None else truth.area,
                truth.crowd,
                truth.difficult,
            )
        )
    return pool_overlaps(overlaps, num_labels)


# ---- VOC -----------------------------------------------------------------------------------------


def match_voc(pool: Pool) -> Matches:
    """The matching of the VOC development kit, at IoU 0.5.

    A detection claims the truth it overlaps most, whether it is taken or not: the first on a truth
    is a hit, a second one is false, and all on an ignored truth are ignored.
    """
    truth_ignored = pool.difficult | pool.crowd
    reaches = pool.iou >= IOU_THRESHOLDS[0]
    detections, truths = pool.pairs[:, reaches]
    order = np.lexsort((truths, -pool.iou[reaches], detections))
    claimants, first = np.unique(detections[order], return_index=True)
    claims = np.full(len(pool.labels), -1)
    claims[claimants] = truths[order][first]

    ignored = np.zeros(len(pool.labels), bool)
    ignored[claimants] = truth_ignored[claims[claimants]]
    ranked = np.concatenate(pool.by_label)
    ranked = ranked[claims[ranked] >= 0]
    _, first = np.unique(claims[ranked], return_index=True)
    hits = np.zeros(len(pool.labels), bool)
    hits[ranked[first]] = True
    counted = pool.truth_labels[~truth_ignored]
    num_truths = np.bincount(counted, minlength=len(pool.by_label))
    return Matches(hits & ~ignored, ignored, num_truths)


def voc_average_precision(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """AP of each label (K,) at 11 recalls, and as area; nan for labels without truth."""
    match = match_voc(pool)
    at_11, area = np.full((2, len(pool.by_label)), np.nan)
    for k in match.known_labels:
        curve = match.curve(k, pool.by_label[k])
        at_11[k], area[k] = voc11(*curve), voc_area(*curve)
    return at_11, area


def voc11(precision: np.ndarray, recall: np.ndarray) -> float:
    # Tenths by division: 3 * 0.1 > 0.3 would lose a recall of exactly 0.3.
    recalls = np.arange(11) / 10
    padded = np.append(best_precision_from(precision), 0)
    return float(padded[np.searchsorted(recall, recalls)].mean())


def voc_area(precision: np.ndarray, recall: np.ndarray) -> float:
    return float(np.sum(np.diff(recall, prepend=0) * best_precision_from(precision)))


# ---- Curves and confusion ------------------------------------------------------------------------


def coco_curves(
    pool: Pool, match: Matches, label_names: Sequence[str]
) -> dict[str, PrecisionRecall]:
    """The precision-recall curve of each label with truth, from the matches of all areas."""
    curves = {}
    for k in match.known_labels:
        found = coco_detections(pool, k)
        found = found[~match.ignored[0, found]]
        precision, recall = match.curve(k, found)
        curves[label_names[k]] = PrecisionRecall(recall[0], precision[0], pool.scores[found])
    return curves


def best_thresholds(curves: Mapping[str, PrecisionRecall]) -> dict[str, float]:
    """The score of each label with the highest F0.5 (van Rijsbergen 1979, chapter 7).

    F0.5 weighs precision twice as much as recall. A label without a correct detection has none.
    """
    thresholds = {}
    for label, curve in curves.items():
        hits = curve.precision > 0
        if hits.any():
            precision, recall = curve.precision[hits], curve.recall[hits]
            f = 1.25 * precision * recall / (0.25 * precision + recall)
            thresholds[label] = float(curve.scores[hits][f.argmax()])
    return thresholds


def confusion_matrix(
    truths: Sequence[Truth],
    predictions: Sequence[Predictions],
    num_labels: int,
    thresholds: np.ndarray | float,
) -> np.ndarray:
    """Counts (K + 1, K + 1): rows are truths, columns predictions, the last of each background.

    Only predictions that score at least the threshold (K,) of their label take part. In each image
    the pair of any labels with the highest IoU (of equals, the best score) is matched first, each
    box once, down to an IoU of 0.5. An unmatched truth is predicted background (missed); an
    unmatched prediction is background predicted as something. Crowd and difficult truths are
    ignored, and so is an unmatched prediction that overlaps one by an IoU, or a fraction inside the
    crowd, of 0.5.
    """
    matrix = np.zeros((num_labels + 1, num_labels + 1), int)
    for truth, found in zip(truths, predictions, strict=True):
        sure = found.scores >= np.broadcast_to(thresholds, num_labels)[found.labels]
        labels, scores = found.labels[sure], found.scores[sure]
        iou, inside = box_overlaps(found.boxes[sure], truth.boxes)
        ignored = truth.crowd | truth.difficult
        rows, columns = np.full(len(labels), num_labels), np.full(len(ignored), num_labels)
        d, g = np.nonzero((iou >= IOU_THRESHOLDS[0]) & ~ignored)
        for pair in np.lexsort((-scores[d], -iou[d, g])):
            detection, target = d[pair], g[pair]
            if rows[detection] == columns[target] == num_labels:
                rows[detection], columns[target] = truth.labels[target], labels[detection]
        near = np.where(truth.crowd, inside, iou) >= IOU_THRESHOLDS[0]
        counted = (rows < num_labels) | ~(near & ignored).any(axis=1)
        np.add.at(matrix, (rows[counted], labels[counted]), 1)
        missed = (columns == num_labels) & ~ignored
        np.add.at(matrix, (truth.labels[missed], num_labels), 1)
    return matrix
