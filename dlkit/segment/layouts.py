"""Images and masks, read from the layouts of `dlkit.core.datasets`.

A mask holds the class index of each pixel, or the color of its class. classes.txt has one class per
line, in the order of the indices, optionally followed by `red green blue`: then colors decide,
whatever the mode of a mask's file. Pixels are ignored if their value is 255 and no color of the
table, their class is named void, ignore or unlabeled, or, in CamVid's layout, their index is the
one after the last class. Outlined objects make a mask in which the smaller ones are in front.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dlkit.core.config import ALLOW_SKIPPED
from dlkit.core.datasets.camvid import CamVid
from dlkit.core.datasets.coco import BAD_SEGMENTATION
from dlkit.core.datasets.samples import Sample, Source
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw, require_val
from dlkit.core.datasets.splits import read_split as samples_of
from dlkit.core.datasets.splits import read_training as training_samples
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.core.progress import track
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.masks import (
    BACKGROUND,
    IGNORED,
    IGNORED_NAMES,
    BadMask,
    ClassTable,
    MaskFile,
    Outlines,
    make_class_table,
)

UNLISTED = "objects of classes that are not among the chosen ones, which are ignored"
Entry = tuple[Sample, MaskFile | Outlines]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image, its ground truth, and the number of pixels (C,) of each class.

    `objects` is the number of objects that are no crowds, where they are known.
    """

    path: Path
    width: int
    height: int
    truth: MaskFile | Outlines
    pixels: np.ndarray
    objects: int = 0


@dataclass(frozen=True)
class DatasetSplit:
    """One split of a data set."""

    samples: list[AnnotatedImage]
    labels: list[str]
    ledger: Ledger


@dataclass(frozen=True)
class Wanted:
    """The truth that is read: the classes and their order, if they are given, and the objects.

    With `instances` the classes are those of objects, without the background. `instances` and
    `objects` both require object masks or outlines.
    """

    labels: list[str] | None = None
    instances: bool = False
    objects: bool = False


def read_split(
    data: Path,
    split: str,
    labels: list[str] | None = None,
    instances: bool = False,
    draw: Draw | None = None,
    allowed: float = ALLOW_SKIPPED,
) -> DatasetSplit:
    """Read the images of one split and their masks; `labels` fixes the classes and their order.

    With `instances` the classes are those of objects, without the background. Unreadable images,
    masks of another size and masks with unknown values are skipped, counted and reported. Raises
    DlkitError if the layout is unknown, no image is left, or more than the share `allowed` is
    skipped.
    """
    source, ledger = find_source(data, "masks"), Ledger(split)
    samples = samples_of(source, split, draw or Draw(), ledger)
    return annotated(source, samples, Wanted(labels, instances), ledger, allowed)


def read_training(config: SegmentTrainConfig, instances: bool) -> tuple[DatasetSplit, DatasetSplit]:
    """Read `train` and `val`, whose labels are those of `train`. Raises DlkitError as `read_split`.

    With `--border-weight` object masks are required in `train`.
    """
    source, ledgers = find_source(config.data, "masks"), (Ledger("train"), Ledger("val"))
    draw = Draw.of(asdict(config))
    require_val(source, draw)
    own, held_out = training_samples(source, draw, *ledgers)
    wanted = Wanted(None, instances, config.border_weight > 0)
    training = annotated(source, own, wanted, ledgers[0], config.allowed)
    wanted = Wanted(training.labels, instances)
    return training, annotated(source, held_out, wanted, ledgers[1], config.allowed)


