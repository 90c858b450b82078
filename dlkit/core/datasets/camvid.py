"""CamVid's layout: lists of images and masks, or folders of them. Loads no torch.

SPLIT.txt with lines `image mask`, or SPLIT/ and SPLITannot/; classes.txt
"""

from collections.abc import Sequence
from pathlib import Path

from dlkit.core.datasets.classes import TABLES, required_classes
from dlkit.core.datasets.masks import pair_files
from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.samples import Classes, Sample
from dlkit.core.datasets.texts import read_text
from dlkit.core.io.files import is_file
from dlkit.core.io.splits import find_splits
from dlkit.core.ledger import Ledger

ANNOTATED = "annot"


class CamVid:
    """A list or a pair of folders for each split."""

    layout = "CamVid"

    def __init__(self, root: Path) -> None:
        self.root = root
        lists = [p.stem for p in root.glob("[!.]*.txt") if p.name not in TABLES]
        self.places = {s: root / f"{stem}.txt" for s, stem in find_splits(lists, root).items()}
        names = [folder.name.removesuffix(ANNOTATED) for folder in root.glob(f"*{ANNOTATED}")]
        for split, name in find_splits(names, root).items():
            self.places.setdefault(split, root / name)

    @property
    def classes(self) -> Classes:
        """The classes of the data set's list. Raises DlkitError without one."""
        return required_classes(self.root)

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a list or folders."""
        return list(self.places)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their masks."""
        place = self.places[split]
        if place.is_dir():
            masks = place.with_name(place.name + ANNOTATED)
            return checked(pair_files(place, masks, None, ledger), ledger)
        samples = []
        for number, line in enumerate(read_text(place).split("\n"), 1):
            if not line.strip():
                continue
            pair = self.two_files(line.strip())
            if pair is None:
                ledger.skip("images", "line without an image and a mask", f"{place}:{number}")
            else:
                samples.append(Sample(pair[0], f"{place}:{number}", mask=pair[1]))
        return checked(samples, ledger)

    def two_files(self, line: str) -> tuple[Path, Path] | None:
        """The image and the mask of a line; their names may have blanks."""
        words = line.split(" ") if " " in line else line.split()
        if len(words) == 2:
            return self.resolve(words[0]), self.resolve(words[1])
        for place in range(1, len(words)):
            image, mask = (
                self.resolve(" ".join(part).strip()) for part in (words[:place], words[place:])
            )
            if is_file(image) and is_file(mask):
                return image, mask
        return None

    def resolve(self, name: str) -> Path:
        """The path of a listed file, whose list may have been written for another root folder."""
        path = self.root / name.lstrip("/")
        return path if is_file(path) else self.root.joinpath(*Path(name).parts[-2:])
