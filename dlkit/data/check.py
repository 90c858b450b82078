"""Findings about a data set: places that a person should look at before a training."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dlkit.core.datasets.samples import Annotation, Sample, Source
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.data.similar import SAME, Pair, describe, middle_square, pairs_between, similar_pairs

THUMBNAIL = 64  # pixels of the longest side at which images are compared
SMALL_SHARE = 0.25  # of the median side, below which an image is called small
LONG_RATIO = 4.0  # between the sides of an image that is called long
EDGE = 2.0  # pixels by which a box may pass the edge of its image
TINY_BOX = 2.0  # pixels of a side
TWICE = 0.95  # intersection over union of two boxes of one label that are one box twice
IMBALANCE = 20  # times as many samples of the largest class as of the smallest
AHEAD = 256  # images that are decoded ahead


class Level(StrEnum):
    """Whether a finding needs a person."""

    warning = "warning"
    note = "note"


@dataclass(frozen=True)
class Finding:
    """One finding: its kind, its place, and what was found there.

    `line` is the line of the file `path`, if there is one; `other` is the second image of a pair.
    """

    level: Level
    kind: str
    split: str
    path: str
    line: int | None
    message: str
    other: str | None = None
    noun: ClassVar[str] = "finding"

    def rows(self) -> list[dict[str, Any]]:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        row = {"level": self.level.value, "kind": self.kind, "split": self.split}
        return [{**row, "place": place, "message": self.message}]


@dataclass(frozen=True)
class Examined:
    """A sample, its split, the size of its upright image and the descriptors of the image.

    `square` describes its middle square.
    """

    split: str
    sample: Sample
    width: int
    height: int
    descriptor: np.ndarray
    square: np.ndarray

    @property
    def path(self) -> str:
        return str(self.sample.path)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the image, or those of its annotations."""
        return self.sample.labels or tuple(sorted({a.label for a in self.sample.annotations}))


@dataclass
class Examination:
    """All that is known of a data set after it was examined."""

    layout: str
    root: Path
    classes: tuple[str, ...]
    images: list[Examined]
    ledgers: list[Ledger]
    pairs: list[Pair]
    findings: list[Finding] = field(default_factory=list)
    others: list[Examined] = field(default_factory=list)  # images of another data set

    def of_split(self, split: str) -> list[Examined]:
        """The images of a split."""
        return [image for image in self.images if image.split == split]

    def counts(self, split: str) -> Counter[str]:
        """The number of annotations of each label, or of images where the labels are theirs."""
        found: Counter[str] = Counter()
        for image in self.of_split(split):
            found.update(image.sample.labels)
            found.update(annotation.label for annotation in image.sample.annotations)
        return found


def examine(source: Source, splits: Sequence[str], workers: int) -> Examination:
    """Read the splits and decode every image; the findings are in the order of `checks`."""
    ledgers = [Ledger(split) for split in splits]
    samples = [
        (split, sample)
        for split, ledger in zip(splits, ledgers, strict=True)
        for sample in source.read(split, ledger)
    ]
    books = dict(zip(splits, ledgers, strict=True))
    found: list[Examined] = []
    damaged: list[Finding] = []
    for result in track(measured(samples, workers), "checking images", len(samples)):
        if isinstance(result, Examined):
            books[result.split].use("images")
            books[result.split].use("annotations", len(result.sample.annotations))
            found.append(result)
        else:
            books[result.split].skip("images", result.message, result.path)
            damaged.append(result)
    descriptors = np.array([image.descriptor for image in found], np.float16)
    pairs = similar_pairs(descriptors) if len(found) > 1 else []
    examination = Examination(
        source.layout, source.root, source.classes.names, found, ledgers, pairs
    )
    skipped = {finding.path for finding in damaged}
    examination.findings = [*damaged, *checks(examination, skipped)]
    return examination


