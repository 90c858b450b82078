"""COCO's run-length code of masks: lengths of runs down the columns, packed into short strings.

The strings are those of pycocotools (https://github.com/cocodataset/cocoapi, common/maskApi.c): a
run is encoded as its difference from the run two before it, in digits of five bits, lowest first,
each as a character starting at `0`; a sixth bit marks that another digit follows.
"""

from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError

MAX_PIXELS = 178_956_970  # of a mask, as of an image
DIGITS = 7  # of five bits, for any difference of two lengths below 2^32


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Encode a boolean mask (H, W) as `size` and `counts`, ready for JSON."""
    height, width = mask.shape
    return {"size": [height, width], "counts": pack_counts(run_lengths(mask))}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """Decode a boolean mask (H, W); `counts` may also be a list, COCO's uncompressed form."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            lengths = unpack_counts(counts)
        else:
            lengths = np.asarray(counts, dtype=np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError) as error:
        raise DlkitError("a mask without size or counts") from error
    if height * width > MAX_PIXELS:
        raise DlkitError(f"a mask of {width} x {height} pixels; at most {MAX_PIXELS} are read")
    if min(height, width) < 0 or (lengths < 0).any() or lengths.sum() != height * width:
        raise DlkitError(f"the runs of a mask do not fill its {width} x {height} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def run_lengths(mask: np.ndarray) -> np.ndarray:
    """Lengths of the runs down the columns, starting with a possibly empty run of zeros."""
    flat = np.ascontiguousarray(mask.T, dtype=bool).reshape(-1)
    if not flat.size:
        return np.zeros(0, np.int64)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate([starts, changes, [flat.size]])).astype(np.int64)


def pack_counts(lengths: np.ndarray) -> str:
    """Pack run lengths into COCO's string."""
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    shifted = values[:, None] >> (5 * np.arange(DIGITS + 1))
    digits = shifted[:, :-1] & 31
    # A digit is the last if the rest is the sign extension of its highest bit.
    ends = shifted[:, 1:] == np.where(digits & 16, -1, 0)
    last = ends.argmax(axis=1)[:, None]
    position = np.arange(DIGITS)
    characters = digits + 48 + 32 * (position < last)
    packed: bytes = characters[position <= last].astype(np.uint8).tobytes()
    return packed.decode("ascii")


def unpack_counts(counts: str | bytes) -> np.ndarray:
    """Unpack the run lengths of COCO's string."""
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
    position = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((characters & 31) << (5 * position), starts)
    values -= ((characters[ends] & 16) != 0) * (1 << (5 * (position[ends] + 1)))
    # From the third length on, the value is the difference from the length two before.
    for first in (1, 2):
        chain = values[first::2]
        chain[:] = np.cumsum(chain)
    return values
