"""Scores of a segmenter on annotated images, and pictures of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import plots
from dlkit.core.io.scores import Score, rounded
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.core.vision.average_precision import COCO_DEFINITIONS, Overlaps
from dlkit.segment.draw import draw_masks, errors, index_picture, with_legend
from dlkit.segment.infer import Method, Predictor, load, predict
from dlkit.segment.instance_metrics import InstanceMetrics, instance_metrics, overlaps
from dlkit.segment.instances import predict_objects
from dlkit.segment.layouts import Sample, read_split
from dlkit.segment.metrics import (
    DEFINITIONS,
    LABEL_DEFINITIONS,
    Counts,
    SegmentationMetrics,
    count,
    segmentation_metrics,
    together,
)

LOWEST_SCORE = 0.05  # average precision needs the doubtful objects too
THRESHOLD = 0.5  # of objects in the grid
EXAMPLES = 6  # images in the grid


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    process: Process,
    workers: int = 2,
    boundaries: bool = False,
) -> SegmentationMetrics:
    """The metrics on annotated images, at their own size; the same in every process.

    The boundary F1 takes longer than all others together: without `boundaries` it is nan.
    """
    return segmentation_metrics(
        counted(predictor, samples, process, workers, boundaries), predictor.labels
    )


def counted(
    predictor: Predictor,
    samples: Sequence[Sample],
    process: Process,
    workers: int = 2,
    boundaries: bool = False,
) -> Counts:
    """What the metrics are computed from, of all processes together."""
    own = list(process.share(samples))

    def counts() -> Iterator[Counts]:
        paths = (str(sample.path) for sample in track(own, "evaluating"))
        found = predict(predictor, paths, Method(workers=workers))
        for sample, (path, picture, label_map) in zip(own, found, strict=True):
            if isinstance(picture, Failure) or label_map is None:
                log(f"left out {path}: {picture.error}")  # type: ignore[union-attr]
                continue
            truth = sample.truth.mask()
            yield count(truth, label_map.labels, len(predictor.labels), boundaries)

    all_counts = list(process.gather(counts()))
    if not all_counts:
        raise DlkitError("none of the images to evaluate on can be read")
    return together(all_counts)


def evaluate_checkpoint(
    data: Path,
    split: str,
    model: str,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score]:
    """The scores of a model on one split, for all classes and for each; pictures go to `save`."""
    predictor = load(model, device, precision)
    annotated = read_split(data, split, predictor.labels, predictor.finds_objects)
    if not any(sample.pixels.any() for sample in annotated.samples):
        raise DlkitError(
            f"{data}: no mask of {split!r} has a class that the model knows:"
            f" {', '.join(predictor.labels)}"
        )
    samples = annotated.samples
    if predictor.finds_objects:
        yield from instance_scores(predictor, samples, device, save, workers)
        return
    with distributed.launch(device) as process:
        counts = counted(predictor, samples, process, workers, boundaries=True)
    if save is not None and is_main_process():
        save_examples(predictor, samples, save / "examples.png")
        title = "pixels, all images together"
        names = predictor.labels
        plots.heat_map(counts.confusion, names, names, title, save / "confusion.png")
        log(f"saved {save / 'examples.png'} and {save / 'confusion.png'}")
    metrics = segmentation_metrics(counts, predictor.labels)
    for name, value in metrics.summary.items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    pixels = counts.confusion.sum(axis=1).tolist()
    for label, there in zip(predictor.labels, pixels, strict=True):
        yield Score("pixels", label, there, "Annotated pixels of this class.")
        for name, value in metrics.per_label[label].items():
            yield Score(name, label, rounded(value), LABEL_DEFINITIONS[name])


def evaluate_instances(
    predictor: Predictor, samples: Sequence[Sample], process: Process, workers: int = 2
) -> InstanceMetrics:
    """COCO's metrics of masks on annotated images, the same in every process."""
    own = list(process.share(samples))

    def images_overlaps() -> Iterator[Overlaps]:
        paths = (str(sample.path) for sample in track(own, "evaluating"))
        found = predict_objects(predictor, paths, LOWEST_SCORE, workers=workers)
        for sample, (path, picture, objects) in zip(own, found, strict=True):
            if isinstance(picture, Failure) or objects is None:
                log(f"left out {path}: {picture.error}")  # type: ignore[union-attr]
                continue
            yield overlaps(objects.masks, objects.labels, objects.scores, sample.truth.objects())

    gathered = list(process.gather(images_overlaps()))
    if not gathered:
        raise DlkitError("none of the images to evaluate on can be read")
    return instance_metrics(gathered, predictor.labels)


def instance_scores(
    predictor: Predictor, samples: Sequence[Sample], device: str, save: Path | None, workers: int
) -> Iterator[Score]:
    """The scores of a model that finds objects."""
    with distributed.launch(device) as process:
        metrics = evaluate_instances(predictor, samples, process, workers)
    if save is not None and is_main_process():
        save_examples(predictor, samples, save / "examples.png")
        log(f"saved {save / 'examples.png'}")
    for name, value in metrics.summary.items():
        yield Score(name, "all", rounded(value), f"Of masks. {COCO_DEFINITIONS[name]}")
    for label, scores in metrics.per_label.items():
        for name, value in scores.items():
            yield Score(name, label, rounded(value), f"Of masks. {COCO_DEFINITIONS[name]}")


def save_examples(predictor: Predictor, samples: Sequence[Sample], path: Path) -> None:
    """A grid with a row for each of some images: the image, the truth, what is predicted."""
    step = max(1, len(samples) // EXAMPLES)
    chosen = list(samples[::step][:EXAMPLES])
    row = object_row if predictor.finds_objects else label_row
    rows = [cells for sample in chosen if (cells := row(predictor, sample)) is not None]
    if rows:
        cells = [cell for row_cells in rows for cell in row_cells]
        columns = ["image", "truth", "prediction", "errors in red"][: len(rows[0])]
        sheet = images.grid(cells, len(columns), captions=columns * len(rows))
        if not predictor.finds_objects:
            legend = list(zip(predictor.labels, predictor.colors, strict=False))
            sheet = with_legend(sheet, legend)
        images.save(sheet, path)


def label_row(predictor: Predictor, sample: Sample) -> list[Image.Image] | None:
    """Image, truth, prediction and errors; None for an image that cannot be read."""
    ((_, _, label_map),) = predict(predictor, [str(sample.path)], Method(workers=0))
    if label_map is None:
        return None
    picture = images.as_pillow(images.read(str(sample.path)))
    truth = sample.truth.mask()
    maps = [
        index_picture(labels, predictor.colors).convert("RGB")
        for labels in (truth, label_map.labels)
    ]
    return [picture, *maps, errors(picture, truth, label_map.labels)]


def object_row(predictor: Predictor, sample: Sample) -> list[Image.Image] | None:
    """Image, truth and prediction; None for an image that cannot be read."""
    ((_, seen, found),) = predict_objects(predictor, [str(sample.path)], THRESHOLD, workers=0)
    if isinstance(seen, Failure) or found is None:
        return None
    picture = images.as_pillow(images.read(str(sample.path)))
    truth = sample.truth.objects()
    names = predictor.labels
    return [
        picture,
        draw_masks(picture, [t.mask for t in truth], [names[t.label] for t in truth], None),
        draw_masks(picture, found.masks, [names[k] for k in found.labels], found.scores.tolist()),
    ]
