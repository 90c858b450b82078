"""Images with their boxes, read from the layouts of `dlkit.core.datasets`.

Boxes are x1, y1, x2, y2 in pixels of the upright image.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dlkit.core.config import ALLOW_SKIPPED
from dlkit.core.datasets.samples import Annotation, Box, Sample, Source
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw, require_val
from dlkit.core.datasets.splits import read_split as samples_of
from dlkit.core.datasets.splits import read_training as training_samples
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.detect.config import DetectTrainConfig

UNLISTED = "boxes of classes that are not among the chosen ones, which are ignored"


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the size of the upright image in pixels."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class BoxSample(ImageFile):
    """An image and its boxes (N, 4), with labels, areas and flags (N,).

    `crowd` boxes are not trained on; `areas` are COCO's areas of segments, otherwise the boxes'.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class AnnotatedSplit:
    """One split of a data set."""

    samples: list[BoxSample]
    labels: list[str]
    ledger: Ledger


def read_split(
    data: Path,
    split: str,
    labels: list[str] | None = None,
    draw: Draw | None = None,
    allowed: float = ALLOW_SKIPPED,
) -> AnnotatedSplit:
    """Read the images and boxes of one split; `labels` fixes the classes and their order.

    Bad annotations (a box outside its image or without area, an unknown class) and missing images
    are skipped, counted and reported. Raises DlkitError if the layout is unknown, no image is left,
    or more than the share `allowed` is skipped.
    """
    source, ledger = find_source(data, "boxes"), Ledger(split)
    samples = samples_of(source, split, draw or Draw(), ledger)
    return annotated(source, samples, labels, ledger, allowed, chosen=labels is not None)


def read_training(config: DetectTrainConfig) -> tuple[AnnotatedSplit, AnnotatedSplit]:
    """Read `train` and `val`, whose labels are those of `train`.

    Raises DlkitError as `read_split` does, and for a `train` without a box to learn from.
    """
    source, ledgers = find_source(config.data, "boxes"), (Ledger("train"), Ledger("val"))
    draw = Draw.of(asdict(config))
    require_val(source, draw)
    own, held_out = training_samples(source, draw, *ledgers)
    allowed = config.allowed
    training = annotated(source, own, None, ledgers[0], allowed, to_learn=True)
    labels, chosen = training.labels, source.classes.chosen
    return training, annotated(source, held_out, labels, ledgers[1], allowed, chosen)


def annotated(
    source: Source,
    samples: Sequence[Sample],
    labels: list[str] | None,
    ledger: Ledger,
    allowed: float,
    chosen: bool = False,
    to_learn: bool = False,
) -> AnnotatedSplit:
    """The boxes of samples, counted, reported and checked.

    With `chosen` the labels are a choice, and boxes of others are no mistakes.
    """
    ledger.use("images", len(samples))
    ledger.rename("annotations", "boxes")
    if labels is None:
        seen = {annotation.label for sample in samples for annotation in sample.annotations}
        classes = source.classes
        labels, chosen = list(classes.names) or sorted(seen - {""}, key=by_number), classes.chosen
    index = {label: number for number, label in enumerate(labels)}
    found = [make_sample(sample, index, ledger, chosen) for sample in samples]
    present = {int(label) for sample in found for label in sample.labels}
    ledger.report({"boxes": f"of {len(present)} label{'s' * (len(present) != 1)}"})
    ledger.require("images", source.root)
    if to_learn:
        if not ledger.used["boxes"] and ledger.used["crowds"]:
            raise DlkitError(
                f"no box to learn from: all {ledger.used['crowds']:,} of {ledger.name!r} are crowds"
                " (iscrowd 1), which are not trained on",
                source.root,
            )
        ledger.require("boxes", source.root)
    ledger.check(allowed, source.root)
    return AnnotatedSplit(found, labels, ledger)


def by_number(label: str) -> tuple[int, str]:
    """The key by which labels are sorted: numbers by their values."""
    return (int(label) if label.isdecimal() else -1), label


def make_sample(sample: Sample, index: dict[str, int], ledger: Ledger, chosen: bool) -> BoxSample:
    """A sample of the valid annotations, with boxes clipped to the image."""
    assert sample.size is not None  # a reader has measured it
    width, height = sample.size
    kept: list[tuple[Annotation, Box]] = []
    for annotation in sample.annotations:
        if chosen and annotation.label and annotation.label not in index:
            ledger.note(UNLISTED, f"{annotation.where} ({annotation.label})")
            continue
        box = clipped(annotation, index, width, height)
        if isinstance(box, str):
            ledger.skip("boxes", box, annotation.where)
        else:
            kept.append((annotation, box))
            ledger.use("crowds" if annotation.crowd else "boxes")
    return BoxSample(
        sample.path,
        width,
        height,
        np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4),
        np.array([index[a.label] for a, _ in kept], dtype=np.int64),
        np.array(
            [box_area(box) if a.area is None else a.area for a, box in kept], dtype=np.float64
        ),
        np.array([a.crowd for a, _ in kept], dtype=bool),
        np.array([a.difficult for a, _ in kept], dtype=bool),
    )


def clipped(annotation: Annotation, index: dict[str, int], width: int, height: int) -> Box | str:
    """The box of an annotation inside its image, or the reason why there is none."""
    box = annotation.bounds
    if not annotation.label or box is None:
        return annotation.flaw
    if annotation.label not in index:
        return f"unknown class {annotation.label!r}"
    return inside_image(box, width, height)


def inside_image(box: Box, width: int, height: int) -> Box | str:
    """The part of a box inside its image, or the reason why there is none."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):  # also true of NaN
        return "box without area"
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if not (inside[2] > inside[0] and inside[3] > inside[1]):
        return "box outside its image"
    return inside


def box_area(box: Box) -> float:
    """The area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])
