"""WebDataset's tar files of images with labels or captions. Loads no torch.

SPLIT-000.tar or SPLIT/000.tar, *.tar without splits, or one file. The samples are 7.jpg with 7.cls,
a label or its number in classes.txt from 0 on, or with 7.txt, a caption in each line.
"""

from collections.abc import Sequence
from pathlib import Path

from dlkit.core.datasets.captions import CaptionLine, captioned
from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.folders import listed_label, visible_folders
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.datasets.tables import Kind
from dlkit.core.errors import DlkitError
from dlkit.core.io import tars
from dlkit.core.io.image_files import SUFFIXES
from dlkit.core.io.splits import is_split_name, split_of
from dlkit.core.ledger import Ledger

PARTS: dict[Kind, str] = {"label": "cls", "caption": "txt"}


class Shards:
    """The tar files of a folder by split, or one tar file."""

    layout = "WebDataset"

    def __init__(self, data: Path, kind: Kind | None) -> None:
        self.root = data.parent if data.is_file() else data
        self.files = {ALL: [data]} if data.is_file() else find_tars(data)
        self.part = PARTS[kind] if kind else self.found_part()
        self.classes = read_classes(self.root) or Classes()

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have tar files, or only `all`."""
        return list(self.files)

    def found_part(self) -> str:
        """The part of the first sample that has labels or captions."""
        for sample in tars.samples(next(iter(self.files.values()))):
            return next((part for part in PARTS.values() if part in sample.parts), "cls")
        return "cls"

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The samples of a split in the order of the tar files."""
        missing = "image without a label" if self.part == "cls" else "image without a caption"
        samples: list[Sample] = []
        lines: list[CaptionLine] = []
        for found in tars.samples(self.files[split]):
            image = found.image(SUFFIXES)
            if image is None:
                ledger.skip("images", "sample without an image", f"{found.tar}/{found.key}")
            elif self.part not in found.parts:
                ledger.skip("images", missing, str(image))
            else:
                try:
                    text = found.text(self.part).strip()
                except DlkitError as error:
                    ledger.skip("images", f"{self.part} that is {error.reason}", str(image))
                    continue
                where = str(found.path(self.part))
                if self.part == "txt":
                    lines += [CaptionLine(image, caption, where) for caption in text.split("\n")]
                elif not text:
                    ledger.skip("images", "image with an empty label", where)
                else:
                    label = listed_label(text, self.classes.names)
                    samples.append(Sample(image, where, labels=(label,)))
        return captioned(lines, ledger) if self.part == "txt" else samples


def find_tars(data: Path) -> dict[str, list[Path]]:
    """The tar files of each split; of `all` where none is called like a split.

    Raises DlkitError for files of splits beside others.
    """
    found: dict[str, list[Path]] = {}
    unsplit = []
    for tar in sorted(data.glob(f"[!.]*{tars.SUFFIX}")):
        split = split_of(tar.stem)
        if split is None:
            unsplit.append(tar)
        else:
            found.setdefault(split, []).append(tar)
    for folder in visible_folders(data):
        split = split_of(folder.name)
        if split is not None and is_split_name(folder.name):
            found.setdefault(split, []).extend(sorted(folder.glob(f"[!.]*{tars.SUFFIX}")))
    found = {split: files for split, files in found.items() if files}
    if found and unsplit:
        raise DlkitError(
            f"{unsplit[0].name} names no split, but {next(iter(found.values()))[0].name} does;"
            " rename it, or put it elsewhere",
            data,
        )
    return found or ({ALL: unsplit} if unsplit else {})
