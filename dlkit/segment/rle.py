"""Masks as COCO stores them: lengths of runs down the columns, written as short strings.

The strings are those of pycocotools (https://github.com/cocodataset/cocoapi, common/maskApi.c): a
run is written as its difference from the run two before it, in digits of five bits, the lowest
first, each a character from `0` on; a sixth bit says that another digit follows.
"""

from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError

DIGITS = 7  # five bits each hold any difference of two lengths below 2^32


def encode(mask: np.ndarray) -> dict[str, Any]:
    """`size` and `counts` of a mask (H, W) of bool, ready for JSON."""
    height, width = mask.shape
    return {"size": [height, width], "counts": text(runs(mask))}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """The mask (H, W) of bool; `counts` may also be a list, COCO's uncompressed form."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            lengths = numbers(counts)
        else:
            lengths = np.asarray(counts, dtype=np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError) as error:
        raise DlkitError("a mask without size or counts") from error
    if min(height, width) < 0 or (lengths < 0).any() or lengths.sum() != height * width:
        raise DlkitError(f"the runs of a mask do not fill its {width} x {height} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def runs(mask: np.ndarray) -> np.ndarray:
    """Lengths of runs down the columns, the first of which is of zeros and may be empty."""
    flat = np.ascontiguousarray(mask.T, dtype=bool).reshape(-1)
    if not flat.size:
        return np.zeros(0, np.int64)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate([starts, changes, [flat.size]])).astype(np.int64)


def text(lengths: np.ndarray) -> str:
    """The lengths as COCO's string."""
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    shifted = values[:, None] >> (5 * np.arange(DIGITS + 1))
    digits = shifted[:, :-1] & 31
    # A digit is the last if what remains is the sign its highest bit already tells.
    ends = shifted[:, 1:] == np.where(digits & 16, -1, 0)
    last = ends.argmax(axis=1)[:, None]
    place = np.arange(DIGITS)
    characters = digits + 48 + 32 * (place < last)
    return characters[place <= last].astype(np.uint8).tobytes().decode("ascii")


def numbers(counts: str | bytes) -> np.ndarray:
    """The lengths that such a string holds."""
    raw = counts.encode("ascii") if isinstance(counts, str) else counts
    characters = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not characters.size:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((characters & 32) == 0)
    if ((characters < 0) | (characters > 63)).any() or ends[-1:].tolist() != [len(characters) - 1]:
        raise DlkitError("the counts of a mask are no run lengths")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= DIGITS:
        raise DlkitError("the counts of a mask are no run lengths")
    place = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((characters & 31) << (5 * place), starts)
    values -= ((characters[ends] & 16) != 0) * (1 << (5 * (place[ends] + 1)))
    # From the third on, what is written is the difference from the length two before.
    for first in (1, 2):
        chain = values[first::2]
        chain[:] = np.cumsum(chain)
    return values
