"""Evaluation of a segmenter on annotated images, with example images."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

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
from dlkit.core.vision.average_precision import COCO_DEFINITIONS, Overlaps
from dlkit.core.vision.drawing import add_legend
from dlkit.segment.draw import draw_errors, draw_masks, indexed_image
from dlkit.segment.infer import load
from dlkit.segment.instance_metrics import InstanceMetrics, instance_metrics, mask_overlaps
from dlkit.segment.instances import predict_objects
from dlkit.segment.layouts import AnnotatedImage, read_split
from dlkit.segment.metrics import (
    DEFINITIONS,
    LABEL_DEFINITIONS,
    PixelCounts,
    SegmentationMetrics,
    count_pixels,
    segmentation_metrics,
    sum_counts,
)
from dlkit.segment.predictor import InferOptions, InstancePredictor, SemanticPredictor, predict

R = TypeVar("R")

MIN_SCORE = 0.05  # of objects, for average precision, which needs low scores too
EXAMPLES_FILE, CONFUSION = "examples.png", "confusion.png"  # files of --save
NUM_EXAMPLES = 6  # rows of the example grid


def evaluate(
    predictor: SemanticPredictor | InstancePredictor,
    samples: Sequence[AnnotatedImage],
    process: Process,
    workers: int = 2,
) -> SegmentationMetrics | InstanceMetrics:
    """Metrics on annotated images at their original size, equal in every process.

    The boundary F1, which takes longer than all other metrics together, is nan.
    """
    if isinstance(predictor, InstancePredictor):
        return evaluate_instances(predictor, samples, process, workers)
    return segmentation_metrics(
        count_dataset(predictor, samples, process, workers), predictor.labels
    )


def count_dataset(
    predictor: SemanticPredictor,
    samples: Sequence[AnnotatedImage],
    process: Process,
    workers: int = 2,
    boundaries: bool = False,
) -> PixelCounts:
    """The pixel counts of all images, summed over the processes."""
    own = list(process.share(samples))

    def counts() -> Iterator[PixelCounts | Failure]:
        paths = (str(sample.path) for sample in track(own, "evaluating"))
        predictions = predict(predictor, paths, InferOptions(workers=workers))
        for sample, entry in zip(own, predictions, strict=True):
            if isinstance(entry, Failure):
                yield entry
            else:
                truth, labels = sample.truth.mask(), entry[2].labels
                yield count_pixels(truth, labels, len(predictor.labels), boundaries)

    return sum_counts(skip_failures(process.gather(counts())))


def evaluate_instances(
    predictor: InstancePredictor,
    samples: Sequence[AnnotatedImage],
    process: Process,
    workers: int = 2,
) -> InstanceMetrics:
    """COCO's mask metrics on annotated images, equal in every process."""
    own = list(process.share(samples))

    def all_overlaps() -> Iterator[Overlaps | Failure]:
        paths = (str(sample.path) for sample in track(own, "evaluating"))
        predictions = predict_objects(
            predictor, paths, InferOptions(workers=workers, threshold=MIN_SCORE)
        )
        for sample, entry in zip(own, predictions, strict=True):
            if isinstance(entry, Failure):
                yield entry
            else:
                objects, truths = entry[2], sample.truth.objects()
                yield mask_overlaps(objects.masks, objects.labels, objects.scores, truths)

    return instance_metrics(skip_failures(process.gather(all_overlaps())), predictor.labels)


