"""Folders of images, masks and object masks: images/, masks/, instances/. Loads no torch.

images/SPLIT/ and masks/SPLIT/, or SPLIT/images/ and SPLIT/masks/, or images/ and masks/;
instances/ in the same way, if any; classes.txt
"""

from collections.abc import Sequence
from pathlib import Path

from dlkit.core.datasets.classes import required_classes
from dlkit.core.datasets.masks import pair_files
from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.errors import DlkitError
from dlkit.core.io.splits import find_splits
from dlkit.core.ledger import Ledger

KINDS = ("images", "masks", "instances")


class MaskFolders:
    """Images and masks of the same names in parallel folders."""

    layout = "folders of images and masks"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = self.find_folders()

    def find_folders(self) -> dict[str, tuple[Path, Path, Path]]:
        """The folders of images, masks and object masks of each split."""
        images, masks = self.root / "images", self.root / "masks"
        for inside in (images, masks):
            names = [path.name for path in inside.glob("*/") if path.is_dir()]
            if found := find_splits(names, inside):
                return {s: self.three(f"{{}}/{name}") for s, name in found.items()}
        names = [path.parent.name for path in self.root.glob("*/masks") if path.is_dir()]
        if found := find_splits(names, self.root):
            return {s: self.three(f"{name}/{{}}") for s, name in found.items()}
        return {ALL: self.three("{}")}

    def three(self, pattern: str) -> tuple[Path, Path, Path]:
        """The folders of the three kinds."""
        images, masks, objects = (self.root / pattern.format(kind) for kind in KINDS)
        return images, masks, objects

    @property
    def classes(self) -> Classes:
        """The classes of the data set's list. Raises DlkitError without one."""
        return required_classes(self.root)

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have folders."""
        return list(self.folders)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their masks."""
        images, masks, objects = self.folders[split]
        for folder in (images, masks):
            if not folder.is_dir():
                raise DlkitError(f"no folder {folder.relative_to(self.root)}", self.root)
        samples = pair_files(images, masks, objects if objects.is_dir() else None, ledger)
        return checked(samples, ledger)
