"""Scores of a segmenter on annotated images, and pictures of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from dlkit.core import distributed, images, plots
from dlkit.core.distributed import Process
from dlkit.core.errors import DlkitError
from dlkit.core.progress import Failure, is_main_process, log, track
from dlkit.core.scores import Score, rounded
from dlkit.segment.draw import errors, index_picture
from dlkit.segment.infer import Method, Predictor, load, predict
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

EXAMPLES = 6  # images in the grid
COLUMNS = ["image", "truth", "prediction", "errors in red"]


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
        paths = (str(sample.path) for sample in own)
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
    annotated = read_split(data, split, predictor.labels)
    if not any(sample.pixels.any() for sample in annotated.samples):
        raise DlkitError(
            f"{data}: no mask of {split!r} has a class that the model knows:"
            f" {', '.join(predictor.labels)}"
        )
    with distributed.launch(device) as process:
        samples = list(track(annotated.samples, "evaluating"))
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
    for label, scores in metrics.per_label.items():
        for name, value in scores.items():
            yield Score(name, label, rounded(value), LABEL_DEFINITIONS[name])


def save_examples(predictor: Predictor, samples: Sequence[Sample], path: Path) -> None:
    """A grid with a row for each of some images: image, truth, prediction and errors."""
    step = max(1, len(samples) // EXAMPLES)
    chosen = list(samples[::step][:EXAMPLES])
    found = predict(predictor, [str(sample.path) for sample in chosen], Method(workers=0))
    cells: list[Image.Image] = []
    captions: list[str] = []
    for sample, (_, _, label_map) in zip(chosen, found, strict=True):
        if label_map is None:
            continue
        picture = images.as_pillow(images.read(str(sample.path)))
        truth = sample.truth.mask()
        maps = [
            index_picture(m, predictor.colours).convert("RGB") for m in (truth, label_map.labels)
        ]
        cells += [picture, *maps, errors(picture, truth, label_map.labels)]
        captions += COLUMNS
    images.save(images.grid(cells, len(COLUMNS), captions=captions), path)
