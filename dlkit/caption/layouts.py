"""Captioned images on disk, in a layout that is recognized by its files.

    Flickr8k  *.token.txt (name#number, tab, caption) or captions.txt (CSV image,caption), the
              images in a folder beside it, and lists *{train,dev,test}Images.txt of their names;
              the folder, or the file of captions
    COCO      annotations/captions_SPLIT*.json, or one json file
    CSV       SPLIT.csv in a folder, or one file: columns path, caption and, if any, split; an image
              with several captions has several rows
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits; samples
              are 7.jpg and 7.txt, a caption in each line; or one tar file

Without a split `val`, a share of the training images is held out, the same for the same seed.
Without any splits, `test` is another such share. `all` is all images.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import coco, tars
from dlkit.core.io.image_files import SUFFIXES, exists, is_image
from dlkit.core.io.rows import Column, read_rows
from dlkit.core.io.splits import hold_out
from dlkit.core.io.text import lines as read_lines

SPLITS = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test"],
}
COLUMNS = {
    "path": Column(("path", "image", "file", "filename")),
    "caption": Column(("caption", "captions", "text"), free_text=True),
    "split": Column(("split",), optional=True),
}
FLICKR_FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its reference captions."""

    path: Path
    captions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionSplit:
    """One split of a data set: images that exist, each with a caption or more."""

    samples: list[CaptionedImage]
    skipped: Skipped


@dataclass(frozen=True)
class CaptionLine:
    """One caption of an image, and its place in the data, for messages."""

    path: Path
    caption: str
    where: str


# The captions of each split; data without splits has only the split `all`.
Splits = dict[str, list[CaptionLine]]


def read_split(data: Path, split: str, share: float = 0.1, seed: int = 0) -> CaptionSplit:
    """The images of one split, with their captions.

    A split that the data does not have holds a `share` of the images, drawn by `seed`. Unusable
    samples are skipped and counted; the caller reports them. Raises DlkitError for an unknown
    layout or split, and where no sample is usable.
    """
    if not data.exists():
        raise DlkitError("no such folder or file", data)
    if split not in {*SPLITS, "all"}:
        raise DlkitError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}, all")
    skipped = Skipped()
    splits = read_splits(data, split, skipped)
    if split == "all":
        chosen = [line for lines in splits.values() for line in lines]
    else:
        if set(splits) == {"all"}:
            test, train = hold_out(splits["all"], share, seed, key=image_of)
            splits = {"test": test, "train": train}
        if "val" not in splits and "train" in splits:
            splits["val"], splits["train"] = hold_out(
                splits["train"], share, seed + 1, key=image_of
            )
        chosen = splits.get(split, [])
    if not chosen and not (split == "val" and share == 0):
        others = ", ".join(name for name, lines in splits.items() if lines)
        raise DlkitError(
            f"no captions for the split {split!r};"
            + (f" choose from {others}" if others else " it has no captions at all"),
            data,
        )
    samples = usable_images(chosen, skipped)
    if chosen and not samples:
        skipped.report()
        raise DlkitError(f"no image of {split!r} exists and has a caption with text", data)
    return CaptionSplit(samples, skipped)


def image_of(line: CaptionLine) -> Path:
    return line.path


def usable_images(lines: Iterable[CaptionLine], skipped: Skipped) -> list[CaptionedImage]:
    """The images that exist, each with its captions, in their order."""
    samples: dict[Path, CaptionedImage] = {}
    missing: set[Path] = set()
    for line in lines:
        path = line.path
        if path in missing:
            continue
        if path not in samples and not exists(path):
            missing.add(path)
            skipped.add("missing image", f"{path} ({line.where})")
            continue
        sample = samples.setdefault(path, CaptionedImage(path))
        caption = " ".join(line.caption.split())
        if caption:
            sample.captions.append(caption)
        else:
            skipped.add("empty caption", line.where)
    for sample in samples.values():
        if not sample.captions:
            skipped.add("image without a caption", str(sample.path))
    return [sample for sample in samples.values() if sample.captions]


def read_splits(data: Path, split: str, skipped: Skipped) -> Splits:
    """The captions of each split that the data has."""
    if shards := tars.find_splits(data, SPLITS):
        return {name: read_tars(files, skipped) for name, files in shards.items()}
    if data.suffix == ".json":
        return {"all": read_coco(data, data, "all", skipped)}
    if data.suffix == ".csv":
        return read_csv(data, skipped)
    if data.is_file():
        return read_flickr(data.parent, data, skipped)
    tokens = flickr_file(data)
    if tokens is not None:
        return read_flickr(data, tokens, skipped)
    found: Splits = {}
    for name, spellings in SPLITS.items():
        for spelling in spellings:
            file = data / f"{spelling}.csv"
            if file.is_file():
                found[name] = [line for lines in read_csv(file, skipped).values() for line in lines]
    if found:
        return found
    if next(coco.json_files(data), None):
        return read_coco_splits(data, split, skipped)
    raise DlkitError(
        "no captions in a known layout: Flickr8k's *.token.txt or captions.txt, COCO's"
        " annotations/captions_*.json, or SPLIT.csv with path and caption (see"
        " `dlkit docs caption`)",
        data,
    )