def compare(examination: Examination, other: Source, workers: int) -> Ledger:
    """Add a finding for each image that another data set has too; return the account of that."""
    ledger = Ledger("against")
    samples = [(split, sample) for split in other.splits for sample in other.read(split, ledger)]
    once = list({entry[1].path: entry for entry in samples}.values())
    for result in track(measured(once, workers), "checking the other images", len(once)):
        if isinstance(result, Examined):
            ledger.use("images")
            examination.others.append(result)
        else:
            ledger.skip("images", result.message, result.path)
    if not examination.images or not examination.others:
        return ledger
    described = [
        np.array([image.descriptor for image in images], np.float16)
        for images in (examination.images, examination.others)
    ]
    squares = [
        np.array([image.square for image in images], np.float16)
        for images in (examination.images, examination.others)
    ]
    for pair in pairs_between(described[0], squares[0], described[1], squares[1]):
        image, twin = examination.images[pair.first], examination.others[pair.second]
        same = "the same picture as" if pair.distance < SAME else "nearly the same picture as"
        message = f"{same} {twin.path} (distance {pair.distance:.4f})"
        kind = "in the other data set"
        found = Finding(Level.warning, kind, image.split, image.path, None, message, twin.path)
        examination.findings.append(found)
    return ledger


def measured(samples: Iterable[tuple[str, Sample]], workers: int) -> Iterator[Examined | Finding]:
    """Yield each sample as examined, in order; a finding where its image cannot be read."""
    if workers == 0:
        yield from (measure(*entry) for entry in samples)
        return
    waiting = iter(samples)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(waiting, AHEAD)):
            yield from pool.map(lambda entry: measure(*entry), some)


def measure(split: str, sample: Sample) -> Examined | Finding:
    """Decode a sample's image."""
    try:
        picture = images.read(str(sample.path), THUMBNAIL)
    except DlkitError as error:
        reason = error.reason_for(str(sample.path))
        kind = "missing image" if reason.startswith("no such file") else "unreadable image"
        return Finding(Level.warning, kind, split, str(sample.path), None, reason)
    shown = images.as_pillow(picture)
    size = (picture.width, picture.height)
    # Half the memory of 32 bits; the pairs are sought among descriptors of 16 bits anyway.
    descriptors = (describe(part).astype(np.float16) for part in (shown, middle_square(shown)))
    return Examined(split, sample, *size, *descriptors)


def checks(examination: Examination, reported: set[str]) -> Iterator[Finding]:
    """All findings about what can be read. `reported` are places that have a finding already."""
    for ledger in examination.ledgers:
        for split, kind, reason, place in ledger.rows():
            if place not in reported:
                path, line = split_place(place)
                yield Finding(Level.warning, f"skipped {kind}", split, path, line, reason)
    for image in examination.images:
        yield from check_boxes(image)
    yield from check_pairs(examination)
    yield from check_labels(examination)
    yield from check_sizes(examination)


def split_place(place: str) -> tuple[str, int | None]:
    """The file and the line of a place such as `a.xml:12`; no line for another place."""
    found = re.fullmatch(r"(.+):(\d+)(?: .*)?", place)
    return (found[1], int(found[2])) if found else (place, None)


# ---- Boxes ---------------------------------------------------------------------------------------


def check_boxes(image: Examined) -> Iterator[Finding]:
    """Boxes without area, outside their image, tiny, or there twice."""
    kept: list[Annotation] = []
    for annotation in image.sample.annotations:
        if annotation.box is None:
            continue
        problem = problem_of(annotation.box, image.width, image.height)
        if problem:
            yield box_finding(image, annotation, *problem)
            continue
        if any(twice(annotation, other) for other in kept):
            yield box_finding(image, annotation, "box twice", "the same box with the same label")
        kept.append(annotation)


def problem_of(box: Sequence[float], width: int, height: int) -> tuple[str, str] | None:
    """The kind of fault of a box, and its message; None for a good one."""
    x1, y1, x2, y2 = box
    numbers = f"{x1:g} {y1:g} {x2:g} {y2:g} in {width} x {height} pixels"
    if not (x2 > x1 and y2 > y1):
        return "box without area", numbers
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "box outside the image", numbers
    if min(x1, y1) < -EDGE or x2 > width + EDGE or y2 > height + EDGE:
        return "box past the edge", numbers
    if min(x2 - x1, y2 - y1) < TINY_BOX:
        return "tiny box", numbers
    return None


def box_finding(image: Examined, annotation: Annotation, kind: str, message: str) -> Finding:
    path, line = split_place(annotation.where)
    message = f"{annotation.label}: {message}"
    return Finding(Level.warning, kind, image.split, path, line, message, image.path)


