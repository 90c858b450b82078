"""COCO's average precision of instance masks.

Shapes: D detections and G ground-truth objects of one image of H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlkit.core.vision.average_precision import (
    AREA_RANGES,
    Overlaps,
    coco_precision_recall,
    coco_summary,
    match_coco,
    pool_overlaps,
)
from dlkit.segment.masks import ObjectMask


@dataclass(frozen=True)
class InstanceMetrics:
    """Mask metrics overall and per label; the keys are those of COCO_DEFINITIONS."""

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]


def mask_overlaps(
    masks: np.ndarray, labels: np.ndarray, scores: np.ndarray, truths: Sequence[ObjectMask]
) -> Overlaps:
    """The overlaps of masks (D, H, W) with labels and scores (D,) with the ground truth."""
    pixels = int(np.prod(masks.shape[1:]))
    found = masks.reshape(len(masks), pixels).astype(np.float32)
    true = np.array([t.mask for t in truths], np.float32).reshape(len(truths), pixels)
    common = (found @ true.T).astype(float)
    areas, true_areas = found.sum(axis=1, dtype=float), true.sum(axis=1, dtype=float)
    union = areas[:, None] + true_areas - common
    return Overlaps(
        iou=np.divide(common, union, out=np.zeros_like(common), where=union > 0),
        inside=np.divide(
            common, areas[:, None], out=np.zeros_like(common), where=areas[:, None] > 0
        ),
        labels=labels.astype(int),
        scores=scores,
        areas=areas,
        truth_labels=np.array([t.label for t in truths], int),
        truth_areas=np.array([t.area for t in truths], float),
        crowd=np.array([t.crowd for t in truths], bool),
        difficult=np.zeros(len(truths), bool),
    )


def instance_metrics(images: Sequence[Overlaps], label_names: Sequence[str]) -> InstanceMetrics:
    """The twelve metrics of pycocotools, and two per label; nan without ground truth."""
    pool = pool_overlaps(images, len(label_names))
    matches = [match_coco(pool, area_range) for area_range in AREA_RANGES.values()]
    precision, recall = coco_precision_recall(pool, matches)
    per_label = {
        name: {
            "map_50_95_coco101": float(precision[0, k].mean()),
            "ap50_coco101": float(precision[0, k, 0].mean()),
        }
        for k, name in enumerate(label_names)
    }
    return InstanceMetrics(coco_summary(precision, recall), per_label)
