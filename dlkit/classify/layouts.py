"""Labeled images, read from the layouts of `dlkit.core.datasets`.

    folders   SPLIT/LABEL/*.jpg, or LABEL/*.jpg without splits
    tables    SPLIT.csv (.tsv, .jsonl) in a folder, or one file: columns path, label and optionally
              split; the labels of a multi-label image are separated by ;
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits, or one
              file; samples are 7.jpg and 7.cls, a label or its number in classes.txt from 0 on

Without a split `val`, a share of the training images is held out, the same for the same seed.
Without any splits, `test` is another such share. The split `all` contains all images.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.core.config import ALLOW_SKIPPED
from dlkit.core.datasets.samples import Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw
from dlkit.core.datasets.splits import read_split as samples_of
from dlkit.core.datasets.splits import read_training as training_samples
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

MAX_SHOWN = 3  # groups of similar labels in a line


@dataclass(frozen=True)
class ImageSample:
    """An image and the indices of its labels: one, or any number in multi-label data."""

    path: Path
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ImageSplit:
    """One split of a data set; `multi_label` if images may have any number of labels.

    The ledger counts the skipped images; the caller counts the used ones.
    """

    samples: list[ImageSample]
    labels: list[str]
    multi_label: bool
    ledger: Ledger


def read_split(
    data: Path,
    split: str,
    labels: list[str] | None = None,
    draw: Draw | None = None,
    multi_label: bool | None = None,
) -> ImageSplit:
    """Read the images of one split; `labels` fixes the labels and their order.

    A split that the data lacks is drawn. `multi_label` None: as in the data. Unusable images are
    skipped. Raises DlkitError for an unknown layout or split.
    """
    source, ledger = find_source(data, "labels"), Ledger(split)
    samples = samples_of(source, split, draw or Draw(), ledger, draws_test=True)
    if multi_label is None:
        multi_label = have_several(samples)
    return labeled(samples, labels, multi_label, ledger)


def read_training(config: ClassifyTrainConfig) -> tuple[ImageSplit, ImageSplit]:
    """Read `train` and `val`, whose labels are those of `train`."""
    source, ledgers = find_source(config.data, "labels"), (Ledger("train"), Ledger("val"))
    draw = Draw.of(asdict(config))
    own, held_out = training_samples(source, draw, *ledgers, draws_test=True)
    multi_label = config.loss == "bce" or have_several([*own, *held_out])
    training = labeled(own, None, multi_label, ledgers[0])
    report_similar(training.labels)
    return training, labeled(held_out, training.labels, multi_label, ledgers[1])


def have_several(samples: Sequence[Sample]) -> bool:
    """Whether more of the images have several labels than may be mistakes."""
    return sum(len(sample.labels) > 1 for sample in samples) > ALLOW_SKIPPED * len(samples)


def labeled(
    samples: Sequence[Sample],
    labels: list[str] | None,
    multi_label: bool,
    ledger: Ledger,
) -> ImageSplit:
    """The samples with the indices of their labels; those without usable ones are skipped."""
    usable = []
    for sample in samples:
        if multi_label or len(sample.labels) == 1:
            usable.append(sample)
        elif sample.labels:
            place = f"{sample.where} ({', '.join(sample.labels)})"
            ledger.skip("images", "image with several labels where others have one", place)
        else:
            ledger.skip("images", "image without a label", sample.where)
    if labels is None:
        labels = sorted({label for sample in usable for label in sample.labels})
    index = {name: number for number, name in enumerate(labels)}
    found = []
    for sample in usable:
        unknown = [label for label in sample.labels if label not in index]
        if unknown:
            ledger.skip("images", "unknown label", f"{sample.path} ({', '.join(unknown)})")
        else:
            numbers = sorted(index[label] for label in sample.labels)
            found.append(ImageSample(sample.path, tuple(numbers)))
    return ImageSplit(found, labels, multi_label, ledger)


def report_similar(labels: Sequence[str]) -> None:
    """Print the labels that differ only in case, blanks or Unicode form."""
    by_form: dict[str, list[str]] = {}
    for label in labels:
        by_form.setdefault(folded(label), []).append(label)
    groups = [group for group in by_form.values() if len(group) > 1]
    if groups:
        named = "; ".join(", ".join(map(repr, group)) for group in groups[:MAX_SHOWN])
        more = " ..." if len(groups) > MAX_SHOWN else ""
        log(f"labels that differ only in case, blanks or Unicode form: {named}{more}")


def folded(label: str) -> str:
    """A label without differences of case, blanks and Unicode form."""
    words = unicodedata.normalize("NFKC", label).casefold().replace("_", " ").replace("-", " ")
    return " ".join(words.split())
