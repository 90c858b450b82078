"""The files below a folder. Loads no torch."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from dlkit.core.errors import os_reason
from dlkit.core.progress import log

# Left behind by other programs, as is all whose name begins with a dot (._photo.jpg too).
FOREIGN_FOLDERS = {"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"}
MAX_KINDS = 5  # of files that the line about those ignored names


@dataclass
class Ignored:
    """Hidden entries, files of other kinds, broken links and closed folders that a walk ignored."""

    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)  # by suffix
    broken: list[str] = field(default_factory=list)  # links to nothing, pipes, sockets
    unreadable: dict[str, str] = field(default_factory=dict)  # folders, with the reason

    def other(self, name: str) -> None:
        """Count a file of another kind."""
        self.others[suffix_of(name)] += 1

    def lines(self) -> list[str]:
        """A line about all that was ignored, if anything, and one for each closed folder."""
        parts = []
        if self.hidden:
            parts.append(f"{self.hidden:,} hidden files and folders")
        if self.others:
            kinds = ", ".join(
                suffix or "no suffix" for suffix, _ in self.others.most_common(MAX_KINDS)
            )
            more = " ..." if len(self.others) > MAX_KINDS else ""
            parts.append(f"{self.others.total():,} files of other kinds ({kinds}{more})")
        if self.broken:
            parts.append(f"{len(self.broken):,} broken links or devices ({self.broken[0]})")
        found = ["ignored " + ", ".join(parts)] if parts else []
        return found + [f"ignored {folder}: {why}" for folder, why in self.unreadable.items()]

    def report(self) -> None:
        """Print the lines on stderr."""
        for line in self.lines():
            log(line)


def walk(
    folder: str,
    wanted: Callable[[str], bool],
    ignored: Ignored | None = None,
    whole: str | None = None,
) -> Iterator[str]:
    """Yield the wanted files below a folder, by name within each folder.

    Links are followed, to each folder once, so that loops end; a folder inside goes by its own name
    rather than by that of a link to it, and so does one in the folder `whole`, of which this is a
    part. Hidden entries and another program's own folders are ignored; so are those that cannot be
    listed. `wanted` gets a name. One folder at a time is listed: the paths of a whole tree may not
    fit into memory.
    """
    top = os.path.realpath(whole or folder)
    ignored = Ignored() if ignored is None else ignored
    yield from Walk(wanted, ignored, top).of(str(PurePath(folder)))


@dataclass
class Walk:
    """A walk in the folder that is really at `top`, and the folders that it has entered."""

    wanted: Callable[[str], bool]
    ignored: Ignored
    top: str
    entered: set[tuple[int, int]] = field(default_factory=set)

    def of(self, folder: str) -> Iterator[str]:
        """Yield the wanted files below a folder."""
        names: list[str] = []
        folders: set[str] = set()
        links: set[str] = set()
        strange: set[str] = set()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in self.entered:
                return
            self.entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if is_folder(entry):
                        (links if entry.is_symlink() else folders).add(entry.name)
                    elif not is_file(entry):
                        strange.add(entry.name)
        except (OSError, ValueError) as error:
            self.ignored.unreadable[folder] = os_reason(error)
            return
        start = "" if folder == os.curdir else os.path.join(folder, "")
        names.sort()
        for name in names:
            if is_hidden(name, name in folders or name in links):
                self.ignored.hidden += 1
            elif name in folders or (name in links and not self.reaches(start + name)):
                yield from self.of(start + name)
            elif name in links:
                continue
            elif not self.wanted(name):
                self.ignored.other(name)
            elif name in strange:
                self.ignored.broken.append(start + name)
            else:
                yield start + name

    def reaches(self, link: str) -> bool:
        """Whether the walk comes to the linked folder without the link."""
        inside = os.path.relpath(os.path.realpath(link), self.top).split(os.sep)
        return inside[0] != os.pardir and not any(
            is_hidden(part, True) for part in inside if part != os.curdir
        )


def is_hidden(name: str, is_directory: bool) -> bool:
    """Whether a name begins with a dot, or is that of another program's folder."""
    return name.startswith(".") or (is_directory and name in FOREIGN_FOLDERS)


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, with its dot; empty if there is none."""
    return os.path.splitext(name)[1].lower()


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; False for a loop of links."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a file or a link to one; False for a loop of links."""
    try:
        return entry.is_file()
    except OSError:
        return False
