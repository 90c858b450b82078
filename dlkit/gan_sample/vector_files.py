"""Latent vectors in files: FILE.npy, numpy's own format, fp32 (N, Z)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file

Stored = np.ndarray[Any, np.dtype[np.float32]]


def read(path: Path, size: int) -> Stored:
    """Vectors (N, `size`), mapped into memory; DlkitError for a file of anything else."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DlkitError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise DlkitError(f"{path}: not numbers in numpy's format, FILE.npy ({error})") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise DlkitError(f"{path}: not an array of numbers")
    if found.ndim != 2 or found.shape[1] != size or not len(found):
        raise DlkitError(
            f"{path}: an array of shape {found.shape}, but the model takes rows of {size} numbers"
        )
    if not all(np.isfinite(found[n : n + 4096]).all() for n in range(0, len(found), 4096)):
        raise DlkitError(f"{path}: some of its numbers are not finite")
    return found


@contextmanager
def writing(path: Path, count: int, size: int) -> Iterator[Stored]:
    """An array (count, size) to fill, which lies in the file and appears with it whole."""
    with whole_file(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.float32, (count, size))
        yield array
        array.flush()
