"""Flickr8k's layout of captions. Loads no torch.

*.token.txt (name#number, tab, caption) or captions.txt (CSV image,caption), the images in a folder
beside it, and lists *{train,dev,test}Images.txt of their names.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dlkit.core.datasets.captions import CaptionLine, captioned
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.datasets.tables import CAPTIONS, PATHS
from dlkit.core.io.image_files import has_suffix
from dlkit.core.io.rows import Column, read_rows
from dlkit.core.io.splits import find_splits
from dlkit.core.io.text import lines as read_lines
from dlkit.core.io.walk import is_hidden
from dlkit.core.ledger import Ledger

FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")
NUMBER = re.compile(r"#\d+$")
LISTS = "Images.txt"


class Flickr:
    """A folder with a file of captions, or that file."""

    layout = "Flickr8k"

    def __init__(self, data: Path) -> None:
        self.root = data.parent if data.is_file() else data
        self.file = data if data.is_file() else captions_file(data)
        assert self.file is not None  # `find_source` has found it
        self.folder = next(self.root / name for name in FOLDERS if (self.root / name).is_dir())
        self.classes = Classes()
        lists = {path.stem: path for path in sorted(self.root.glob(f"[!.]*{LISTS}"))}
        self.lists = {split: lists[name] for split, name in find_splits(lists, self.root).items()}

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a list, or only `all`."""
        return list(self.lists) or [ALL]

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their captions."""
        names = set(os.listdir(self.folder))
        captions: dict[str, list[CaptionLine]] = {}
        for name, line in self.lines(names, ledger):
            captions.setdefault(name, []).append(line)
        if split == ALL:
            for name in sorted(names - captions.keys()):
                if has_suffix(name) and not is_hidden(name, False):
                    place = str(self.folder / name)
                    ledger.skip("images", "image without a caption", place)
            return captioned((line for lines in captions.values() for line in lines), ledger)
        chosen: dict[str, list[CaptionLine]] = {}
        for name in filter(None, map(str.strip, read_lines(str(self.lists[split])))):
            if name in captions:
                chosen[name] = captions[name]
            else:
                place = f"{name} ({self.lists[split]})"
                ledger.skip("images", "image without a caption", place)
        return captioned((line for lines in chosen.values() for line in lines), ledger)

    def lines(self, names: set[str], ledger: Ledger) -> Iterator[tuple[str, CaptionLine]]:
        """The image's name of each caption, and the caption."""
        skip = partial(ledger.skip, "captions")
        assert self.file is not None
        if self.file.name.lower() == "captions.txt":
            columns = {"path": Column(PATHS), "caption": Column(CAPTIONS, free_text=True)}
            for where, cells in read_rows(self.file, columns, skip):
                name = cells["path"] if cells["path"] in names else cells["path"].strip()
                yield name, CaptionLine(self.folder / name, cells["caption"], where)
            return
        for number, line in enumerate(read_lines(str(self.file)), start=1):
            name, tab, caption = line.partition("\t")
            where = f"{self.file}:{number}"
            if tab:
                if name not in names:  # a name may end in # and a number
                    name = NUMBER.sub("", name)
                yield name, CaptionLine(self.folder / name, caption, where)
            elif line.strip():
                skip("line without a tab", where)


def captions_file(data: Path) -> Path | None:
    """The file of captions in a folder of Flickr8k's layout; None if there is none."""
    found = [
        *sorted(data.glob("[!.]*.token.txt")),
        *sorted(data.glob("[!.]*.token")),
        data / "captions.txt",
    ]
    # The lemmatized captions are another file of the same form.
    plain = [file for file in found if file.is_file() and "lemma" not in file.name]
    return plain[0] if plain else None