def skip_failures(results: Iterable[R | Failure]) -> list[R]:
    """The results without those of unreadable images, which are reported as skipped."""
    kept: list[R] = []
    ledger = Ledger("evaluation")
    for result in results:
        if isinstance(result, Failure):
            ledger.skip("images", "unreadable image", f"{result.path} ({result.error})")
        else:
            kept.append(result)
            ledger.use("images")
    if ledger.places:
        ledger.report()
    if not kept:
        raise DlkitError("none of the evaluation images can be read; check the files")
    return kept


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
    """Scores of a model on one split of a folder, overall and per class.

    A confusion matrix and example images go to the folder `save`.
    """
    if len(data) != 1:
        raise DlkitError(f"{len(data)} folders to evaluate on; give one")
    folder = Path(data[0])
    predictor = load(model, device, precision)
    instances = isinstance(predictor, InstancePredictor)
    labels, allowed = predictor.labels, allowed_share(allow_skipped)
    samples = read_split(folder, split, labels, instances, predictor.draw, allowed).samples
    if not any(sample.pixels.any() for sample in samples):
        raise DlkitError(
            f"no mask of {split!r} contains a class of the model; its classes are"
            f" {', '.join(predictor.labels)}",
            folder,
        )
    check_free_in(save, EXAMPLES_FILE, CONFUSION)
    with distributed.launch(device) as process:
        if isinstance(predictor, InstancePredictor):
            confusion = None
            scores = instance_scores(evaluate_instances(predictor, samples, process, workers))
        else:
            counts = count_dataset(predictor, samples, process, workers, boundaries=True)
            confusion = counts.confusion
            scores = semantic_scores(counts, predictor.labels)
    yield from scores
    if save is not None and is_main_process():
        path = save / EXAMPLES_FILE
        yield from draw_beside(path, save_examples, predictor, samples, path)
        if confusion is not None:
            labels, title, path = predictor.labels, "pixels, all images together", save / CONFUSION
            yield from draw_beside(path, plots.heat_map, confusion, labels, labels, title, path)


def semantic_scores(counts: PixelCounts, labels: list[str]) -> Iterator[Score]:
    """Scores of a semantic segmentation model, overall and per class."""
    metrics = segmentation_metrics(counts, labels)
    for name, value in metrics.summary.items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    pixels = counts.confusion.sum(axis=1).tolist()
    for label, annotated in zip(labels, pixels, strict=True):
        yield Score("pixels", label, annotated, "Annotated pixels of this class.")
        for name, value in metrics.per_label[label].items():
            yield Score(name, label, rounded(value), LABEL_DEFINITIONS[name])


def instance_scores(metrics: InstanceMetrics) -> Iterator[Score]:
    """Scores of an instance segmentation model, overall and per class."""
    for label, scores in {"all": metrics.summary, **metrics.per_label}.items():
        for name, value in scores.items():
            yield Score(name, label, rounded(value), f"Of masks. {COCO_DEFINITIONS[name]}")


def save_examples(
    predictor: SemanticPredictor | InstancePredictor,
    samples: Sequence[AnnotatedImage],
    path: Path,
) -> None:
    """Write a grid with a row per example: the image, the ground truth, the prediction."""
    step = max(1, len(samples) // NUM_EXAMPLES)
    rows = [
        row
        for sample in samples[::step][:NUM_EXAMPLES]
        if (row := example_row(predictor, sample)) is not None
    ]
    if rows:
        cells = [cell for row in rows for cell in row]
        columns = ["image", "truth", "prediction", "errors in red"][: len(rows[0])]
        sheet = images.grid(cells, len(columns), captions=columns * len(rows))
        if isinstance(predictor, SemanticPredictor):
            legend = list(zip(predictor.labels, predictor.colors, strict=False))
            sheet = add_legend(sheet, legend)
        images.save(sheet, path)


def example_row(
    predictor: SemanticPredictor | InstancePredictor, sample: AnnotatedImage
) -> list[Image.Image] | None:
    """Image, ground truth, prediction (and label errors); None for an unreadable image."""
    path, names = str(sample.path), predictor.labels
    if isinstance(predictor, InstancePredictor):
        (entry,) = predict_objects(predictor, [path], InferOptions(workers=0))
        if isinstance(entry, Failure):
            return None
        picture, objects = images.as_pillow(images.full_size(path, entry[1])), entry[2]
        truths = sample.truth.objects()
        labels = [names[k] for k in objects.labels]
        return [
            picture,
            draw_masks(picture, [t.mask for t in truths], [names[t.label] for t in truths], None),
            draw_masks(picture, objects.masks, labels, objects.scores.tolist()),
        ]
    (prediction,) = predict(predictor, [path], InferOptions(workers=0))
    if isinstance(prediction, Failure):
        return None
    picture = images.as_pillow(images.full_size(path, prediction[1]))
    maps = (sample.truth.mask(), prediction[2].labels)
    colored = [indexed_image(labels, predictor.colors).convert("RGB") for labels in maps]
    return [picture, *colored, draw_errors(picture, *maps)]
