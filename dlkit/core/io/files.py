"""Files that appear whole or not at all, and names of output files. Loads no torch."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped

# Formats in which images are saved; an image of another format becomes a PNG.
SAVED_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


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


def is_device(path: Path) -> bool:
    """Whether the path is something that cannot be replaced by a file: /dev/null, a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


def save_skipped(skipped: Skipped, folder: Path) -> None:
    """Write `skipped.txt` into the folder from the main process, if any sample was skipped."""
    if skipped.places and is_main_process():
        with whole_file(folder / "skipped.txt") as partial:
            partial.write_text("".join(f"{line}\n" for line in skipped.lines()), encoding="utf-8")


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
