"""Reading of labeled images; the layout is recognized from the files.

    folders   SPLIT/LABEL/*.jpg, or LABEL/*.jpg without splits
    CSV       SPLIT.csv in a folder, or one file: columns path, label and optionally split; the
              labels of a multi-label image are separated by ;
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits, or one
              file; samples are 7.jpg and 7.cls, a label or its line in classes.txt from 0 on

Without a split `val`, a share of the training images is held out, the same for the same seed.
Without any splits, `test` is another such share. The split `all` contains all images.
"""

from dataclasses import dataclass
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import tars
from dlkit.core.io.image_files import SUFFIXES
from dlkit.core.io.labels import read_class_names
from dlkit.core.io.rows import Column, read_rows
from dlkit.core.io.splits import hold_out

SPLITS = {"train": ["train", "training"], "val": ["val", "valid", "validation"], "test": ["test"]}
COLUMNS = {
    "path": Column(("path", "image", "file", "filename")),
    "labels": Column(("label", "labels", "class"), number=True),
    "split": Column(("split",), optional=True),
}


@dataclass(frozen=True)
class ImageSample:
    """An image and the indices of its labels: one, or any number in multi-label data."""

    path: Path
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ImageSplit:
    """One split of a data set; `multi_label` if images may have any number of labels."""

    samples: list[ImageSample]
    labels: list[str]
    multi_label: bool
    skipped: Skipped


# Images with the names of their labels, as the readers of the layouts list them.
Listed = list[tuple[Path, list[str]]]


def read_split(
    data: Path, split: str, labels: list[str] | None = None, share: float = 0.1, seed: int = 0
) -> ImageSplit:
    """Read the images of one split; `labels` fixes the labels and their order.

    A `share` of the images, chosen by `seed`, becomes each split that the data itself lacks.
    Unusable samples are skipped; the caller reports them. Raises DlkitError for another layout.
    """
    if not data.exists():
        raise DlkitError("no such folder or file", data)
    skipped = Skipped()
    listed, multi_label = select_split(data, split, share, seed, skipped)
    if labels is None:
        labels = sorted({name for _, names in listed for name in names})
    index = {name: number for number, name in enumerate(labels)}
    samples = []
    for path, names in listed:
        unknown = [name for name in names if name not in index]
        if unknown:
            skipped.add("unknown label", f"{path} ({', '.join(unknown)})")
        else:
            samples.append(ImageSample(path, tuple(sorted(index[name] for name in names))))
    return ImageSplit(samples, labels, multi_label, skipped)


def select_split(
    data: Path, split: str, share: float, seed: int, skipped: Skipped
) -> tuple[Listed, bool]:
    """Return the images of a split with their labels, and whether the data is multi-label."""
    splits = list_splits(data, skipped)
    multi_label = any(len(names) != 1 for listed in splits.values() for _, names in listed)
    if split == "all":
        return [pair for listed in splits.values() for pair in listed], multi_label
    if split not in SPLITS:
        raise DlkitError(f"unknown split {split!r}; choose from train, val, test, all")
    if set(splits) == {"all"}:
        held_out, rest = hold_out(splits["all"], share, seed, stratum=by_labels)
        splits = {"test": held_out, "train": rest}
    if "val" not in splits and "train" in splits:
        splits["val"], splits["train"] = hold_out(
            splits["train"], share, seed + 1, stratum=by_labels
        )
    if not splits.get(split) and not (split == "val" and share == 0):
        available = ", ".join(name for name, listed in splits.items() if listed) or "none"
        raise DlkitError(f"no images in the split {split!r}; available: {available}", data)
    return splits.get(split, []), multi_label


def by_labels(entry: tuple[Path, list[str]]) -> tuple[str, ...]:
    """Return the labels of an image, by which splits are stratified."""
    return tuple(entry[1])


def list_splits(data: Path, skipped: Skipped) -> dict[str, Listed]:
    """List the images of each split that the data has; of `all` if it has no splits."""
    if shards := tars.find_splits(data, SPLITS):
        return {split: read_tars(data, files, skipped) for split, files in shards.items()}
    if data.is_file():
        return read_csv(data, skipped)
    found: dict[str, Listed] = {}
    for split, spellings in SPLITS.items():
        for name in spellings:
            if (data / f"{name}.csv").is_file():
                listed = read_csv(data / f"{name}.csv", skipped)
                found[split] = [pair for pairs in listed.values() for pair in pairs]
            elif (data / name).is_dir():
                found[split] = read_folders(data / name, skipped)
    return found or {"all": read_folders(data, skipped)}


def read_folders(folder: Path, skipped: Skipped) -> Listed:
    """List the images below each folder, whose name is their label."""
    listed: Listed = []
    labels = sorted(path for path in folder.iterdir() if path.is_dir())
    for label in labels:
        images = sorted(p for p in label.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not images:
            skipped.add("label without images", str(label))
        listed += [(path, [label.name]) for path in images]
    if not listed:
        raise DlkitError(
            f"{folder}: no images; arrange them as LABEL/*.jpg or list them in a CSV of paths and"
            " labels"
        )
    return listed


def read_tars(data: Path, files: list[Path], skipped: Skipped) -> Listed:
    """List the images in tar files; the member `.cls` of a sample holds its label."""
    names = read_class_names(data)
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


def read_csv(file: Path, skipped: Skipped) -> dict[str, Listed]:
    """List the images of a CSV by its column `split`, or as `all`; paths are relative to it."""
    found: dict[str, Listed] = {}
    for where, row in read_rows(file, COLUMNS, skipped.add):
        path = file.parent / row["path"].strip()
        names = [name.strip() for name in row["labels"].split(";") if name.strip()]
        if not path.is_file():
            skipped.add("missing image", f"{where} ({path})")
            continue
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        found.setdefault(split or "all", []).append((path, names))
    if not found:
        raise DlkitError("none of the listed images exists", file)
    return found
