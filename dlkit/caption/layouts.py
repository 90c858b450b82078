"""Captioned images, read from the layouts of `dlkit.core.datasets`.

    Flickr8k  *.token.txt (name#number, tab, caption) or captions.txt (CSV image,caption), the
              images in a folder beside it, and lists *{train,dev,test}Images.txt of their names;
              the folder, or the file of captions
    COCO      annotations/captions_SPLIT*.json, or one json file
    tables    SPLIT.csv (.tsv, .jsonl) in a folder, or one file: columns path, caption and, if any,
              split; an image with several captions has several rows
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits; samples
              are 7.jpg and 7.txt, a caption in each line; or one tar file

Without a split `val`, a share of the training images is held out, the same for the same seed.
Without any splits, `test` is another such share. `all` is all images.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlkit.caption.config import CaptionTrainConfig
from dlkit.core.datasets.captions import MISSING_IMAGE
from dlkit.core.datasets.samples import Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw
from dlkit.core.datasets.splits import read_split as samples_of
from dlkit.core.datasets.splits import read_training as training_samples
from dlkit.core.ledger import Ledger


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its reference captions."""

    path: Path
    captions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionSplit:
    """One split of a data set: images that exist, each with a caption or more.

    The ledger counts the skipped images and captions; the caller counts the used ones.
    """

    samples: list[CaptionedImage]
    ledger: Ledger


def read_split(
    data: Path, split: str, draw: Draw | None = None, report: bool = True
) -> CaptionSplit:
    """The images of one split, with their captions.

    A split that the data lacks is drawn; without `report` that is not printed. Raises DlkitError
    for an unknown layout or split, and where no sample is usable.
    """
    source, ledger = find_source(data, "captions"), Ledger(split)
    samples = samples_of(source, split, draw or Draw(), ledger, draws_test=True, report=report)
    found = CaptionSplit(captioned(samples), ledger)
    if not samples:
        refuse_empty(ledger, data)
    return found


def read_training(config: CaptionTrainConfig) -> tuple[CaptionSplit, CaptionSplit]:
    """The images of `train` and `val`. Raises DlkitError where none of `train` is usable."""
    source, ledgers = find_source(config.data, "captions"), (Ledger("train"), Ledger("val"))
    own, held_out = training_samples(source, Draw.of(asdict(config)), *ledgers, draws_test=True)
    if not own:
        refuse_empty(ledgers[0], config.data)
    return CaptionSplit(captioned(own), ledgers[0]), CaptionSplit(captioned(held_out), ledgers[1])


def refuse_empty(ledger: Ledger, data: Path) -> None:
    """Raise DlkitError with the reason why no image has a caption."""
    missing = MISSING_IMAGE in ledger.places.get("images", {})
    ledger.require("images" if missing or "captions" not in ledger.places else "captions", data)


def captioned(samples: Sequence[Sample]) -> list[CaptionedImage]:
    """The records of samples with captions."""
    return [CaptionedImage(sample.path, list(sample.captions)) for sample in samples]
