"""Paths of images in folders, globs, tar files and lists. Loads no torch and no Pillow."""

import glob
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io import tars
from dlkit.core.io.text import lines
from dlkit.core.progress import Inputs

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


class ImageSource(str):
    """One image that a Python function got: a path or URL taken as it is, or an image in memory.

    As a string it is the image's name. `image` is a Pillow image, or a DlkitError for an object
    that is none; `content` is the file behind a URL once it has been downloaded.
    """

    image: Any = None
    content: bytes | None = None

    def __deepcopy__(self, memo: object) -> "ImageSource":
        return self  # the records of results are copied, the image is not


def files(sources: Iterable[str]) -> Inputs[str]:
    """Paths and URLs of images: files, folders (recursively), globs, URLs, `-` for a list.

    A tar file yields the images in it, and `shard-{000..099}.tar` those of many. A source without
    images yields itself, so that reading it fails in its place among the others. An ImageSource
    yields itself, too. The images can be counted, except those of a list on stdin.
    """
    if isinstance(sources, ListedPaths):
        return Inputs(find_files(sources), sources.__len__)
    if not isinstance(sources, list | tuple) or "-" in sources:
        return Inputs(find_files(sources), lambda: None)
    return Inputs(find_files(sources), lambda: sum(1 for _ in find_files(sources)))


def find_files(sources: Iterable[str]) -> Iterator[str]:
    """Yield the images of `files`."""
    for source in sources:
        if isinstance(source, ImageSource):
            yield source
        elif source == "-":
            yield from files(line for line in lines("-", "surrogateescape") if line)
        elif "://" in source:
            yield source
        elif os.path.exists(source) or tars.split_path(source):
            yield from or_itself(find_below(source), source)
        elif tars.BRACES.search(source):
            yield from files(tars.expand_braces(source))
        elif glob.has_magic(source):
            found = iter(sorted(glob.glob(source, recursive=True)))
            yield from or_itself((path for name in found for path in find_below(name)), source)
        else:
            yield source


def missing(source: str) -> str | None:
    """Why a source of `files` has no images; None if it may have some."""
    path = Path(source)
    if source == "-" or "://" in source or tars.BRACES.search(source):
        return None
    if path.is_dir():
        return "a folder without images" if next(find_below(source), None) is None else None
    if path.exists() or tars.split_path(source) is not None:
        return None
    if glob.has_magic(source):
        return None if next(glob.iglob(source, recursive=True), None) else "no file matches"
    return "no such file"


def find_in_tar(tar: str) -> Iterator[str]:
    """The images in a tar file; the tar file itself if it is damaged, so that reading it fails."""
    try:
        for name, _ in tars.members(tar, lambda name: Path(name).suffix.lower() in SUFFIXES):
            yield f"{tar}/{name}"
    except DlkitError:
        yield tar


def find_below(name: str) -> Iterator[str]:
    """The images in a folder and its subfolders, or in a tar file; another file yields itself."""
    if tars.is_tar(name):
        yield from find_in_tar(name)
        return
    if not os.path.isdir(name):
        yield name
        return
    # Lists one folder at a time: the paths of a whole tree may not fit into memory.
    try:
        entries = sorted(os.listdir(name))
    except OSError:
        yield name  # reading it fails with the reason
        return
    for path in (str(Path(name, entry)) for entry in entries):
        if os.path.isdir(path) and not os.path.islink(path):
            yield from find_below(path)
        elif is_image(Path(path)):
            yield path


def or_itself(found: Iterator[str], source: str) -> Iterator[str]:
    """The paths found, or the source itself if there are none."""
    first = next(found, None)
    yield source if first is None else first
    yield from found


def keep_apart(folders: Iterable[Path | None], sources: Iterable[str]) -> Iterable[str]:
    """The images of the sources. Raises DlkitError if an output folder holds some of them.

    All are listed before the first is returned; they wait in a compact buffer, and can be read
    more than once.
    """
    targets = {folder.resolve(): folder for folder in folders if folder is not None}
    if not targets:
        return sources
    waiting, count = io.BytesIO(), 0
    for path in files(sources):
        parent = Path(path).resolve().parent
        if parent in targets:
            raise DlkitError(
                "the folder holds inputs, which are not overwritten; choose another",
                targets[parent],
            )
        waiting.write(json.dumps(path).encode() + b"\n")
        count += 1
    return ListedPaths(waiting.getvalue(), count)


class ListedPaths:
    """Paths in a compact form: JSON lines."""

    def __init__(self, lines: bytes, count: int) -> None:
        self.lines, self.count = lines, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        return map(json.loads, io.BytesIO(self.lines))


def is_image(path: Path) -> bool:
    """Whether the path is an existing file with an image's suffix."""
    return path.suffix.lower() in SUFFIXES and exists(path)


def exists(path: Path) -> bool:
    """Whether the path is a file, by itself or in a tar file."""
    return path.is_file() or tars.split_path(str(path)) is not None


def with_image_suffix(stem: Path) -> Path:
    """The image of that name with any suffix; with `.jpg` if there is none."""
    for suffix in SUFFIXES:
        for path in (stem.with_name(stem.name + s) for s in (suffix, suffix.upper())):
            if path.exists():
                return path
    return stem.with_name(stem.name + ".jpg")
