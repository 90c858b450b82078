"""Reading captioned images; which layout it is, is seen from the files.

    Flickr8k  *.token.txt (name#number, tab, caption) or captions.txt (CSV image,caption), the
              images in a folder beside it, and lists *{train,dev,test}Images.txt of their names;
              the folder, or the file of captions
    COCO      annotations/captions_SPLIT*.json, or one json file
    CSV       SPLIT.csv in a folder, or one file: columns path, caption and, if any, split; an image
              with several captions has several rows
    tar       WebDataset's shards SPLIT-000.tar or SPLIT/000.tar, or *.tar without splits; samples
              are 7.jpg and 7.txt, a caption in each line; or one tar file

Where there is no split `val`, it is a share of the training images, the same in every run of one
seed. Where there are no splits at all, `test` is another such share. `all` means everything.
"""

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import coco, tars
from dlkit.core.io.csv_files import csv_rows, value
from dlkit.core.io.image_files import SUFFIXES, exists, is_image
from dlkit.core.io.text import lines

SPLITS = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test"],
}
PATHS = ["path", "image", "file", "filename"]
CAPTIONS = ["caption", "captions", "text"]
FLICKR_FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")


@dataclass(frozen=True)
class Sample:
    """An image and what people said of it."""

    path: Path
    captions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Captioned:
    """One split of a data set; nothing in it is empty, and every image is there."""

    samples: list[Sample]
    skipped: Skipped


@dataclass(frozen=True)
class Line:
    """A caption of an image, and where it stands."""

    path: Path
    caption: str
    where: str


# The captions of each split, as a layout's reader finds them; `all` alone where there is no split.
Listed = dict[str, list[Line]]


def read_split(data: Path, split: str, share: float = 0.1, seed: int = 0) -> Captioned:
    """The images of one split, with their captions.

    `share` of the images, chosen by `seed`, are the splits that the data itself does not have.
    What cannot be used is skipped, and counted; the caller reports it. Raises DlkitError for
    another layout, or where nothing is left.
    """
    if not data.exists():
        raise DlkitError(f"{data}: no such folder or file")
    if split not in {*SPLITS, "all"}:
        raise DlkitError(f"no split is called {split!r}: there is train, val, test and all")
    skipped = Skipped()
    listed = listed_splits(data, split, skipped)
    if split == "all":
        chosen = [line for of_split in listed.values() for line in of_split]
    else:
        if set(listed) == {"all"}:
            held_out, rest = val_split(listed["all"], share, seed)
            listed = {"test": held_out, "train": rest}
        if "val" not in listed and "train" in listed:
            listed["val"], listed["train"] = val_split(listed["train"], share, seed + 1)
        chosen = listed.get(split, [])
    if not chosen and not (split == "val" and share == 0):
        there = ", ".join(name for name, of_split in listed.items() if of_split)
        raise DlkitError(f"{data}: no captions for the split {split!r}; there is {there or 'none'}")
    samples = usable(chosen, skipped)
    if chosen and not samples:
        skipped.report()
        raise DlkitError(f"{data}: no image of {split!r} is there with a caption that has text")
    return Captioned(samples, skipped)


def usable(chosen: Iterable[Line], skipped: Skipped) -> list[Sample]:
    """The images that are there, each with its captions, in their order."""
    samples: dict[Path, Sample] = {}
    missing: set[Path] = set()
    for line in chosen:
        path = line.path
        if path in missing:
            continue
        if path not in samples and not exists(path):
            missing.add(path)
            skipped.add("missing image", f"{path} ({line.where})")
            continue
        sample = samples.setdefault(path, Sample(path))
        caption = " ".join(line.caption.split())
        if caption:
            sample.captions.append(caption)
        else:
            skipped.add("empty caption", line.where)
    for sample in samples.values():
        if not sample.captions:
            skipped.add("image without a caption", str(sample.path))
    return [sample for sample in samples.values() if sample.captions]


def val_split(listed: list[Line], share: float, seed: int) -> tuple[list[Line], list[Line]]:
    """The captions of a share of the images, one at least, and the rest."""
    paths = list(dict.fromkeys(line.path for line in listed))
    least = 1 if share and len(paths) > 1 else 0
    chosen = set(random.Random(seed).sample(paths, max(least, round(share * len(paths)))))
    held_out = [line for line in listed if line.path in chosen]
    return held_out, [line for line in listed if line.path not in chosen]


def listed_splits(data: Path, split: str, skipped: Skipped) -> Listed:
    """The captions of each split that the data has."""
    if shards := tars.of_splits(data, SPLITS):
        return {name: from_tars(files, skipped) for name, files in shards.items()}
    if data.suffix == ".json":
        return {"all": from_coco(data, data, "all", skipped)}
    if data.suffix == ".csv":
        return from_csv(data)
    if data.is_file():
        return from_flickr(data.parent, data, skipped)
    tokens = flickr_file(data)
    if tokens is not None:
        return from_flickr(data, tokens, skipped)
    found: Listed = {}
    for name, spellings in SPLITS.items():
        for spelling in spellings:
            file = data / f"{spelling}.csv"
            if file.is_file():
                found[name] = [line for of_split in from_csv(file).values() for line in of_split]
    if found:
        return found
    if next(coco.files(data), None):
        return coco_splits(data, split, skipped)
    raise DlkitError(
        f"{data}: no captions in a known layout: Flickr8k's *.token.txt or captions.txt, COCO's"
        " annotations/captions_*.json, or SPLIT.csv with path and caption (see the README)"
    )


