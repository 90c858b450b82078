"""Reading labeled images; which layout it is, is seen from the files.

    folders   SPLIT/LABEL/*.jpg, or LABEL/*.jpg without splits
    CSV       SPLIT.csv in a folder, or one file: columns path, label and, if any, split; several
              labels of an image are separated by ;
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits; samples
              are 7.jpg and 7.cls, a label or its line in classes.txt from 0 on; or one tar file

Without a split `val`, it is a share of the training images, the same in every run of one seed.
Where there are no splits at all, `test` is another such share. `all` means everything there is.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import tars
from dlkit.core.io.csv_files import csv_rows, value
from dlkit.core.io.text import lines
from dlkit.core.vision.images import SUFFIXES

SPLITS = {"train": ["train", "training"], "val": ["val", "valid", "validation"], "test": ["test"]}
PATHS = ["path", "image", "file", "filename"]
LABELS = ["label", "labels", "class"]


@dataclass(frozen=True)
class Sample:
    """An image and the indices of its labels: one, or any number where labels do not exclude."""

    path: Path
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Labeled:
    """One split of a data set; `several` where images may have any number of labels."""

    samples: list[Sample]
    labels: list[str]
    multi_label: bool
    skipped: Skipped


# An image and the names of its labels, as a layout's reader finds them.
Listed = list[tuple[Path, list[str]]]


def read_split(
    data: Path, split: str, labels: list[str] | None = None, share: float = 0.1, seed: int = 0
) -> Labeled:
    """The images of one split; `labels` fixes the labels and their order.

    `share` of the images, chosen by `seed`, are the splits that the data itself does not have.
    What cannot be used is skipped; the caller reports it. Raises DlkitError for another layout.
    """
    if not data.exists():
        raise DlkitError(f"{data}: no such folder or file")
    skipped = Skipped()
    listed, multi_label = of_split(data, split, share, seed, skipped)
    if labels is None:
        labels = sorted({name for _, names in listed for name in names})
    index = {name: number for number, name in enumerate(labels)}
    samples = []
    for path, names in listed:
        unknown = [name for name in names if name not in index]
        if unknown:
            skipped.add("unknown label", f"{path} ({', '.join(unknown)})")
        else:
            samples.append(Sample(path, tuple(sorted(index[name] for name in names))))
    return Labeled(samples, labels, multi_label, skipped)


def of_split(
    data: Path, split: str, share: float, seed: int, skipped: Skipped
) -> tuple[Listed, bool]:
    """The images of a split with the names of their labels; whether these may be several."""
    splits = listed_splits(data, skipped)
    multi_label = any(len(names) != 1 for listed in splits.values() for _, names in listed)
    if split == "all":
        return [pair for listed in splits.values() for pair in listed], multi_label
    if split not in SPLITS:
        raise DlkitError(f"no split is called {split!r}: there is train, val, test and all")
    if set(splits) == {"all"}:
        held_out, rest = val_split(splits["all"], share, seed)
        splits = {"test": held_out, "train": rest}
    if "val" not in splits and "train" in splits:
        splits["val"], splits["train"] = val_split(splits["train"], share, seed + 1)
    if not splits.get(split) and not (split == "val" and share == 0):
        there = ", ".join(name for name, listed in splits.items() if listed)
        raise DlkitError(f"{data}: no images for the split {split!r}; there is {there or 'none'}")
    return splits.get(split, []), multi_label


def val_split(listed: Listed, share: float, seed: int) -> tuple[Listed, Listed]:
    """A share of the images of each label, one at least, and the rest, in the order given."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, (_, names) in enumerate(listed):
        groups.setdefault(tuple(names), []).append(index)
    draw = random.Random(seed)
    held_out = set()
    for members in groups.values():
        least = 1 if share and len(members) > 1 else 0
        held_out.update(draw.sample(members, max(least, round(share * len(members)))))
    chosen = [pair for index, pair in enumerate(listed) if index in held_out]
    return chosen, [pair for index, pair in enumerate(listed) if index not in held_out]


def listed_splits(data: Path, skipped: Skipped) -> dict[str, Listed]:
    """The splits that the data has; `all` alone where it has none."""
    if shards := tars.of_splits(data, SPLITS):
        return {split: from_tars(data, files, skipped) for split, files in shards.items()}
    if data.is_file():
        return from_csv(data, skipped)
    found: dict[str, Listed] = {}
    for split, spellings in SPLITS.items():
        for name in spellings:
            if (data / f"{name}.csv").is_file():
                listed = from_csv(data / f"{name}.csv", skipped)
                found[split] = [pair for pairs in listed.values() for pair in pairs]
            elif (data / name).is_dir():
                found[split] = from_folders(data / name, skipped)
    return found or {"all": from_folders(data, skipped)}


def from_folders(folder: Path, skipped: Skipped) -> Listed:
    """The images below each folder, which is their label."""
    listed: Listed = []
    labels = sorted(path for path in folder.iterdir() if path.is_dir())
    for label in labels:
        images = sorted(p for p in label.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not images:
            skipped.add("label without images", str(label))
        listed += [(path, [label.name]) for path in images]
    if not listed:
        raise DlkitError(
            f"{folder}: no folders with images (LABEL/*.jpg) and no CSV of paths and labels"
        )
    return listed


def from_tars(data: Path, files: list[Path], skipped: Skipped) -> Listed:
    """The images in tar files; a part `cls` of the same sample has the label."""
    names = class_names(data)
    listed: Listed = []
    for sample in tars.samples(files):
        image = sample.image(SUFFIXES)
        if image is None:
            skipped.add("sample without an image", f"{sample.tar}/{sample.key}")
        elif "cls" not in sample.parts:
            skipped.add("image without a label", str(image))
        else:
            label = sample.text("cls").strip()
            if names and label.isdecimal() and int(label) < len(names):
                label = names[int(label)]
            listed.append((image, [label]))
    if not listed:
        raise DlkitError(f"{files[0]}: no samples with an image and a label (7.jpg, 7.cls)")
    return listed


def class_names(data: Path) -> list[str]:
    """The lines of classes.txt, if the folder has it."""
    file = data / "classes.txt"
    return [line.strip() for line in lines(str(file))] if file.is_file() else []


def from_csv(file: Path, skipped: Skipped) -> dict[str, Listed]:
    """The images a CSV lists, by its column `split`, if it has one; paths are relative to it."""
    found: dict[str, Listed] = {}
    for number, row in csv_rows(file):
        path = file.parent / value(row, PATHS, file)
        names = [name.strip() for name in value(row, LABELS, file).split(";") if name.strip()]
        if not path.is_file():
            skipped.add("missing image", f"{file}:{number} ({path})")
            continue
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        found.setdefault(split or "all", []).append((path, names))
    if not found:
        raise DlkitError(f"{file}: lists no image that is there")
    return found
