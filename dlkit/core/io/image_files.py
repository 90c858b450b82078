"""Paths of images in folders, globs, tar files and lists. Loads no torch and no Pillow."""

import glob
import io
import json
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from dlkit.core.environment import listed_on_stdin
from dlkit.core.errors import DlkitError
from dlkit.core.io import files as paths
from dlkit.core.io import tars
from dlkit.core.io.files import is_dir, is_file, resolved
from dlkit.core.io.text import BATCH, line_batches
from dlkit.core.io.walk import Ignored, is_hidden, suffix_of, walk
from dlkit.core.progress import Inputs

# Formats in which images can be written.
WRITABLE = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
HEIF = find_spec("pillow_heif") is not None  # Pillow's plugin for the photographs of telephones
# Files that are read in folders and globs. A file that is named is read whatever its suffix is.
SUFFIXES = WRITABLE | {
    ".jfif", ".jpe", ".jif", ".jpg_large", ".mpo", ".avif", ".jp2", ".j2k",
    ".ppm", ".pgm", ".pbm", ".pnm",
    *((".heic", ".heif") if HEIF else ()),
}  # fmt: skip


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
    images yields itself, so that reading it fails in its place among the others; so does a folder
    that cannot be listed. An ImageSource yields itself, too. The images can be counted, except
    those of a list on stdin. After the last one a line on stderr counts the files ignored.
    """
    if isinstance(sources, ListedPaths):
        return Inputs(find_files(sources, Ignored()), sources.__len__)
    found = find_and_report(sources)
    if not isinstance(sources, list | tuple) or "-" in sources:
        return Inputs(found, lambda: None)
    return Inputs(found, lambda: sum(1 for _ in find_files(sources, Ignored())))


def find_and_report(sources: Iterable[str]) -> Iterator[str]:
    """Yield the images of `files`, then report what was ignored."""
    ignored = Ignored()
    yield from find_files(sources, ignored)
    ignored.unreadable.clear()  # they are among the images
    ignored.report()


def find_files(sources: Iterable[str], ignored: Ignored) -> Iterator[str]:
    """Yield the images of `files`."""
    for source in sources:
        if isinstance(source, ImageSource):
            yield source
        elif source == "-":
            listed = listed_on_stdin(line_batches("-", BATCH, "surrogateescape"))
            yield from find_files(listed, ignored)
        elif "://" in source:
            yield source
        elif paths.exists(source) or tars.split_path(source):
            yield from or_itself(find_below(source, ignored), source)
        elif tars.BRACES.search(source):
            yield from find_files(tars.expand_braces(source), ignored)
        elif glob.has_magic(source):
            found = (
                path for name in globbed(source, ignored) for path in find_below(name, ignored)
            )
            yield from or_itself(found, source)
        else:
            yield source


def missing(source: str) -> str | None:
    """Why a source of `files` has no images; None if it may have some."""
    path = Path(source)
    if source == "-" or "://" in source or tars.BRACES.search(source):
        return None
    if is_dir(path):
        found = next(find_below(source, Ignored()), None)
        return why_empty(source) if found in {None, source} else None
    if paths.exists(path) or tars.split_path(source) is not None:
        return None
    if glob.has_magic(source):
        matches = glob.iglob(escape_names(source), recursive=True)
        return None if next(matches, None) else "no file matches"
    return "no such file"


def why_empty(folder: str) -> str:
    """Why a folder has no images: the reason of its failure as an input."""
    ignored = Ignored()
    next(walk(folder, has_suffix, ignored), None)
    if folder in ignored.unreadable:
        return f"a folder that cannot be listed ({ignored.unreadable[folder]})"
    return "; ".join(["a folder without images", *ignored.lines()])


def find_in_tar(tar: str, ignored: Ignored) -> Iterator[str]:
    """The images in a tar file; the tar file itself if it is damaged, so that reading it fails."""
    try:
        for name, _ in tars.members(tar, has_suffix):
            if tars.is_hidden_member(name):
                ignored.hidden += 1
            else:
                yield f"{tar}/{name}"
    except DlkitError:
        yield tar


def find_below(name: str, ignored: Ignored) -> Iterator[str]:
    """The images in a folder and its subfolders, or in a tar file; another file yields itself.

    A folder that cannot be listed yields itself after them: reading it fails with the reason.
    """
    if tars.is_tar(name):
        yield from find_in_tar(name, ignored)
    elif os.path.isdir(name):
        closed = len(ignored.unreadable)
        yield from walk(name, has_suffix, ignored)
        yield from [*ignored.unreadable][closed:]
    else:
        yield name


def globbed(pattern: str, ignored: Ignored) -> Iterator[str]:
    """The folders and images that a glob matches, sorted, none of them twice by loops of links.

    The files of a folder that is matched itself are not matched again. A pattern that ends in a
    suffix, such as *.dat, matches files of that suffix.
    """
    suffix = suffix_of(pattern)
    every_file = suffix != "" and not glob.has_magic(suffix)
    spelled = set(pattern.split(os.sep))
    real: dict[str, str | None] = {}  # by folder; None for one that is inside of a matched one
    seen: set[str] = set()
    for path in sorted(glob.glob(escape_names(pattern), recursive=True)):
        folder, name = os.path.split(path)
        if folder not in real:
            here = PurePath(os.path.realpath(folder))
            inside = any(str(above) in seen for above in (here, *here.parents))
            hidden = any(
                is_hidden(part, True) for part in folder.split(os.sep) if part not in spelled
            )
            real[folder] = None if inside or hidden else str(here)
        parent = real[folder]
        is_directory = os.path.isdir(path)
        if parent is None or (is_hidden(name, is_directory) and name not in spelled):
            continue
        place = os.path.join(parent, name).rstrip(os.sep)
        if is_directory:
            place = os.path.realpath(place)
        if place in seen:
            continue
        seen.add(place)
        if is_directory:
            real[path.rstrip(os.sep)] = None
        if every_file or is_directory or has_suffix(name) or tars.is_tar(path):
            yield path
        else:
            ignored.other(name)


def escape_names(pattern: str) -> str:
    """A glob whose first parts, where they are names of folders as they are, match only these."""
    parts = pattern.split(os.sep)
    for count in range(len(parts) - 1, 0, -1):
        folder = os.sep.join(parts[:count])
        if os.path.isdir(folder):
            return os.sep.join([glob.escape(folder), *parts[count:]])
    return pattern


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
    targets = {resolved(folder): folder for folder in folders if folder is not None}
    # A list on stdin is not complete before its last input; FileNames keeps inputs from harm.
    if not targets or (isinstance(sources, list | tuple) and "-" in sources):
        return sources
    waiting, count = io.BytesIO(), 0
    for path in files(sources):
        parent = resolved(path).parent
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


def has_suffix(name: str) -> bool:
    """Whether the name of a file has an image's suffix."""
    return suffix_of(name) in SUFFIXES


def exists(path: Path) -> bool:
    """Whether the path is a file, by itself or in a tar file."""
    return is_file(path) or tars.split_path(str(path)) is not None


def with_image_suffix(stem: Path) -> Path:
    """The image of that name with any suffix; with `.jpg` if there is none."""
    for suffix in SUFFIXES:
        for path in (stem.with_name(stem.name + s) for s in (suffix, suffix.upper())):
            if paths.exists(path):
                return path
    return stem.with_name(stem.name + ".jpg")