def flickr_file(data: Path) -> Path | None:
    """The file of captions in a folder like Flickr8k's."""
    found = [
        *sorted(data.glob("*.token.txt")),
        *sorted(data.glob("*.token")),
        data / "captions.txt",
    ]
    # The lemmatized captions are another file of the same form.
    plain = [file for file in found if file.is_file() and "lemma" not in file.name]
    return plain[0] if plain else None


def from_flickr(data: Path, file: Path, skipped: Skipped) -> Listed:
    """The captions of a Flickr8k folder, by its lists of images where there are some."""
    folder = next(data / name for name in FLICKR_FOLDERS if (data / name).is_dir())
    rows = csv_captions(file) if file.name == "captions.txt" else token_captions(file, skipped)
    captions: dict[str, list[Line]] = {}
    for name, caption, where in rows:
        captions.setdefault(name, []).append(Line(folder / name, caption, where))
    found: Listed = {}
    for split, spellings in SPLITS.items():
        for listing in (p for s in spellings for p in sorted(data.glob(f"*{s}Images.txt"))):
            for name in filter(None, map(str.strip, lines(str(listing)))):
                if name not in captions:
                    skipped.add("image without a caption", f"{name} ({listing})")
                found.setdefault(split, []).extend(captions.get(name, []))
    if found:
        return found
    for path in sorted(folder.iterdir()):
        if is_image(path) and path.name not in captions:
            skipped.add("image without a caption", str(path))
    return {"all": [line for of_image in captions.values() for line in of_image]}


def token_captions(file: Path, skipped: Skipped) -> Iterator[tuple[str, str, str]]:
    """Image, caption and place of each line `name#number<tab>caption`."""
    for number, line in enumerate(lines(str(file)), start=1):
        name, tab, caption = line.partition("\t")
        if tab:
            yield name.rpartition("#")[0] or name, caption, f"{file}:{number}"
        elif line.strip():
            skipped.add("line without a tab", f"{file}:{number}")


def csv_captions(file: Path) -> Iterator[tuple[str, str, str]]:
    """Image, caption and place of each row."""
    for number, row in csv_rows(file):
        yield value(row, PATHS, file), value(row, CAPTIONS, file), f"{file}:{number}"


def from_tars(files: list[Path], skipped: Skipped) -> list[Line]:
    """The captions in tar files: the lines of the part `txt` of each sample."""
    found: list[Line] = []
    for sample in tars.samples(files):
        image = sample.image(SUFFIXES)
        if image is None or "txt" not in sample.parts:
            kind = "sample without an image" if image is None else "image without a caption"
            skipped.add(kind, f"{sample.tar}/{sample.key}")
            continue
        where = str(sample.path("txt"))
        found += [Line(image, line, where) for line in sample.text("txt").strip().split("\n")]
    return found


def from_csv(file: Path) -> Listed:
    """The captions of a CSV, by its column `split`, if it has one; paths are relative to it."""
    found: Listed = {}
    for number, row in csv_rows(file):
        path, caption = value(row, PATHS, file), value(row, CAPTIONS, file)
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        line = Line(file.parent / path, caption, f"{file}:{number}")
        found.setdefault(split or "all", []).append(line)
    return found


def coco_splits(data: Path, split: str, skipped: Skipped) -> Listed:
    """The splits of COCO's folder, of which only the one is read that is needed for `split`."""
    files: dict[str, Path] = {}
    for name in SPLITS:
        with suppress(DlkitError):  # there is no such split
            files[name] = coco.annotations_of(data, name, "captions")
    wanted = [*files] if split == "all" else [split if split in files else "train"]
    return {
        name: from_coco(data, file, name, skipped) if name in wanted else []
        for name, file in files.items()
    }


def from_coco(data: Path, file: Path, split: str, skipped: Skipped) -> list[Line]:
    """The captions of COCO's json `file` in the folder `data`, or of the json `data`."""
    captions: dict[Any, list[str]] = {}
    found: list[Line] = []
    try:
        content = json.loads(file.read_bytes())
        for annotation in content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
        for image in content["images"]:
            path = coco.image_path(data, file, split, image["file_name"])
            if image["id"] not in captions:
                skipped.add("image without a caption", str(path))
            where = f"{file}, image {image['id']}"
            found += [Line(path, caption, where) for caption in captions.get(image["id"], [])]
    except ValueError as error:
        raise DlkitError(f"{file}: not JSON ({error})") from error
    except (KeyError, TypeError) as error:
        raise DlkitError(f"{file}: not COCO's captions: no usable {error}") from error
    return found
