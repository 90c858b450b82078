"""Detection metrics as COCO and Pascal VOC define them, in numpy.

The COCO numbers equal those of pycocotools (Lin et al. 2014, https://cocodataset.org/#detection-eval):
greedy matching by score at ten IoU thresholds, precision read at 101 recalls. The VOC numbers
follow the development kit (Everingham et al. 2010): each detection claims the truth it overlaps
most, and AP is the mean at 11 recalls (2007) or the area under the curve (2010 on).

Shapes: D detections, G truths, P pairs of both, K labels, T IoU thresholds, A area ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = (1, 10, 100)
AREA_RANGES = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}

_COCO = "COCO, 100 detections an image and label, crowds ignored"
_VOC = "Pascal VOC, IoU 0.50, mean over labels, difficult and crowd ignored"
_RECALL = "COCO recall, mean over IoU 0.50, 0.55 ... 0.95 and labels, at most"
DEFINITIONS = {
    "map_50_95_coco101": f"AP at 101 recalls, mean over IoU 0.50, 0.55 ... 0.95, labels; {_COCO}.",
    "ap50_coco101": f"AP at 101 recalls and IoU 0.50, mean over labels; {_COCO}.",
    "ap75_coco101": f"AP at 101 recalls and IoU 0.75, mean over labels; {_COCO}.",
    "ap_small_coco101": "map_50_95_coco101 of truths of at most 32^2 square pixels.",
    "ap_medium_coco101": "map_50_95_coco101 of truths of 32^2 to 96^2 square pixels.",
    "ap_large_coco101": "map_50_95_coco101 of truths of at least 96^2 square pixels.",
    "ar1_coco": f"{_RECALL} 1 detection an image and label.",
    "ar10_coco": f"{_RECALL} 10 detections an image and label.",
    "ar100_coco": f"{_RECALL} 100 detections an image and label.",
    "ar_small_coco": "ar100_coco of truths of at most 32^2 square pixels.",
    "ar_medium_coco": "ar100_coco of truths of 32^2 to 96^2 square pixels.",
    "ar_large_coco": "ar100_coco of truths of at least 96^2 square pixels.",
    "ap50_voc11": f"AP as mean of the best precisions at recalls 0, 0.1 ... 1 (2007); {_VOC}.",
    "ap50_voc_area": f"AP as area under the monotone precision-recall curve (2010 on); {_VOC}.",
}


@dataclass
class Truth:
    """The objects in one image, boxes as x1, y1, x2, y2 in continuous pixels.

    COCO ignores a crowd and does not know `difficult`; VOC ignores both. `area` sorts objects
    into small, medium and large: COCO's is that of the segment; None takes the box's.
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
    """One label's curve at IoU 0.5, matched as COCO does: a point a detection, best score first."""

    recall: np.ndarray  # (D,)
    precision: np.ndarray  # (D,)
    scores: np.ndarray  # (D,)


@dataclass
class DetectionMetrics:
    """The keys of `summary` and of each label in `per_label` are explained in DEFINITIONS.

    What has no truth to be measured on is nan, is left out of means, and has no curve.
    """

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]
    curves: dict[str, PrecisionRecall]


def detection_metrics(
    truths: Sequence[Truth], predictions: Sequence[Predictions], label_names: Sequence[str]
) -> DetectionMetrics:
    """All metrics of images whose truths and predictions come in the same order."""
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


def coco_metrics(
    truths: Sequence[Truth], predictions: Sequence[Predictions], label_names: Sequence[str]
) -> dict[str, float]:
    """The twelve numbers of pycocotools only."""
    pool = pool_images(truths, predictions, len(label_names))
    matches = [match_coco(pool, area_range) for area_range in AREA_RANGES.values()]
    return coco_summary(*coco_precision_recall(pool, matches))


def known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


# ---- Overlaps ------------------------------------------------------------------------------------


