"""Folders whose names are labels: SPLIT/LABEL/*.jpg, or LABEL/*.jpg without splits. Loads no torch.

A classes.txt beside them lists the labels that are read.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.image_files import has_suffix
from dlkit.core.io.splits import find_splits, is_split_name, split_of
from dlkit.core.io.walk import Ignored, is_hidden, walk
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

MAX_SHOWN = 4  # names in a message


class ClassFolders:
    """A folder of images in folders of labels, with or without folders of splits above them."""

    layout = "folders of labels"

    def __init__(self, data: Path) -> None:
        self.root = data
        self.folders = split_folders(data, of_labels=True) or {ALL: data}
        self.classes = read_classes(data) or Classes()

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a folder, or only `all`."""
        return list(self.folders)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split by label, then by name.

        The ledger notes labels without images, and images beside the folders of labels.
        """
        folder, ignored, whole = self.folders[split], Ignored(), self.root.resolve()
        samples = []
        found: set[str] = set()
        for label_folder in visible_folders(folder):
            label = listed_label(label_folder.name, self.classes.names)
            found.add(label)
            if label_folder.is_symlink() and label_folder.resolve().is_relative_to(whole):
                ledger.note(
                    "links to folders of the data set, which are not read", str(label_folder)
                )
                continue
            paths = find_images(label_folder, self.root, ledger, ignored)
            if not paths:
                ledger.note("labels without images", str(label_folder))
            for path in paths:
                if self.classes.names and label not in self.classes.names:
                    ledger.skip("images", f"label {label!r} that classes.txt does not list", path)
                else:
                    samples.append(Sample(Path(path), path, labels=(label,)))
        for path in beside(folder):
            ledger.note("images beside the folders of labels, which are not read", path)
        for label in self.classes.names:
            if label not in found:
                ledger.note("labels of classes.txt without a folder", label)
        ignored.hidden += sum(is_hidden(path.name, path.is_dir()) for path in entries(folder))
        if folder != self.root:
            ignored.hidden += sum(
                is_hidden(path.name, path.is_dir()) for path in entries(self.root)
            )
        ignored.report()
        if not samples and not ledger.places:
            raise DlkitError(
                "no images; arrange them as LABEL/*.jpg or list them in a CSV of paths and labels",
                folder,
            )
        return samples


def split_folders(data: Path, of_labels: bool = False) -> dict[str, Path]:
    """The folder of each split in a data set; empty where none is called like a split.

    With `of_labels` a folder of images alone, such as `train` beside `car` and `bus`, is a label.
    Prints which folders are read where they have other names. Raises DlkitError for folders of
    splits beside others with images.
    """
    folders = {path.name: path for path in visible_folders(data)}
    of_splits = [name for name in folders if is_split_name(name)]
    others = [name for name in folders if split_of(name) is None and has_image(folders[name])]
    if not of_splits and not others:
        of_splits = [name for name in folders if split_of(name) is not None]
    if of_labels and others:
        of_splits = [name for name in of_splits if any(visible_folders(folders[name]))]
    if not of_splits:
        return {}
    if others:
        raise DlkitError(
            f"folders of splits ({shown(of_splits)}) beside other folders with images"
            f" ({shown(others)}); put these into one of the splits, or elsewhere",
            data,
        )
    found = find_splits(of_splits, data)
    log_spelled(data, {name: split for split, name in found.items()})
    for name in folders:
        if name not in found.values() and has_image(folders[name]):
            log(f"{data}: the folder {name} is not read")
    return {split: folders[name] for split, name in found.items()}


def log_spelled(data: Path, splits: Mapping[str, str]) -> None:
    """Print the splits by their names in the data set, where these are others."""
    spelled = [f"{name} is {split}" for name, split in splits.items() if name != split]
    if spelled:
        log(f"{data}: {', '.join(spelled)}")


def shown(names: Sequence[str]) -> str:
    """Some of the names, for a message."""
    return ", ".join(names[:MAX_SHOWN]) + (" ..." if len(names) > MAX_SHOWN else "")


def visible_folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder, and links to some, by name, without hidden and foreign ones."""
    for path in entries(folder):
        if path.is_dir() and not is_hidden(path.name, True):
            yield path


def beside(folder: Path) -> Iterator[str]:
    """The images in a folder itself."""
    for path in entries(folder):
        if has_suffix(path.name) and not is_hidden(path.name, False) and path.is_file():
            yield str(path)


def entries(folder: Path) -> list[Path]:
    """The entries of a folder by name. Raises DlkitError if it cannot be listed."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError as error:
        raise DlkitError(f"cannot be listed ({os_reason(error)})", folder) from error


def has_image(folder: Path) -> bool:
    """Whether there is an image below a folder."""
    return next(walk(str(folder), has_suffix), None) is not None


def find_images(folder: Path, whole: Path, ledger: Ledger, ignored: Ignored) -> list[str]:
    """The images below a folder of the data set `whole`.

    The ledger counts broken links and folders that are closed.
    """
    found = list(walk(str(folder), has_suffix, ignored, str(whole)))
    for path in ignored.broken:
        ledger.skip("images", "broken link", path)
    for closed, reason in ignored.unreadable.items():
        ledger.skip("folders", f"unreadable folder ({reason})", closed)
    ignored.broken.clear()
    ignored.unreadable.clear()
    return found


def listed_label(label: str, names: Sequence[str]) -> str:
    """The label, or the listed one that it is the number of, from 0 on."""
    if label not in names and label.isdecimal() and int(label) < len(names):
        return names[int(label)]
    return label
