"""The files below a folder. Loads no torch."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from dlkit.core.errors import os_reason

# Left behind by other programs, as is all whose name begins with a dot (._photo.jpg too).
FOREIGN_FOLDERS = {"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"}
MAX_KINDS = 5  # of files that the line about those ignored names


@dataclass
class Ignored:
    """Hidden entries, files of other kinds and closed folders that a walk ignored."""

    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)  # by suffix
    unreadable: dict[str, str] = field(default_factory=dict)  # folders, with the reason

    def lines(self) -> list[str]:
        """The ignored, a line for each kind; none if nothing was."""
        found = []
        if self.hidden:
            found.append(f"ignored {self.hidden:,} hidden files and folders")
        if self.others:
            kinds = ", ".join(
                suffix or "no suffix" for suffix, _ in self.others.most_common(MAX_KINDS)
            )
            more = " ..." if len(self.others) > MAX_KINDS else ""
            found.append(f"ignored {self.others.total():,} files of other kinds ({kinds}{more})")
        found += [f"ignored {folder}: {reason}" for folder, reason in self.unreadable.items()]
        return found


def walk(
    folder: str, wanted: Callable[[str], bool], ignored: Ignored | None = None
) -> Iterator[str]:
    """Yield the wanted files below a folder, by name within each folder.

    Links are followed, to each folder once, so that loops end. Hidden entries and another program's
    own folders are ignored; so are those that cannot be listed. `wanted` gets a name. One folder
    at a time is listed: the paths of a whole tree may not fit into memory.
    """
    yield from below(folder, wanted, Ignored() if ignored is None else ignored, set())


def below(
    folder: str, wanted: Callable[[str], bool], ignored: Ignored, entered: set[tuple[int, int]]
) -> Iterator[str]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            found = sorted((entry.name, is_folder(entry)) for entry in entries)
    except (OSError, ValueError) as error:
        ignored.unreadable[folder] = os_reason(error)
        return
    for name, is_directory in found:
        if name.startswith(".") or (is_directory and name in FOREIGN_FOLDERS):
            ignored.hidden += 1
        elif is_directory:
            yield from below(os.path.join(folder, name), wanted, ignored, entered)
        elif wanted(name):
            yield os.path.join(folder, name)
        else:
            ignored.others[PurePath(name).suffix.lower()] += 1


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; False for a loop of links."""
    try:
        return entry.is_dir()
    except OSError:
        return False
