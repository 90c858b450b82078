"""Files of latent vectors: NumPy arrays FILE.npy, fp32 (N, Z)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import reserve_space, whole_file

VectorArray = np.ndarray[Any, np.dtype[np.float32]]


def read(path: Path, size: int) -> VectorArray:
    """Memory-map vectors (N, `size`); raises DlkitError for any other content."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DlkitError("no such file", path) from None
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise DlkitError("not a NumPy array file, or a damaged one; give FILE.npy", path) from error
    return checked(array, size, path)


def checked(array: Any, size: int, path: Path | None = None) -> VectorArray:
    """Vectors (N, `size`); raises DlkitError for anything else. `path` is their file, if any."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DlkitError("not an array of numbers; give latent vectors", path)
    if array.ndim != 2 or array.shape[1] != size or not len(array):
        raise DlkitError(
            f"an array of shape {array.shape}; the model needs rows of {size} numbers", path
        )
    if not all(np.isfinite(array[n : n + 4096]).all() for n in range(0, len(array), 4096)):
        raise DlkitError("some numbers are not finite; give finite latent vectors", path)
    return array


@contextmanager
def open_for_writing(path: Path, count: int, size: int) -> Iterator[VectorArray]:
    """A memory-mapped array (count, size) to fill; the file appears when it is complete."""
    with whole_file(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.float32, (count, size))
        reserve_space(partial)
        yield array
        array.flush()
