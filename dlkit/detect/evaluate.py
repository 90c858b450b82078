"""Evaluation of detectors on annotated images: scores and plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dlkit.core.config import allowed_share
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import plots
from dlkit.core.io.files import check_free_in, draw_beside
from dlkit.core.io.scores import Score, rounded
from dlkit.core.ledger import Ledger
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.detect import keypoint_data, keypoints
from dlkit.detect.draw import draw_boxes
from dlkit.detect.infer import load
from dlkit.detect.layouts import BoxSample, read_split
from dlkit.detect.metrics import (
    DEFINITIONS,
    DetectionMetrics,
    Predictions,
    Truth,
    confusion_matrix,
    detection_metrics,
)
from dlkit.detect.options import DEFAULT_OPTIONS, DetectOptions, Suppression
from dlkit.detect.predictor import Detector, Predictor, min_scores

# Average precision also counts detections of low score, and so needs milder suppression than
# printed results; COCO counts 100 detections an image.
EVALUATION_OPTIONS = DetectOptions(
    threshold=0.005, suppression=Suppression(iou=0.6), max_detections=100
)
CURVES, CONFUSION = "precision-recall.png", "confusion.png"  # files of --save
EXAMPLES = 8  # images in the grid
EXAMPLE_CAPTIONS = ["truth", "prediction"]


@dataclass(frozen=True)
class Evaluation:
    """The metrics and the confusion matrix (C + 1, C + 1) of what `dlkit detect` would print."""

    metrics: DetectionMetrics
    confusion: np.ndarray


def evaluate(
    detector: Detector, samples: Sequence[BoxSample], process: Process, workers: int = 2
) -> Evaluation:
    """COCO's and VOC's metrics of a detector on annotated images, the same in every process."""
    paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
    predictor = Predictor(detector, replace(EVALUATION_OPTIONS, workers=workers))
    found = process.gather(predictor.predict(paths))
    truths, predictions, ledger = [], [], Ledger("evaluation")
    for s, (path, picture, (boxes, scores, labels)) in zip(samples, found, strict=True):
        if isinstance(picture, Failure):
            ledger.skip("images", picture.error, path)
            continue
        truths.append(Truth(s.boxes, s.labels, s.crowd, s.difficult, s.areas))
        predictions.append(Predictions(boxes.numpy(), labels.numpy(), scores.numpy()))
        ledger.use("images")
    if ledger.places:
        ledger.report()
    if not truths:
        raise DlkitError("evaluation: none of the images can be read; check the data")
    return Evaluation(
        detection_metrics(truths, predictions, detector.labels),
        confusion_matrix(
            truths, predictions, len(detector.labels), min_scores(detector, DEFAULT_OPTIONS).numpy()
        ),
    )


def evaluate_checkpoint(
    data: Sequence[str],
    split: str,
    model: str,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    allow_skipped: float | None = None,
) -> Iterator[Score | Failure]:
    """The scores of a model on one split, overall and per label; plots are written to `save`.

    A plot that cannot be drawn or written is a Failure after the scores.
    """
    detector, allowed = load(model, device, precision), allowed_share(allow_skipped)
    folder = Path(data[0])
    if keypoints.finds_keypoints(detector):
        yield from evaluate_keypoints(folder, split, detector, save, workers, allowed)
        return
    annotated = read_split(folder, split, detector.labels, detector.draw, allowed)
    if not any(len(sample.boxes) for sample in annotated.samples):
        raise DlkitError(
            f"no box of {split!r} has a label of the model; its labels are"
            f" {', '.join(detector.labels)}",
            folder,
        )
    check_free_in(save, CURVES, CONFUSION)
    with distributed.launch(device) as process:
        evaluation = evaluate(detector, annotated.samples, process, workers)
    counts = np.bincount(
        np.concatenate([s.labels for s in annotated.samples]), minlength=len(detector.labels)
    )
    for name, value in evaluation.metrics.summary.items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    for label, count in zip(detector.labels, counts, strict=True):
        yield Score("truths", label, int(count), "Annotated objects of this label.")
        for name, value in evaluation.metrics.per_label[label].items():
            yield Score(name, label, rounded(value), DEFINITIONS[name])
    if save is not None and is_main_process():
        yield from draw_beside(save / CURVES, draw_curves, evaluation, save / CURVES)
        names = [*detector.labels, "background"]
        title = "boxes of the default --threshold, IoU 0.5"
        yield from draw_beside(
            save / CONFUSION,
            plots.heat_map,
            evaluation.confusion,
            names,
            names,
            title,
            save / CONFUSION,
        )


def evaluate_keypoints(
    data: Path,
    split: str,
    detector: Detector,
    save: Path | None,
    workers: int,
    allowed: float,
) -> Iterator[Score | Failure]:
    """The scores of a model that finds keypoints, overall and per keypoint."""
    check_free_in(save, keypoints.CURVE)
    labels = detector.labels
    annotated = keypoint_data.read_split(data, split, labels, detector.draw, allowed)
    with distributed.launch(str(detector.device)) as process:
        found = keypoints.evaluate(detector, annotated, process, workers)
    yield from keypoints.to_scores(found, labels)
    if save is not None and is_main_process():
        path = save / keypoints.CURVE
        yield from draw_beside(path, keypoints.save_curve, found, labels, path)


def save_examples(detector: Detector, samples: Sequence[BoxSample], path: Path) -> None:
    """Save a grid of annotated images: the truth, and beside it the prediction, with captions."""
    step = max(1, len(samples) // EXAMPLES)
    chosen = list(samples[::step][:EXAMPLES])
    predictor = Predictor(detector, replace(EVALUATION_OPTIONS, threshold=None, workers=0))
    found = predictor.predict(str(s.path) for s in chosen)
    pairs = []
    for sample, (_, _, (boxes, scores, labels)) in zip(chosen, found, strict=True):
        picture = images.as_pillow(images.read(str(sample.path)))
        names = [detector.labels[label] for label in sample.labels]
        pairs.append(draw_boxes(picture, sample.boxes.tolist(), names, None, detector.labels))
        names = [detector.labels[label] for label in labels]
        pairs.append(draw_boxes(picture, boxes.tolist(), names, scores.tolist(), detector.labels))
    images.save(images.grid(pairs, 4, captions=EXAMPLE_CAPTIONS * len(chosen)), path)


def draw_curves(evaluation: Evaluation, path: Path) -> None:
    """Save the curve of precision and recall of each label."""
    curves = {
        f"{label} (AP50 {evaluation.metrics.per_label[label]['ap50_coco101']:.2f})": (
            curve.recall,
            curve.precision,
        )
        for label, curve in evaluation.metrics.curves.items()
    }
    plots.lines(curves, "recall", "precision", "IoU 0.5", path)
