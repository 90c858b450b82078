"""WebDataset shards: tar files of samples whose parts share a name: 000123.jpg and 000123.cls.

A member is named like a file in a folder, `shard-000.tar/000123.jpg`, and read in place: a tar file
is not unpacked, and only the tables of contents of the last ones are kept.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from threading import Lock

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_file
from dlkit.core.io.walk import is_hidden

SUFFIX = ".tar"
MAX_MEMBER = 200_000_000  # bytes of a file in a tar file
MAX_BRACES = 1_000_000  # of names in braces
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{},]*(?:,[^{},]*)+)\}")


@dataclass(frozen=True)
class Place:
    """The position of a member's bytes in its tar file."""

    offset: int
    size: int


def is_tar(path: str) -> bool:
    """Whether the path is an existing tar file."""
    return path.endswith(SUFFIX) and is_file(path)


def split_path(path: str) -> tuple[str, str] | None:
    """The tar file and the member in a path; None for other paths."""
    at = path.find(f"{SUFFIX}/")
    while at >= 0:
        end = at + len(SUFFIX)
        if is_file(path[:end]):
            return path[:end], path[end + 1 :]
        at = path.find(f"{SUFFIX}/", end)
    return None


def members(tar: str, wanted: Callable[[str], bool] = bool) -> Iterator[tuple[str, Place]]:
    """Yield the files in a tar file, in its order.

    Raises DlkitError if it is damaged or compressed.
    """
    import tarfile  # not for commands without tar files

    try:
        size, end = os.path.getsize(tar), -1
        with tarfile.open(tar, "r:") as file:
            while (member := file.next()) is not None:
                if member.isfile() and wanted(member.name):
                    last = member.offset_data + member.size
                    if member.issparse() or not end < member.offset_data <= last <= size:
                        raise DlkitError("a damaged tar file: a member is larger than it", tar)
                    yield member.name, Place(member.offset_data, member.size)
                if member.offset <= end:
                    raise DlkitError("a damaged tar file: its members lead back to its start", tar)
                end = member.offset
                file.members = []  # type: ignore[attr-defined]  # else all that were read are kept
    except FileNotFoundError as error:
        raise DlkitError("no such file", tar) from error
    except (OSError, ValueError, OverflowError, RecursionError, tarfile.TarError) as error:
        raise DlkitError("a damaged tar file, or a compressed one", tar) from error


@dataclass(frozen=True)
class TarSample:
    """The parts of one sample by suffix, which follows the first dot of the name: jpg, cls."""

    tar: str
    key: str
    parts: dict[str, str]

    def text(self, kind: str) -> str:
        """The text in a part."""
        try:
            return read(self.tar, self.parts[kind]).decode()
        except UnicodeDecodeError as error:
            raise DlkitError(f"byte {error.start} is not UTF-8", self.path(kind)) from error

    def path(self, kind: str) -> Path:
        return Path(self.tar, self.parts[kind])

    def image(self, suffixes: set[str]) -> Path | None:
        """The path of the part that is an image."""
        return next(
            (self.path(kind) for kind in self.parts if f".{kind.lower()}" in suffixes), None
        )


def samples(tars: Iterable[Path]) -> Iterator[TarSample]:
    """Yield the samples of tar files, in their order; a sample's parts must be adjacent.

    The tables of contents are kept: whoever trains reads the samples again, in any order.
    """
    tars = list(tars)
    contents.most = max(contents.most, len(tars))
    for tar in map(str, tars):
        visible = (name for name in contents.table(tar) if not is_hidden_member(name))
        for key, names in groupby(visible, key=sample_key):
            yield TarSample(tar, key, {name[len(key) + 1 :]: name for name in names})


def is_hidden_member(name: str) -> bool:
    """Whether a member, or a folder in its name, is hidden or another program's: ._photo.jpg."""
    *folders, file = [part for part in name.split("/") if part not in {"", ".", ".."}] or [""]
    return is_hidden(file, False) or any(is_hidden(folder, True) for folder in folders)


def sample_key(name: str) -> str:
    """The name up to the first dot after the last slash."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def expand_braces(source: str) -> Iterator[str]:
    """`shard-{000..099}.tar` and `{a,b}.tar` as a shell expands them; others as they are."""
    match = BRACES.search(source)
    if match is None:
        yield source
        return
    first, last, listed = match.groups()
    if listed is None:
        if int(last) - int(first) > MAX_BRACES:
            raise DlkitError(f"{source}: more than {MAX_BRACES} names; give fewer in braces")
        width = len(first) if first.startswith("0") else 0
        choices: Iterable[str] = (f"{n:0{width}}" for n in range(int(first), int(last) + 1))
    else:
        choices = listed.split(",")
    for choice in choices:
        yield from expand_braces(source[: match.start()] + choice + source[match.end() :])


class Contents:
    """The tables of contents of the tar files used last."""

    def __init__(self, most: int) -> None:
        self.most, self.lock = most, Lock()
        self.tables: OrderedDict[str, dict[str, Place]] = OrderedDict()

    def table(self, tar: str) -> dict[str, Place]:
        with self.lock:
            if tar in self.tables:
                self.tables.move_to_end(tar)
            else:
                self.tables[tar] = dict(members(tar))
                if len(self.tables) > self.most:
                    self.tables.popitem(last=False)
            return self.tables[tar]


contents = Contents(most=4)


def read(tar: str, name: str) -> bytes:
    """The bytes of a member."""
    place = contents.table(tar).get(name)
    if place is None:
        raise DlkitError(f"no such file in {tar}")
    if place.size > MAX_MEMBER:
        raise DlkitError(f"has more than {MAX_MEMBER / 1e6:.0f} MB in {tar}; unpack it")
    with open(tar, "rb") as file:
        file.seek(place.offset)
        data = file.read(place.size)
    if len(data) < place.size:
        raise DlkitError(f"{tar} is cut short")
    return data
