"""Average precision of masks against pycocotools."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dlkit.core.vision.average_precision import COCO_DEFINITIONS
from dlkit.segment import rle
from dlkit.segment.instance_metrics import instance_metrics, mask_overlaps
from dlkit.segment.masks import ObjectMask
from tests.segment.helpers import COLOR_NAMES


def test_mask_average_precision_is_that_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    truths, predictions = [], []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def blob(cx: float, cy: float, r: float) -> np.ndarray:
        y, x = np.mgrid[:120, :160]
        return np.asarray((x - cx) ** 2 + (y - cy) ** 2 <= r**2)

    for image in range(6):
        objects = []
        masks, labels, scores = [], [], []
        for _ in range(6):
            label, crowd = int(rng.integers(3)), bool(rng.random() < 0.1)
            cx, cy, r = rng.uniform(20, 140), rng.uniform(20, 100), rng.uniform(5, 55)
            mask = blob(cx, cy, r)
            objects.append(ObjectMask(label, mask, float(mask.sum()), crowd))
            about = {"image_id": image, "category_id": label, "iscrowd": int(crowd)}
            code = {**rle.encode(mask)}
            area = int(mask.sum())
            annotations.append(
                {**about, "id": len(annotations) + 1, "area": area, "segmentation": code}
            )
            for _ in range(int(rng.integers(0, 3))):
                near = blob(*(v * rng.uniform(0.9, 1.1) for v in (cx, cy, r)))
                masks.append(near)
                labels.append(label)
                scores.append(round(float(rng.random()), 3))
                results.append(
                    {
                        "image_id": image,
                        "category_id": label,
                        "score": scores[-1],
                        "segmentation": rle.encode(near),
                    }
                )
        truths.append(objects)
        predictions.append((np.array(masks), np.array(labels), np.array(scores)))
    with mock.patch("builtins.print"):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "width": 160, "height": 120} for i in range(6)],
            "annotations": annotations,
            "categories": [{"id": k, "name": COLOR_NAMES[k]} for k in range(3)],
        }
        coco.createIndex()
        theirs = COCOeval(coco, coco.loadRes(results), "segm")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    pool = [mask_overlaps(*p, t) for p, t in zip(predictions, truths, strict=True)]
    ours = instance_metrics(pool, COLOR_NAMES)
    assert list(ours.summary.values()) == pytest.approx(theirs.stats.tolist())
    assert ours.summary.keys() == COCO_DEFINITIONS.keys()
    assert 0.2 < ours.summary["map_50_95_coco101"] < 0.9


def test_images_without_objects_have_no_average_precision() -> None:
    none = mask_overlaps(np.zeros((0, 9, 9), bool), np.zeros(0, int), np.zeros(0), [])
    assert np.isnan(instance_metrics([none], COLOR_NAMES).summary["map_50_95_coco101"])
