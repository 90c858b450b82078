"""Files that appear whole or not at all, and names of output files. Loads no torch."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.ledger import SKIPPED_FILE, Ledger, write_skipped
from dlkit.core.progress import log

# Formats in which images are saved; an image of another format becomes a PNG.
SAVED_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


MAX_FOLDERS = 3  # of one folder that have a line each

_keeps_existing = False
_saved: dict[Path, tuple[int, Path]] = {}  # by folder: how many files, and the first


@contextmanager
def keep_existing(keep: bool) -> Iterator[None]:
    """Within the context of a command, keep files of the user that exist, or overwrite them."""
    global _keeps_existing
    before, _keeps_existing = _keeps_existing, keep
    try:
        yield
    finally:
        _keeps_existing = before


def keeps_existing() -> bool:
    """Whether the command keeps files that exist, and this process checks for them.

    Of several processes the main one does: others may have begun to write.
    """
    return _keeps_existing and is_main_process()


def check_free(path: Path) -> None:
    """Raise DlkitError if the file exists and the command keeps files that exist."""
    if _keeps_existing and path.is_file():
        raise DlkitError("exists already; add --force to overwrite it", path)


def check_free_in(folder: Path | None, *names: str) -> None:
    """Raise DlkitError, before the work, if a file of these names in the folder is kept."""
    if folder is not None and keeps_existing():
        for name in names:
            check_free(folder / name)


def note_saved(path: Path) -> None:
    """Note that a file named by the user is written, for `report_saved`."""
    count, first = _saved.get(path.parent, (0, path))
    _saved[path.parent] = count + 1, first


def report_saved() -> None:
    """Print a line for each folder into which files were saved since the last call.

    Many folders of one folder, as those of labels, have one line.
    """
    inside: dict[Path, list[Path]] = {}  # folders by the one that they are in
    for folder in _saved:
        inside.setdefault(folder.parent, []).append(folder)
    for parent, folders in inside.items():
        counts = [_saved[folder][0] for folder in folders]
        if len(folders) > MAX_FOLDERS:
            log(f"saved {sum(counts)} files in {len(folders)} folders of {parent}")
            continue
        for folder, count in zip(folders, counts, strict=True):
            one = count == 1
            log(f"saved {_saved[folder][1]}" if one else f"saved {count} files in {folder}")
    _saved.clear()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` on success and is removed on failure.

    A device or a pipe, such as /dev/null, is written to directly.
    """
    if is_device(path):
        yield path
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        if path.is_dir():  # reported before the work, not after it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise DlkitError(f"cannot be written ({error.strerror or error})", path) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; False for text that cannot be a path."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_device(path: Path) -> bool:
    """Whether the path is something that cannot be replaced by a file: /dev/null, a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


def save_skipped(skipped: Skipped, folder: Path) -> None:
    """Write `skipped.txt` into the folder from the main process, if any sample was skipped."""
    if skipped.places and is_main_process():
        with whole_file(folder / "skipped.txt") as partial:
            partial.write_text("".join(f"{line}\n" for line in skipped.lines()), encoding="utf-8")


def save_ledgers(folder: Path, *ledgers: Ledger) -> None:
    """Write `skipped.csv` into the folder from the main process, if anything was skipped."""
    if any(ledger.places for ledger in ledgers) and is_main_process():
        with whole_file(folder / SKIPPED_FILE) as partial:
            write_skipped(ledgers, partial)


def picture_suffix(source: str) -> str:
    """The suffix of an image made from `source`: its own, if that format can be saved, or .png."""
    suffix = Path(source.partition("?")[0]).suffix.lower()
    return suffix if suffix in SAVED_SUFFIXES else ".png"


class FileNames:
    """Names of output files in `folder`: each input's own name, numbered when it is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: dict[str, int] = {}  # how often each name was requested

    def path_for(self, source: str, suffix: str) -> Path:
        """The path to which the output for the input `source` is written now.

        Raises DlkitError if that is the input, or a file that the command keeps.
        """
        path = self.reserve(source, suffix)
        check_free(path)
        note_saved(path)
        return path

    def check(self, sources: Iterable[str], suffix_of: Callable[[str], str]) -> None:
        """Raise DlkitError, before the work, if an output for these inputs exists and is kept."""
        if not keeps_existing() or not self.folder.is_dir():
            return
        ahead = FileNames(self.folder)
        ahead.taken = dict(self.taken)
        for source in sources:
            check_free(ahead.reserve(source, suffix_of(source)))

    def reserve(self, source: str, suffix: str) -> Path:
        """The output path for the input `source`. Raises DlkitError if that is the input."""
        stem = Path(source.partition("?")[0]).stem or "input"
        name = first = f"{stem}{suffix}"
        while name in self.taken:
            self.taken[first] += 1
            name = f"{stem}-{self.taken[first]}{suffix}"
        self.taken[name] = 1
        path = self.folder / name
        if path.resolve() == Path(source).resolve():
            raise DlkitError("would overwrite the input; choose another folder", path)
        return path
