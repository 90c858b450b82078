"""COCO numbers against pycocotools on random data; VOC and the confusion matrix by hand."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dlkit.core.vision.average_precision import AREA_RANGES, coco_precision_recall, match_coco
from dlkit.detect.metrics import (
    DEFINITIONS,
    PrecisionRecall,
    Predictions,
    Truth,
    best_thresholds,
    box_area,
    confusion_matrix,
    detection_metrics,
    pool_images,
)

LABELS = ["cat", "dog", "bird", "fish"]


SUMMARY_ORDER = list(DEFINITIONS)[:12]  # as in COCOeval.stats


def truth(*objects: tuple[Sequence[float], int], crowd: str = "", difficult: str = "") -> Truth:
    """Boxes with labels; `crowd` and `difficult` name those objects by their digits."""
    return Truth(
        boxes=np.array([box for box, _ in objects], float).reshape(-1, 4),
        labels=np.array([label for _, label in objects], int),
        crowd=np.array([str(i) in crowd for i in range(len(objects))], bool),
        difficult=np.array([str(i) in difficult for i in range(len(objects))], bool),
    )


def predictions(*detections: tuple[float, Sequence[float], int]) -> Predictions:
    return Predictions(
        boxes=np.array([box for _, box, _ in detections], float).reshape(-1, 4),
        labels=np.array([label for _, _, label in detections], int),
        scores=np.array([score for score, _, _ in detections], float),
    )


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(8), np.log(250), (count, 2)))
    corners = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1)


def snap(boxes: np.ndarray, grid: float) -> np.ndarray:
    """Whole multiples of `grid` pixels make IoUs exact, so that equals occur; 0 leaves them be."""
    boxes = np.round(boxes / grid) * grid if grid else boxes
    return np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)], axis=1)


def random_case(
    seed: int, images: int, objects: int, strays: int, grid: float = 0
) -> tuple[list[Truth], list[Predictions]]:
    """Up to `objects` truths an image, each detected 0 to 2 times, and up to `strays` beside them.

    The last label has no truth. Half of the truths are near doubles of the others. Odd seeds give
    areas smaller than the boxes; two seeds of three give tied scores.
    """
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        num_objects, num_strays = rng.integers(0, [objects + 1, strays + 1])
        boxes = random_boxes(rng, num_objects)
        doubles = num_objects // 2
        boxes[:doubles] = boxes[num_objects - doubles :] + rng.normal(0, 4, (doubles, 4))
        boxes = snap(boxes, grid)
        labels = rng.integers(0, len(LABELS) - 1, num_objects)
        detected = np.repeat(np.arange(num_objects), rng.integers(0, 3, num_objects))
        noise = rng.normal(0, rng.choice([0.5, 4, 12]), (len(detected), 4))
        strange = random_boxes(rng, num_strays), rng.integers(0, len(LABELS), num_strays)
        scores = rng.random(len(detected) + num_strays)
        truths.append(
            Truth(
                boxes,
                labels,
                crowd=rng.random(num_objects) < 0.2,
                difficult=rng.random(num_objects) < 0.2,
                area=rng.uniform(0.3, 1, num_objects) * box_area(boxes) if seed % 2 else None,
            )
        )
        found.append(
            Predictions(
                boxes=snap(np.concatenate([boxes[detected] + noise, strange[0]]), grid),
                labels=np.concatenate([labels[detected], strange[1]]),
                scores=scores.round(1) if seed % 3 else scores,
            )
        )
    return truths, found


def annotation(image: int, box: np.ndarray, label: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    sides = x2 - x1, y2 - y1
    row = {"image_id": image, "category_id": int(label), "iscrowd": 0}
    return {**row, "bbox": [x1, y1, *sides], "area": sides[0] * sides[1]}


def pycocotools_evaluation(truths: list[Truth], found: list[Predictions]) -> COCOeval:
    truth_rows, found_rows = [], []
    for image, (target, detected) in enumerate(zip(truths, found, strict=True)):
        for i, (box, label) in enumerate(zip(target.boxes, target.labels, strict=True)):
            truth_rows.append(annotation(image, box, label) | {"iscrowd": int(target.crowd[i])})
            if target.area is not None:
                truth_rows[-1]["area"] = float(target.area[i])
        for box, label, score in zip(detected.boxes, detected.labels, detected.scores, strict=True):
            found_rows.append(annotation(image, box, label) | {"score": float(score)})

    with contextlib.redirect_stdout(io.StringIO()):
        datasets = []
        for rows in [truth_rows, found_rows]:
            coco = COCO()
            coco.dataset = {
                "images": [{"id": image} for image in range(len(truths))],
                "categories": [{"id": k, "name": name} for k, name in enumerate(LABELS)],
                # From 1: COCOeval takes the id 0 for "no match".
                "annotations": [row | {"id": i} for i, row in enumerate(rows, start=1)],
            }
            coco.createIndex()
            datasets.append(coco)
        evaluation = COCOeval(*datasets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equals_pycocotools(truths: list[Truth], found: list[Predictions]) -> None:
    expected = pycocotools_evaluation(truths, found)
    metrics = detection_metrics(truths, found, LABELS)
    ours = [metrics.summary[key] for key in SUMMARY_ORDER]
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), expected.stats, atol=1e-6, rtol=0)

    pool = pool_images(truths, found, len(LABELS))
    matches = [match_coco(pool, area_range) for area_range in AREA_RANGES.values()]
    precision, recall = (np.nan_to_num(x, nan=-1) for x in coco_precision_recall(pool, matches))
    # pycocotools: precision (T, R, K, A, M) and recall (T, K, A, M); ours (A, K, T, R or M).
    their_precision = expected.eval["precision"][..., -1].transpose(3, 2, 0, 1)
    their_recall = expected.eval["recall"].transpose(2, 1, 0, 3)
    np.testing.assert_allclose(precision, their_precision, atol=1e-6, rtol=0)
    np.testing.assert_allclose(recall, their_recall, atol=1e-6, rtol=0)
    for k, name in enumerate(LABELS):
        ap = np.nan_to_num(list(metrics.per_label[name].values())[:2], nan=-1)
        theirs = their_precision[0, k].mean(), their_precision[0, k, 0].mean()
        np.testing.assert_allclose(ap, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("grid", [0, 1, 16])
@pytest.mark.parametrize("seed", range(24))
def test_coco_equals_pycocotools(seed: int, grid: float) -> None:
    assert_equals_pycocotools(*random_case(seed, images=6, objects=9, strays=8, grid=grid))


@pytest.mark.parametrize("seed", range(4))
def test_coco_equals_pycocotools_above_100_detections(seed: int) -> None:
    truths, found = random_case(seed, images=3, objects=12, strays=1500, grid=8)
    assert max(np.bincount(p.labels).max() for p in found) > 100
    assert_equals_pycocotools(truths, found)


@pytest.mark.parametrize("strays", [0, 6])
def test_without_truth_all_is_nan(strays: int) -> None:
    truths, found = random_case(1, images=3, objects=0, strays=strays)
    assert_equals_pycocotools(truths, found)
    metrics = detection_metrics(truths, found, LABELS)
    assert np.isnan(list(metrics.summary.values())).all()
    assert not metrics.curves


def test_without_detections_all_is_zero() -> None:
    truths, _ = random_case(3, images=6, objects=9, strays=0)
    found = [predictions()] * len(truths)
    assert_equals_pycocotools(truths, found)
    metrics = detection_metrics(truths, found, LABELS)
    measured = [value for value in metrics.summary.values() if not np.isnan(value)]
    assert set(measured) == {0}
    assert metrics.curves["cat"].recall.size == 0


def test_every_number_is_defined() -> None:
    truths, found = random_case(2, images=6, objects=9, strays=8)
    metrics = detection_metrics(truths, found, LABELS)
    assert list(metrics.summary) == list(DEFINITIONS)
    assert metrics.per_label["cat"].keys() <= DEFINITIONS.keys()
    assert list(metrics.per_label) == LABELS
    assert np.isnan(list(metrics.per_label["fish"].values())).all()


def test_curve_has_a_point_for_each_detection_that_counts() -> None:
    truths = [truth(([0, 0, 10, 10], 0), ([20, 0, 30, 10], 0), ([50, 0, 90, 40], 0), crowd="2")]
    found = [
        predictions(
            (0.9, [20, 0, 30, 5], 0),  # IoU 0.5
            (0.8, [60, 10, 70, 20], 0),  # inside the crowd: ignored
            (0.7, [60, 20, 70, 30], 0),  # so is this
            (0.6, [20, 0, 30, 10], 0),  # a second on a matched truth
            (0.5, [0, 0, 10, 10], 0),
        )
    ]
    curve = detection_metrics(truths, found, LABELS).curves["cat"]
    np.testing.assert_allclose(curve.scores, [0.9, 0.6, 0.5])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1])


def voc(truths: list[Truth], found: list[Predictions]) -> tuple[float, float]:
    ap = detection_metrics(truths, found, LABELS).per_label["cat"]
    return ap["ap50_voc11"], ap["ap50_voc_area"]


def test_voc_with_a_difficult_truth_and_a_double_detection() -> None:
    truths = [
        truth(([0, 0, 10, 10], 0), ([20, 0, 30, 10], 0), ([40, 0, 50, 10], 0), difficult="2"),
        truth(([0, 0, 10, 10], 0), ([20, 0, 30, 10], 0)),
    ]
    found = [
        # Four truths count.                precision  recall
        predictions(
            (0.9, [0, 0, 10, 10], 0),  # hit            1/1  1/4
            (0.8, [0, 0, 10, 8], 0),  # double          1/2  1/4
            (0.7, [40, 0, 50, 10], 0),  # difficult       -    -
            (0.4, [20, 0, 30, 10], 0),  # hit           3/5  3/4
        ),
        predictions(
            (0.6, [0, 0, 10, 5], 0),  # hit, IoU 0.5    2/3  2/4
            (0.5, [90, 0, 99, 10], 0),  # nothing there 2/4  2/4
        ),
    ]
    at_11, area = voc(truths, found)
    # Best precision 1 at recalls 0, 0.1, 0.2; 2/3 at 0.3, 0.4, 0.5; 3/5 at 0.6, 0.7; then 0.
    assert at_11 == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)  # 0.5636
    assert area == pytest.approx(1 / 4 * 1 + 1 / 4 * 2 / 3 + 1 / 4 * 3 / 5)  # 0.5667


def test_voc_compares_with_the_nearest_truth_even_if_taken() -> None:
    truths = [truth(([0, 0, 10, 10], 0), ([0, 0, 10, 8], 0))]
    found = [predictions((0.9, [0, 0, 10, 10], 0), (0.8, [0, 0, 10, 9.2], 0))]
    # The second has IoU 0.92 with the first truth and 0.87 with the free one: false for VOC.
    assert voc(truths, found) == (pytest.approx(6 / 11), pytest.approx(1 / 2))
    # COCO gives it the free one.
    assert detection_metrics(truths, found, LABELS).summary["ap50_coco101"] == pytest.approx(1)


def test_voc_recall_of_exactly_a_tenth_counts() -> None:
    truths = [truth(*[([20 * i, 0, 20 * i + 10, 10], 0) for i in range(10)])]
    found = [predictions(*[(0.9, [20 * i, 0, 20 * i + 10, 10], 0) for i in range(3)])]
    assert voc(truths, found) == (pytest.approx(4 / 11), pytest.approx(3 / 10))


def test_voc_has_no_limit_of_100_detections() -> None:
    truths = [truth(([0, 0, 10, 10], 0))]
    strays = [(0.9, [50, 50, 60, 60], 0)] * 100
    found = [predictions(*strays, (0.1, [0, 0, 10, 10], 0))]
    assert voc(truths, found) == (pytest.approx(1 / 101), pytest.approx(1 / 101))
    assert detection_metrics(truths, found, LABELS).summary["ap50_coco101"] == 0


def test_voc_mean_leaves_out_labels_of_difficult_truth_only() -> None:
    truths = [truth(([0, 0, 10, 10], 0), ([20, 0, 30, 10], 1), difficult="1")]
    found = [predictions((0.9, [0, 0, 10, 10], 0), (0.9, [20, 0, 30, 10], 1))]
    metrics = detection_metrics(truths, found, LABELS)
    assert np.isnan(metrics.per_label["dog"]["ap50_voc_area"])
    assert metrics.summary["ap50_voc_area"] == pytest.approx(1)


def test_equal_overlaps_choose_the_last_truth_for_coco_and_the_first_for_voc() -> None:
    truths = [truth(([0, 0, 20, 10], 0), ([10, 0, 30, 10], 0))]
    # The first detection has IoU 2/3 with both truths, the second 1 with the second alone.
    found = [predictions((0.9, [0, 0, 30, 10], 0), (0.8, [10, 0, 30, 10], 0))]
    assert_equals_pycocotools(truths, found)
    # COCO: one truth is found, so the precision is 1 at recalls 0, 0.01 ... 0.50.
    assert detection_metrics(truths, found, LABELS).summary["ap50_coco101"] == pytest.approx(
        51 / 101
    )
    assert voc(truths, found) == (pytest.approx(1), pytest.approx(1))


def test_confusion_matrix() -> None:
    cat, dog = 0, 1
    truths = [
        truth(
            ([0, 0, 10, 10], cat),
            ([20, 0, 30, 10], dog),
            ([40, 0, 50, 10], cat),
            ([60, 0, 70, 10], dog),
            ([80, 0, 120, 40], dog),
            difficult="3",
            crowd="4",
        ),
        truth(),
        truth(([0, 0, 10, 10], dog)),
    ]
    found = [
        predictions(
            (0.5, [0, 0, 10, 10], cat),  # cat seen as cat
            (0.9, [0, 0, 10, 9], dog),  # scores more but fits less: background seen as dog
            (0.7, [20, 0, 30, 10], cat),  # dog seen as cat
            (0.2, [40, 0, 50, 10], cat),  # below the threshold: cat seen as background
            (0.6, [60, 0, 70, 10], dog),  # on a difficult truth: left out
            (0.6, [85, 5, 95, 15], dog),  # in a crowd: left out
            (0.4, [200, 0, 210, 10], cat),  # background seen as cat
        ),
        predictions((0.9, [0, 0, 10, 10], dog)),  # background seen as dog
        predictions(),  # dog seen as background
    ]
    expected = [
        [1, 0, 1],
        [1, 0, 1],
        [1, 2, 0],
    ]
    np.testing.assert_array_equal(confusion_matrix(truths, found, 2, 0.4), expected)


def test_confusion_matrix_has_a_threshold_of_each_label() -> None:
    truths = [truth(([0, 0, 10, 10], 0), ([20, 0, 30, 10], 1))]
    found = [predictions((0.5, [0, 0, 10, 10], 0), (0.5, [20, 0, 30, 10], 1))]
    matrix = confusion_matrix(truths, found, 2, np.array([0.5, 0.6]))
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_best_thresholds_have_the_highest_f_half() -> None:
    curves = {
        # F0.5 at 0.9: 1.25 * 1 * 0.25 / (0.25 + 0.25) = 0.625; at 0.6, of 2 / 3 and 0.5: 0.625;
        # at 0.5, of 3 / 4 and 0.75: 0.75; at 0.2, of 4 / 8 and 1: 0.556.
        "cat": PrecisionRecall(
            np.array([0.25, 0.5, 0.75, 1]),
            np.array([1, 2 / 3, 3 / 4, 1 / 2]),
            np.array([0.9, 0.6, 0.5, 0.2]),
        ),
        "dog": PrecisionRecall(np.zeros(2), np.zeros(2), np.array([0.9, 0.8])),
        "cow": PrecisionRecall(np.zeros(0), np.zeros(0), np.zeros(0)),
    }
    assert best_thresholds(curves) == {"cat": 0.5}


def test_confusion_matrix_gives_equal_boxes_to_the_best_score() -> None:
    truths = [truth(([0, 0, 10, 10], 0))]
    found = [predictions((0.5, [0, 0, 10, 10], 0), (0.6, [0, 0, 10, 10], 1))]
    matrix = confusion_matrix(truths, found, 2, 0.4)
    np.testing.assert_array_equal(matrix, [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