def twice(one: Annotation, other: Annotation) -> bool:
    """Whether two annotations have one label and nearly one box."""
    if one.label != other.label or one.box is None or other.box is None:
        return False
    return overlap(one.box, other.box) > TWICE


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / (areas - wide * high)


# ---- Images that show the same -------------------------------------------------------------------


def check_pairs(examination: Examination) -> Iterator[Finding]:
    """Images in two splits, with different labels, or twice in one split."""
    for pair in examination.pairs:
        first, second = examination.images[pair.first], examination.images[pair.second]
        same = "nearly the same picture as"
        if pair.distance < SAME:
            same = "the same file as" if first.path == second.path else "the same picture as"
        message = f"{same} {second.path} (distance {pair.distance:.4f})"
        if first.split != second.split:
            kind = "leak between splits"
            message = f"{same} {second.path} of {second.split} (distance {pair.distance:.4f})"
        elif first.labels != second.labels and first.sample.labels:
            kind = "different labels"
            message += f": {' '.join(first.labels)} here, {' '.join(second.labels)} there"
        else:
            kind = "duplicate" if pair.distance < SAME else "near-duplicate"
        yield Finding(Level.warning, kind, first.split, first.path, None, message, second.path)


# ---- Labels --------------------------------------------------------------------------------------


def check_labels(examination: Examination) -> Iterator[Finding]:
    """Labels that are spelled alike, classes without samples, and very unequal numbers."""
    counts = {ledger.name: examination.counts(ledger.name) for ledger in examination.ledgers}
    total: Counter[str] = sum(counts.values(), Counter())
    root = str(examination.root)
    for one, other in spelled_alike([*examination.classes, *total]):
        message = f"{one!r} ({total[one]}) and {other!r} ({total[other]}) are spelled alike"
        yield Finding(Level.warning, "labels spelled alike", "", root, None, message)
    for name in sorted(set(total) - set(examination.classes) if examination.classes else ()):
        message = f"{name!r}: {total[name]:,}, and not among the {len(examination.classes)} classes"
        yield Finding(Level.warning, "label not listed", "", root, None, message)
    for name in examination.classes:
        if total and not total[name]:
            message = f"no sample of the class {name!r}"
            yield Finding(Level.warning, "empty class", "", root, None, message)
    train = counts.get("train")
    listed = set(examination.classes) or set(total)
    for split, every in counts.items():
        found = {name: every[name] for name in every if name in listed}
        missing = sorted(name for name in found if train and not train[name])
        for name in missing:
            message = f"{name!r}: {found[name]} in {split!r}, none in 'train'"
            yield Finding(Level.warning, "class not in train", split, root, None, message)
        if len(found) > 1 and max(found.values()) >= IMBALANCE * min(found.values()):
            most, least = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
            many, few = found[most], found[least]
            message = f"{many:,} x {most!r}, {few:,} x {least!r}"
            yield Finding(Level.note, "imbalance", split, root, None, message)


def spelled_alike(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of labels that differ in case, spaces or punctuation, or in a plural s, only."""
    plain: dict[str, str] = {}
    pairs = []
    for label in dict.fromkeys(labels):
        key = re.sub(r"[\W_]+", "", label).casefold()
        key = key.removesuffix("s") if len(key) > 3 else key
        if key and key in plain:
            pairs.append((plain[key], label))
        plain.setdefault(key, label)
    return pairs


# ---- Sizes ---------------------------------------------------------------------------------------


def check_sizes(examination: Examination) -> Iterator[Finding]:
    """Images much smaller than the others, and very long ones."""
    if not examination.images:
        return
    middle = statistics.median(min(image.width, image.height) for image in examination.images)
    for image in examination.images:
        short, long = sorted((image.width, image.height))
        size = f"{image.width} x {image.height} pixels"
        place = (image.split, image.path, None)
        if short < SMALL_SHARE * middle:
            message = f"{size}; the median side is {middle:g}"
            yield Finding(Level.note, "small image", *place, message)
        if long > LONG_RATIO * short:
            yield Finding(Level.note, "long image", *place, size)
