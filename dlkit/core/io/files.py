"""Files that appear whole or not at all, and names of output files."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlkit.core.errors import DlkitError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when all went well, and is removed when not.

    What is there and no regular file (/dev/null, a pipe) is written to as it is.
    """
    if is_device(path):
        yield path
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        if path.is_dir():  # said before the work, not after it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise DlkitError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def is_device(path: Path) -> bool:
    """Whether this is no file that can be replaced by another: /dev/null, a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


# What pictures are saved in; one of another format becomes a PNG.
SAVED_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def picture_suffix(source: str) -> str:
    """The suffix of a picture that is made of `source`: its own, where that can be saved."""
    suffix = Path(source.partition("?")[0]).suffix.lower()
    return suffix if suffix in SAVED_SUFFIXES else ".png"


class FileNames:
    """A file in `folder` for each input: the input's own name, numbered when it is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: dict[str, int] = {}  # and how often they were asked for

    def path_for(self, source: str, suffix: str) -> Path:
        stem = Path(source.partition("?")[0]).stem or "input"
        name = first = f"{stem}{suffix}"
        while name in self.taken:
            self.taken[first] += 1
            name = f"{stem}-{self.taken[first]}{suffix}"
        self.taken[name] = 1
        path = self.folder / name
        if path.resolve() == Path(source).resolve():
            raise DlkitError(f"{path} would overwrite the input: choose another folder")
        return path