def box_area(boxes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = boxes.astype(float).T
    return (x2 - x1) * (y2 - y1)


def box_overlaps(boxes: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU (D, G), and the share of each detection's area that lies in each truth (D, G)."""
    boxes, truths = boxes.astype(float), truths.astype(float)
    top_left = np.maximum(boxes[:, None, :2], truths[:, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], truths[:, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    area = np.broadcast_to(box_area(boxes)[:, None], intersection.shape)
    union = area + box_area(truths) - intersection
    meet = intersection > 0  # where they do not, the areas may be 0
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=meet)
    return iou, np.divide(intersection, area, out=np.zeros_like(union), where=meet)


@dataclass
class Pool:
    """All images end to end: D detections, G truths, and the P pairs that could match.

    A pair is of one image and label, and overlaps by 0.5 or more in one of the two measures.
    """

    labels: np.ndarray  # (D,)
    scores: np.ndarray  # (D,)
    areas: np.ndarray  # (D,)
    ranks: np.ndarray  # (D,) place by score among those of the same image and label
    by_label: list[np.ndarray]  # detections of each label, best first; ties in images' order
    truth_labels: np.ndarray  # (G,)
    truth_areas: np.ndarray  # (G,)
    crowd: np.ndarray  # (G,)
    difficult: np.ndarray  # (G,)
    pairs: np.ndarray  # (2, P) detection and truth
    iou: np.ndarray  # (P,)
    coco_iou: np.ndarray  # (P,) IoU; with a crowd, the share of the detection inside it


def pool_images(
    truths: Sequence[Truth], predictions: Sequence[Predictions], num_labels: int
) -> Pool:
    pairs, ious, coco_ious = [], [], []
    first = np.zeros((2, 1), int)  # of this image's detections and truths
    for truth, found in zip(truths, predictions, strict=True):
        iou, inside = box_overlaps(found.boxes, truth.boxes)
        coco_iou = np.where(truth.crowd, inside, iou)
        near = np.maximum(iou, coco_iou) >= IOU_THRESHOLDS[0]
        pair = np.nonzero(near & (found.labels[:, None] == truth.labels))
        pairs.append(np.stack(pair) + first)
        ious.append(iou[pair])
        coco_ious.append(coco_iou[pair])
        first = first + [[len(found.labels)], [len(truth.labels)]]

    labels = np.concatenate([p.labels for p in predictions]).astype(int)
    scores = np.concatenate([p.scores for p in predictions])
    images = np.repeat(np.arange(len(predictions)), [len(p.labels) for p in predictions])
    group = labels * len(predictions) + images
    order = np.lexsort((-scores, group))
    ranks = np.empty(len(labels), int)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(group[order], group[order])
    by_score = np.lexsort((-scores, labels))
    label_starts = np.searchsorted(labels[by_score], np.arange(1, num_labels))
    truth_areas = [box_area(t.boxes) if t.area is None else t.area for t in truths]
    return Pool(
        labels=labels,
        scores=scores,
        areas=np.concatenate([box_area(p.boxes) for p in predictions]),
        ranks=ranks,
        by_label=np.split(by_score, label_starts),
        truth_labels=np.concatenate([t.labels for t in truths]).astype(int),
        truth_areas=np.concatenate(truth_areas),
        crowd=np.concatenate([t.crowd for t in truths]).astype(bool),
        difficult=np.concatenate([t.difficult for t in truths]).astype(bool),
        pairs=np.concatenate(pairs, axis=1),
        iou=np.concatenate(ious),
        coco_iou=np.concatenate(coco_ious),
    )


@dataclass
class Matches:
    """What came of each detection (D,), or at each IoU threshold (T, D), and the truths that count.

    A detection that neither hits nor is ignored is a false positive.
    """

    hits: np.ndarray  # (..., D) bool
    ignored: np.ndarray  # (..., D) bool
    num_truths: np.ndarray  # (K,)

    @property
    def known_labels(self) -> list[int]:
        return [k for k, count in enumerate(self.num_truths) if count]

    def curve(self, label: int, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall (..., D') after each of the label's detections `found` (D',)."""
        hits, ignored = self.hits[..., found], self.ignored[..., found]
        true = np.cumsum(hits, axis=-1)
        false = np.cumsum(~hits & ~ignored, axis=-1)
        return true / (true + false + np.spacing(1)), true / self.num_truths[label]


def best_precision_from(precision: np.ndarray) -> np.ndarray:
    """The best precision (..., D) at this or any later detection, so at this recall or more."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


# ---- COCO ----------------------------------------------------------------------------------------


def match_coco(pool: Pool, area_range: tuple[float, float]) -> Matches:
    """pycocotools' greedy matching, at each IoU threshold.

    In each image and label the best-scored detection chooses first: the free truth with the
    highest IoU, the last of equals; an ignored truth only when no other is left. A crowd stays
    free. Crowds and truths outside the area range are ignored; so are detections matched to
    them, and unmatched detections outside the range.
    """
    low, high = area_range
    truth_ignored = pool.crowd | (pool.truth_areas < low) | (pool.truth_areas > high)
    outside = (pool.areas < low) | (pool.areas > high)
    choices = np.flatnonzero(pool.ranks[pool.pairs[0]] < MAX_DETECTIONS[-1])
    detections, truths = pool.pairs[:, choices]
    iou = pool.coco_iou[choices]
    ranks = pool.ranks[detections]
    order = np.lexsort((-truths, -iou, truth_ignored[truths], detections, ranks))
    detections, truths, ranks = detections[order], truths[order], ranks[order]
    reaches = iou[order] >= IOU_THRESHOLDS[:, None]

    hits = np.zeros((len(IOU_THRESHOLDS), len(outside)), bool)
    ignored = np.tile(outside, (len(IOU_THRESHOLDS), 1))
    taken = np.zeros((len(IOU_THRESHOLDS), len(truth_ignored)), bool)
    # Detections of one rank are of different images or labels, so they all choose at once.
    starts = np.searchsorted(ranks, np.unique(ranks))
    for start, stop in pairwise([*starts, len(order)]):
        truth = truths[start:stop]
        free = reaches[:, start:stop] & (pool.crowd[truth] | ~taken[:, truth])
        place = np.where(free, np.arange(start, stop), len(order))
        firsts = np.flatnonzero(np.diff(detections[start:stop], prepend=-1))
        choice = np.minimum.reduceat(place, firsts, axis=1)
        threshold, chooser = np.nonzero(choice < len(order))
        pair = choice[threshold, chooser]
        taken[threshold, truths[pair]] = True
        hits[threshold, detections[pair]] = ~truth_ignored[truths[pair]]
        ignored[threshold, detections[pair]] = truth_ignored[truths[pair]]
    counted = pool.truth_labels[~truth_ignored]
    return Matches(hits, ignored, np.bincount(counted, minlength=len(pool.by_label)))


def coco_precision_recall(pool: Pool, matches: list[Matches]) -> tuple[np.ndarray, np.ndarray]:
    """Precision at RECALLS (A, K, T, 101), recall by MAX_DETECTIONS (A, K, T, 3); nan: no truth."""
    shape = len(matches), len(pool.by_label), len(IOU_THRESHOLDS)
    precision = np.full((*shape, len(RECALLS)), np.nan)
    recall = np.full((*shape, len(MAX_DETECTIONS)), np.nan)
    for a, match in enumerate(matches):
        for k in match.known_labels:
            found = coco_detections(pool, k)
            precision[a, k] = precision_at_recalls(*match.curve(k, found))
            for m, most in enumerate(MAX_DETECTIONS):
                kept = found[pool.ranks[found] < most]
                hits = np.count_nonzero(match.hits[:, kept], axis=1)
                recall[a, k, :, m] = hits / match.num_truths[k]
    return precision, recall


def coco_detections(pool: Pool, label: int) -> np.ndarray:
    found = pool.by_label[label]
    return found[pool.ranks[found] < MAX_DETECTIONS[-1]]


def precision_at_recalls(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The best precision (T, 101) from each of RECALLS on, 0 where that is not reached."""
    padded = np.pad(best_precision_from(precision), ((0, 0), (0, 1)))
    places = [np.searchsorted(reached, RECALLS) for reached in recall]
    return np.take_along_axis(padded, np.stack(places), axis=1)


def coco_summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    at_75 = int(np.argmin(np.abs(IOU_THRESHOLDS - 0.75)))
    return {
        "map_50_95_coco101": known_mean(precision[0]),
        "ap50_coco101": known_mean(precision[0, :, 0]),
        "ap75_coco101": known_mean(precision[0, :, at_75]),
        "ap_small_coco101": known_mean(precision[1]),
        "ap_medium_coco101": known_mean(precision[2]),
        "ap_large_coco101": known_mean(precision[3]),
        "ar1_coco": known_mean(recall[0, ..., 0]),
        "ar10_coco": known_mean(recall[0, ..., 1]),
        "ar100_coco": known_mean(recall[0, ..., 2]),
        "ar_small_coco": known_mean(recall[1, ..., 2]),
        "ar_medium_coco": known_mean(recall[2, ..., 2]),
        "ar_large_coco": known_mean(recall[3, ..., 2]),
    }


# ---- VOC -----------------------------------------------------------------------------------------


def match_voc(pool: Pool) -> Matches:
    """The matching of the VOC development kit, at IoU 0.5.

    A detection stands for the truth it overlaps most, taken or not: the first on a truth is a
    hit, a second is false, and all on an ignored truth are ignored.
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
    in_turn = np.concatenate(pool.by_label)
    in_turn = in_turn[claims[in_turn] >= 0]
    _, first = np.unique(claims[in_turn], return_index=True)
    hits = np.zeros(len(pool.labels), bool)
    hits[in_turn[first]] = True
    counted = pool.truth_labels[~truth_ignored]
    num_truths = np.bincount(counted, minlength=len(pool.by_label))
    return Matches(hits & ~ignored, ignored, num_truths)


def voc_average_precision(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """AP of each label (K,) at 11 recalls, and as area; nan where no truth counts."""
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


# ---- Pictures ------------------------------------------------------------------------------------


def coco_curves(
    pool: Pool, match: Matches, label_names: Sequence[str]
) -> dict[str, PrecisionRecall]:
    """The curve of each label with truth, from the matches of all areas."""
    curves = {}
    for k in match.known_labels:
        found = coco_detections(pool, k)
        found = found[~match.ignored[0, found]]
        precision, recall = match.curve(k, found)
        curves[label_names[k]] = PrecisionRecall(recall[0], precision[0], pool.scores[found])
    return curves


def confusion_matrix(
    truths: Sequence[Truth],
    predictions: Sequence[Predictions],
    num_labels: int,
    threshold: float,
) -> np.ndarray:
    """Counts (K + 1, K + 1): rows are truths, columns predictions, the last of each background.

    Only predictions that score `threshold` or more take part. In each image the pair of any
    labels with the highest IoU (of equals, the best score) is matched first, each box once, down
    to an IoU of 0.5. An unmatched truth is predicted background (missed); an unmatched prediction
    is background predicted as something. Crowd and difficult truths are left out, and so is an
    unmatched prediction that overlaps one: IoU, or the share of it inside the crowd, of 0.5.
    """
    matrix = np.zeros((num_labels + 1, num_labels + 1), int)
    for truth, found in zip(truths, predictions, strict=True):
        sure = found.scores >= threshold
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