def flickr_file(data: Path) -> Path | None:
    """The file of captions in a folder of Flickr8k's layout; None if there is none."""
    found = [
        *sorted(data.glob("*.token.txt")),
        *sorted(data.glob("*.token")),
        data / "captions.txt",
    ]
    # The lemmatized captions are another file of the same form.
    plain = [file for file in found if file.is_file() and "lemma" not in file.name]
    return plain[0] if plain else None


def read_flickr(data: Path, file: Path, skipped: Skipped) -> Splits:
    """The captions of a Flickr8k folder, split by its lists of images if it has any."""
    folder = next(data / name for name in FLICKR_FOLDERS if (data / name).is_dir())
    read = csv_captions if file.name == "captions.txt" else token_captions
    rows = read(file, skipped)
    captions: dict[str, list[CaptionLine]] = {}
    for name, caption, where in rows:
        captions.setdefault(name, []).append(CaptionLine(folder / name, caption, where))
    found: Splits = {}
    for split, spellings in SPLITS.items():
        for listing in (p for s in spellings for p in sorted(data.glob(f"*{s}Images.txt"))):
            for name in filter(None, map(str.strip, read_lines(str(listing)))):
                if name not in captions:
                    skipped.add("image without a caption", f"{name} ({listing})")
                found.setdefault(split, []).extend(captions.get(name, []))
    if found:
        return found
    for path in sorted(folder.iterdir()):
        if is_image(path) and path.name not in captions:
            skipped.add("image without a caption", str(path))
    return {"all": [line for lines in captions.values() for line in lines]}


def token_captions(file: Path, skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    """Image, caption and place of each line `name#number<tab>caption`."""
    for number, line in enumerate(read_lines(str(file)), start=1):
        name, tab, caption = line.partition("\t")
        if tab:
            yield name.rpartition("#")[0] or name, caption, f"{file}:{number}"
        elif line.strip():
            skipped.add("line without a tab", f"{file}:{number}")


def csv_captions(file: Path, skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    """Image, caption and place of each row."""
    for where, row in read_rows(file, COLUMNS, skipped.add):
        yield row["path"], row["caption"], where


def read_tars(files: list[Path], skipped: Skipped) -> list[CaptionLine]:
    """The captions in tar files: the lines of the part `txt` of each sample."""
    found: list[CaptionLine] = []
    for sample in tars.samples(files):
        image = sample.image(SUFFIXES)
        if image is None or "txt" not in sample.parts:
            kind = "sample without an image" if image is None else "image without a caption"
            skipped.add(kind, f"{sample.tar}/{sample.key}")
            continue
        where = str(sample.path("txt"))
        captions = sample.text("txt").strip().split("\n")
        found += [CaptionLine(image, caption, where) for caption in captions]
    return found


def read_csv(file: Path, skipped: Skipped) -> Splits:
    """The captions of a CSV, by its column `split` if it has one; paths are relative to it."""
    found: Splits = {}
    for where, row in read_rows(file, COLUMNS, skipped.add):
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        line = CaptionLine(file.parent / row["path"], row["caption"], where)
        found.setdefault(split or "all", []).append(line)
    return found


def read_coco_splits(data: Path, split: str, skipped: Skipped) -> Splits:
    """The splits of COCO's folder; all are empty except the one that is needed for `split`."""
    files: dict[str, Path] = {}
    for name in SPLITS:
        with suppress(DlkitError):  # the data has no such split
            files[name] = coco.annotation_file(data, name, "captions")
    wanted = [*files] if split == "all" else [split if split in files else "train"]
    return {
        name: read_coco(data, file, name, skipped) if name in wanted else []
        for name, file in files.items()
    }


def read_coco(data: Path, file: Path, split: str, skipped: Skipped) -> list[CaptionLine]:
    """The captions in COCO's json `file` of the folder `data`; `data` may be that file itself."""
    captions: dict[Any, list[str]] = {}
    found: list[CaptionLine] = []
    try:
        content = json.loads(file.read_bytes())
        for annotation in content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
        for image in content["images"]:
            path = coco.image_path(data, file, split, image["file_name"])
            if image["id"] not in captions:
                skipped.add("image without a caption", str(path))
            where = f"{file}, image {image['id']}"
            found += [
                CaptionLine(path, caption, where) for caption in captions.get(image["id"], [])
            ]
    except ValueError as error:
        raise DlkitError(f"not JSON ({error})", file) from error
    except (KeyError, TypeError) as error:
        raise DlkitError(f"not COCO's captions: no usable {error}", file) from error
    return found
