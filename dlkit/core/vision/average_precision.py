"""Average precision as COCO defines it, in NumPy, for any measure of overlap.

The results equal those of pycocotools (Lin et al. 2014, https://cocodataset.org/#detection-eval):
greedy matching by score at ten IoU thresholds, precision read at 101 recalls.

Shapes: D detections, G truths, P pairs of both, K labels, T IoU thresholds, A area ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.scores import known_mean

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = (1, 10, 100)
MAX_LABELS = 20_000  # whose curves are kept in memory
AREA_RANGES = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}

_COCO = "COCO, 100 detections an image and label, crowds ignored"
_RECALL = "COCO recall, mean over IoU 0.50, 0.55 ... 0.95 and labels, at most"
COCO_DEFINITIONS = {
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
}


@dataclass(frozen=True)
class Overlaps:
    """The detections and truths of one image, and their overlaps.

    `inside` is the share of each detection that lies in each truth. COCO ignores a crowd and does
    not know `difficult`; Pascal VOC ignores both. Areas sort objects into small, medium and large.
    """

    iou: np.ndarray  # (D, G)
    inside: np.ndarray  # (D, G)
    labels: np.ndarray  # (D,) int
    scores: np.ndarray  # (D,)
    areas: np.ndarray  # (D,)
    truth_labels: np.ndarray  # (G,) int
    truth_areas: np.ndarray  # (G,)
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool


@dataclass
class Pool:
    """All images concatenated: D detections, G truths, and the P pairs that could match.

    A pair belongs to one image and label, and overlaps by 0.5 or more in one of the two measures.
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


def pool_overlaps(images: Sequence[Overlaps], num_labels: int) -> Pool:
    """Concatenate the detections and truths of all images."""
    pairs, ious, coco_ious = [], [], []
    first = np.zeros((2, 1), int)  # of this image's detections and truths
    for image in images:
        coco_iou = np.where(image.crowd, image.inside, image.iou)
        near = np.maximum(image.iou, coco_iou) >= IOU_THRESHOLDS[0]
        pair = np.nonzero(near & (image.labels[:, None] == image.truth_labels))
        pairs.append(np.stack(pair) + first)
        ious.append(image.iou[pair])
        coco_ious.append(coco_iou[pair])
        first = first + [[len(image.labels)], [len(image.truth_labels)]]

    labels = np.concatenate([image.labels for image in images]).astype(int)
    scores = np.concatenate([image.scores for image in images])
    numbers = np.repeat(np.arange(len(images)), [len(image.labels) for image in images])
    group = labels * len(images) + numbers
    order = np.lexsort((-scores, group))
    ranks = np.empty(len(labels), int)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(group[order], group[order])
    by_score = np.lexsort((-scores, labels))
    label_starts = np.searchsorted(labels[by_score], np.arange(1, num_labels))
    return Pool(
        labels=labels,
        scores=scores,
        areas=np.concatenate([image.areas for image in images]),
        ranks=ranks,
        by_label=np.split(by_score, label_starts),
        truth_labels=np.concatenate([image.truth_labels for image in images]).astype(int),
        truth_areas=np.concatenate([image.truth_areas for image in images]),
        crowd=np.concatenate([image.crowd for image in images]).astype(bool),
        difficult=np.concatenate([image.difficult for image in images]).astype(bool),
        pairs=np.concatenate(pairs, axis=1),
        iou=np.concatenate(ious),
        coco_iou=np.concatenate(coco_ious),
    )


@dataclass
class Matches:
    """The outcome of each detection (D,), or at each IoU threshold (T, D), and the truths counted.

    A detection that neither hits nor is ignored is a false positive.
    """

    hits: np.ndarray  # (..., D) bool
    ignored: np.ndarray  # (..., D) bool
    num_truths: np.ndarray  # (K,)

    @property
    def known_labels(self) -> list[int]:
        """The labels that have truths."""
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
    if len(pool.by_label) > MAX_LABELS:
        raise DlkitError(f"{len(pool.by_label)} labels; COCO's scores take {MAX_LABELS} at most")
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
    """The detections of a label that COCO counts: the 100 best of each image."""
    found = pool.by_label[label]
    counted: np.ndarray = found[pool.ranks[found] < MAX_DETECTIONS[-1]]
    return counted


def precision_at_recalls(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The best precision (T, 101) from each of RECALLS on, 0 where that is not reached."""
    padded = np.pad(best_precision_from(precision), ((0, 0), (0, 1)))
    places = [np.searchsorted(reached, RECALLS) for reached in recall]
    return np.take_along_axis(padded, np.stack(places), axis=1)


def coco_summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """The means over IoU thresholds and labels that COCO reports."""
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