def annotated(
    source: Source, samples: Sequence[Sample], wanted: Wanted, ledger: Ledger, allowed: float
) -> DatasetSplit:
    """The masks of samples, counted, reported and checked."""
    ledger.rename("annotations", "objects")
    masks = any(sample.mask for sample in samples)
    labels, entries = (of_masks if masks else of_outlines)(source, samples, wanted, ledger)
    check = partial(check_entry, count=len(labels), objects=wanted.instances or wanted.objects)
    with ThreadPoolExecutor() as pool:
        checked = list(track(pool.map(check, entries), f"checking {ledger.name}", len(entries)))
    found = []
    for entry in checked:
        if isinstance(entry, BadMask):
            ledger.skip("images", entry.kind, entry.where)
        else:
            found.append(entry)
            ledger.use("images")
            ledger.use("objects", entry.objects)
            if isinstance(entry.truth, Outlines):
                crowds = len(entry.truth.annotations) - entry.objects
                ledger.use("crowds", crowds)
    present = {int(place) for sample in found for place in np.flatnonzero(sample.pixels)}
    ledger.used += Counter()  # without zeros
    ledger.report({"images": f"with {len(present)} of {len(labels)} classes"})
    ledger.require("images", source.root)
    if wanted.instances and wanted.labels is None:
        if ledger.used["crowds"] and not ledger.used["objects"]:
            raise DlkitError(
                f"no object to learn from: all {ledger.used['crowds']:,} of {ledger.name!r} are"
                " crowds (iscrowd 1), which are not trained on",
                source.root,
            )
        ledger.require("objects", source.root)
    ledger.check(allowed, source.root)
    return DatasetSplit(found, labels, ledger)


def of_masks(
    source: Source, samples: Sequence[Sample], wanted: Wanted, ledger: Ledger
) -> tuple[list[str], list[Entry]]:
    """The labels, and each image with its mask file."""
    classes, labels = source.classes, wanted.labels
    if labels is None and wanted.instances:
        labels = [n for n in classes.names if n.lower() not in {BACKGROUND, *IGNORED_NAMES}]
    colors = classes.colors or (None,) * len(classes.names)
    ignored = [len(classes.names)] if isinstance(source, CamVid) else []
    table: ClassTable = make_class_table(
        list(zip(classes.names, colors, strict=True)), labels, ignored
    )
    return table.labels, [
        (sample, MaskFile(sample.mask, table, sample.object_mask))
        for sample in samples
        if sample.mask is not None
    ]


def of_outlines(
    source: Source, samples: Sequence[Sample], wanted: Wanted, ledger: Ledger
) -> tuple[list[str], list[Entry]]:
    """The labels, and each image with its outlined objects."""
    seen = {annotation.label for sample in samples for annotation in sample.annotations}
    names = [n for n in source.classes.names or sorted(seen - {""}) if n.lower() != BACKGROUND]
    labels = wanted.labels or (names if wanted.instances else [BACKGROUND, *names])
    places = {label: place for place, label in enumerate(labels)}
    background = places.get(BACKGROUND, IGNORED)
    entries: list[Entry] = []
    for sample in samples:
        assert sample.size is not None  # a reader has measured it
        truth = Outlines(*sample.size, background, [])
        bad = ""
        for annotation in sample.annotations:
            label = annotation.label
            if annotation.flaw == BAD_SEGMENTATION:
                bad = bad or annotation.where
            elif not label:
                ledger.skip("objects", annotation.flaw, annotation.where)
            elif label not in places and label.lower() == BACKGROUND:
                ledger.note("outlines of the background, which are ignored", annotation.where)
            elif label not in places and wanted.labels is not None:
                ledger.note(UNLISTED, f"{annotation.where} ({label})")
            elif annotation.rle is None and not annotation.polygons:
                ledger.skip(
                    "objects", annotation.flaw or "object without an outline", annotation.where
                )
            else:
                place = places[BACKGROUND if label.lower() == BACKGROUND else label]
                truth.annotations.append((place, annotation))
        if bad:
            # Without one of its objects, the image would teach that there is background.
            ledger.skip("images", BAD_SEGMENTATION, bad)
        else:
            entries.append((sample, truth))
    return labels, entries


def check_entry(entry: Entry, count: int, objects: bool) -> AnnotatedImage | BadMask:
    """Check that the mask of an image is readable and of the same size."""
    sample, truth = entry
    assert sample.size is not None  # a reader has measured it
    width, height = sample.size
    try:
        count_objects = 0
        if isinstance(truth, Outlines):
            count_objects = sum(not annotation.crowd for _, annotation in truth.annotations)
        elif objects:
            count_objects = len(truth.objects())
        mask = truth.mask()
    except BadMask as error:
        return error
    if mask.shape != (height, width):
        sizes = f"{mask.shape[1]} x {mask.shape[0]}, its image {width} x {height}"
        return BadMask("mask of another size", f"{sample.mask} ({sizes})")
    pixels = np.bincount(mask.reshape(-1), minlength=256)[:IGNORED]
    return AnnotatedImage(sample.path, width, height, truth, pixels[:count], count_objects)
