"""Files that appear whole or not at all, and names of output files. Loads no torch."""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.failures import Failure
from dlkit.core.ledger import SKIPPED_FILE, Ledger, write_skipped
from dlkit.core.progress import log

AnyPath = str | os.PathLike[str]
# Formats in which images are saved; an image of another format becomes a PNG.
SAVED_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


MAX_FOLDERS = 3  # of one folder that have a line each
MAX_NAME = 200  # bytes of a file's name; most file systems allow 255, with suffixes
# Names that Windows reserves for devices, with any suffix.
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{d}{n}" for d in ("COM", "LPT") for n in range(1, 10))}
ENDLESS = {"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
WAIT = 10  # seconds for the reader of a pipe
# What pathlib raises for names from outside: too long, with NUL, closed folders, loops of links.
BAD_PATH = (OSError, ValueError, RuntimeError)

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
    if _keeps_existing and is_file(path):
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
        try:
            with with_reader(path):
                yield path
        except OSError as error:
            raise DlkitError(f"cannot be written ({os_reason(error)})", path) from error
        return
    if is_dir(path) or not path.name:  # reported before the work, not after it
        raise DlkitError(f"cannot be written ({os.strerror(errno.EISDIR)})", path)
    partial = path.with_name(f"{safe_name(path.name)}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_name(path)
    except BAD_PATH as error:
        raise DlkitError(f"cannot be written ({os_reason(error)})", path) from error
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise DlkitError(f"cannot be written ({os_reason(error)})", path) from error
    finally:
        with suppress(*BAD_PATH):
            partial.unlink()


# ---- Paths from outside: these never raise ------------------------------------------------------


def exists(path: AnyPath) -> bool:
    """Whether there is something of this name; False for text that cannot be a path."""
    try:
        return Path(path).exists()
    except BAD_PATH:
        return False


def is_file(path: AnyPath) -> bool:
    """Whether there is such a file; False for text that cannot be a path."""
    try:
        return Path(path).is_file()
    except BAD_PATH:
        return False


def is_dir(path: AnyPath) -> bool:
    """Whether there is such a folder; False for text that cannot be a path."""
    try:
        return Path(path).is_dir()
    except BAD_PATH:
        return False


def draw_beside(path: Path, draw: Callable[..., object], *args: Any) -> Iterator[Failure]:
    """Call `draw(*args)`, which saves a picture beside results, and note the file.

    Whatever prevents it is yielded as a Failure: the results matter more.
    """
    if failure := failed_to_draw(path, draw, *args):
        yield failure
    else:
        note_saved(path)


def draw_in_training(path: Path, draw: Callable[..., object], *args: Any) -> None:
    """Call `draw(*args)`, which saves a picture of a training; print whatever prevents it."""
    if failure := failed_to_draw(path, draw, *args):
        log(f"{failure.path}: {failure.error}")
        if failure.trace:
            log(failure.trace)


def failed_to_draw(path: Path, draw: Callable[..., object], *args: Any) -> Failure | None:
    """Call `draw(*args)`, which saves a picture; a Failure for whatever it raises."""
    try:
        draw(*args)
    except Exception as error:
        reason = error.reason_for(path) if isinstance(error, DlkitError) else str(error)
        return Failure(str(path), f"could not be drawn ({reason or type(error).__name__})")
    return None


def is_device(path: Path) -> bool:
    """Whether the path is something that cannot be replaced by a file: /dev/null, a pipe."""
    return exists(path) and not (is_file(path) or is_dir(path))


def resolved(path: AnyPath) -> Path:
    """The path without links; as it is where it cannot be one, or where a link leads to itself."""
    try:
        return Path(path).resolve()
    except BAD_PATH:
        return Path(path)


def entries(folder: AnyPath) -> list[Path]:
    """The content of a folder, sorted by name; nothing where it cannot be read."""
    try:
        return sorted(Path(folder).iterdir())
    except BAD_PATH:
        return []


def read_whole(path: Path, most: int) -> bytes:
    """The bytes of a file, which may also be a pipe.

    Raises DlkitError if it cannot be read, and for one of more than `most` bytes.
    """
    check_ends(path)
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except BAD_PATH as error:
        raise DlkitError(os_reason(error), path) from error
    if len(data) > most:
        raise DlkitError(f"has more than {most / 1e6:.0f} MB; give a smaller file", path)
    return data


def check_ends(path: Path) -> None:
    """Raise DlkitError for a device that never ends, such as /dev/zero, before it is read."""
    try:
        kind = path.stat().st_mode
    except BAD_PATH:
        return  # opening it fails with the reason
    endless = stat.S_ISBLK(kind) or (stat.S_ISCHR(kind) and str(path) in ENDLESS)
    if endless:
        raise DlkitError("a device that never ends; give a file", path)


@contextmanager
def with_reader(path: Path) -> Iterator[None]:
    """Within the context a named pipe has a program that reads it; other paths need none.

    Raises DlkitError if none reads it within WAIT seconds: opening the pipe would wait for ever.
    """
    if not path.is_fifo():
        yield
        return
    end = time.monotonic() + WAIT
    while True:
        try:
            kept = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                raise DlkitError("a pipe that no program reads", path) from error
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(kept)


def reserve_space(path: Path) -> None:
    """Reserve the disk space of a file of zeros, before it is mapped into memory and written.

    Writing to a mapped file on a full disk would end the process. Raises OSError if the disk is
    full. Does nothing on systems without the call.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size:
                os.posix_fallocate(file.fileno(), 0, size)


# ---- Names of files ------------------------------------------------------------------------------


def safe_name(text: str) -> str:
    """One component of a path for any text: a label, an id, the name of a member of an archive.

    Separators, control characters, drives, the names that Windows reserves, `.` and `..` are
    replaced, and names of more than MAX_NAME bytes are cut; then a hash of the text is appended,
    so that two texts never have one name. Another text is its own name.
    """
    name = "".join("_" if c in "/\\" or not is_visible(c) else c for c in text)
    name = re.sub(r"^([A-Za-z]):", r"\1_", name).rstrip(". ").lstrip(" ")
    if name.partition(".")[0].upper().strip() in RESERVED:
        name = f"_{name}"
    if name == text and name and len(os.fsencode(name)) <= MAX_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    short = os.fsencode(name)[: MAX_NAME - 11].decode("utf-8", "ignore")
    return f"{short or 'name'}-{digest}"


def is_visible(char: str) -> bool:
    """Whether a character may be in a file's name: no control character or lone surrogate.

    Those by which Python represents bytes that are not UTF-8 are part of names that exist.
    """
    return char.isprintable() or char in "\u3000\xa0" or "\udc80" <= char <= "\udcff"


def check_name(path: Path) -> None:
    """Raise OSError or ValueError, before the work, for a name that the file system refuses."""
    with suppress(FileNotFoundError):
        os.lstat(path)


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
        """The path for the output of the input `source`.

        Raises DlkitError if that is the input, or a file that the command keeps.
        """
        path = self.reserve(source, suffix)
        check_free(path)
        return path

    def check(self, sources: Iterable[str], suffix_of: Callable[[str], str]) -> None:
        """Raise DlkitError, before the work, if an output for these inputs exists and is kept.

        Inputs that are listed on stdin are checked when they are written.
        """
        on_stdin = isinstance(sources, list | tuple) and "-" in sources
        if on_stdin or not keeps_existing() or not is_dir(self.folder):
            return
        ahead = FileNames(self.folder)
        ahead.taken = dict(self.taken)
        for source in sources:
            check_free(ahead.reserve(source, suffix_of(source)))

    def reserve(self, source: str, suffix: str) -> Path:
        """The output path for the input `source`. Raises DlkitError if that is the input."""
        stem = safe_name(Path(source.partition("?")[0]).stem or "input")
        name = first = f"{stem}{suffix}"
        while name in self.taken:
            self.taken[first] += 1
            name = f"{stem}-{self.taken[first]}{suffix}"
        self.taken[name] = 1
        path = self.folder / name
        if resolved(path) == resolved(source):
            raise DlkitError("would overwrite the input; choose another folder", path)
        return path
