"""How often each n-gram of a text occurs, counted in bounded memory; the counts lie on disk.

The positions of the text are sorted by the tokens that follow, so that equal n-grams stand together
and a trie can be written from front to end. A text too large for `memory`, or that several
processes share, is sorted in parts; each leaves a sorted run of n-grams on disk, at the place in a
file where the part begins in the text, and the runs are merged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import Bar
from dlkit.lm_generate.compiled_ngram import grow, merge, records, sorted_positions
from dlkit.lm_generate.ngram import Trie

BLOCK = 1 << 16  # records that are handled at once
BYTES_PER_TOKEN = 16  # of a part: its id, two positions, and some room
GRAMS, REPEATS = "runs", "repeats"  # the files of sorted parts: n-grams, how often each occurs
LONGEST_PART = 1 << 30  # tokens: a position in a part is an int32
Records = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Counts:
    """The n-grams of a text, and how often each occurs; mapped from disk.

    A token's own count leaves out the one that the text begins with, if that is the end of a line:
    nothing foretells it.
    """

    trie: Trie
    counts: list[np.ndarray]  # uint32 (M) of each level

    @property
    def num_tokens(self) -> int:
        return len(self.counts[0])


@dataclass(frozen=True)
class Runs:
    """Sorted n-grams of parts of a text, on disk: each from a head to before a stop."""

    heads: np.ndarray
    stops: np.ndarray


def sort_parts(
    ids: np.ndarray,
    num_tokens: int,
    order: int,
    line_end: int | None,
    folder: Path,
    memory: float = 2.0,
    process: AnyProcess = SINGLE_PROCESS,
) -> Runs | None:
    """Leave the sorted n-grams of parts of a text in `folder`; None where one part is all of it.

    A part fits in `memory` (GB). The processes, each of which must call this, share the parts.
    """
    share = -(-len(ids) // process.world_size)
    length = min(max(int(memory * 2**30) // BYTES_PER_TOKEN, 1), LONGEST_PART, max(share, 1))
    if len(ids) <= length:
        return None
    if process.is_main:
        for name in (GRAMS, REPEATS):
            (folder / name).touch()
    process.barrier()

    def sort(start: int) -> int:
        """How many n-grams of the part that begins there stand in the files, from there on."""
        stop, filled = min(start + length, len(ids)), 0
        with (folder / GRAMS).open("r+b") as grams, (folder / REPEATS).open("r+b") as repeats:
            grams.seek(start * order * np.dtype(np.int32).itemsize)
            repeats.seek(start * np.dtype(np.uint32).itemsize)
            for block, times in records_of(ids, start, stop, num_tokens, order, line_end):
                block.tofile(grams)
                times.tofile(repeats)
                filled += len(block)
        return filled

    starts = range(0, len(ids), length)
    filled = list(process.gather(map(sort, process.share(starts))))
    return Runs(np.array(starts), np.array(starts) + filled)


def count(
    ids: np.ndarray,
    num_tokens: int,
    order: int,
    line_end: int | None,
    folder: Path,
    runs: Runs | None = None,
) -> Counts:
    """The n-grams of a text of ids, of 1 to `order` tokens; they lie in `folder`.

    `runs` are the sorted parts of a text that does not fit in memory, or that several processes
    have sorted.
    """
    if runs is None:
        blocks = records_of(ids, 0, len(ids), num_tokens, order, line_end)
    else:
        blocks = merged_records(runs, order, folder)
    write_trie(blocks, num_tokens, order, folder)
    words = [mapped(folder / f"words-{level}", np.uint32) for level in range(order)]
    counts = [mapped(folder / f"counts-{level}", np.uint32) for level in range(order)]
    first = [mapped(folder / f"first-{level}", np.uint32) for level in range(order - 1)]
    # Also tokens that do not occur have their place in level 1.
    of_tokens = np.zeros(num_tokens, np.uint32)
    of_tokens[words[0]] = counts[0]
    if len(ids) and ids[0] == line_end:
        of_tokens[line_end] -= 1
    if order > 1:
        children = np.zeros(num_tokens, np.int64)
        children[words[0]] = np.diff(first[0].astype(np.int64))
        first[0] = np.append(0, np.cumsum(children)).astype(np.uint32)
    words[0], counts[0] = np.arange(num_tokens, dtype=np.uint32), of_tokens
    return Counts(Trie(words, first, line_end), counts)


def merged_records(runs: Runs, order: int, folder: Path) -> Records:
    """The n-grams (R, N) of all runs and how often each occurs, in order; the files are removed."""
    grams = mapped(folder / GRAMS, np.int32).reshape(-1, order)
    repeats = mapped(folder / REPEATS, np.uint32)
    heads = runs.heads.copy()
    merged, times = np.empty((BLOCK, order), np.int32), np.empty(BLOCK, np.uint32)
    while filled := merge(grams, repeats, heads, runs.stops, merged, times):
        yield merged[:filled], times[:filled]
    (folder / GRAMS).unlink()
    (folder / REPEATS).unlink()


def records_of(
    ids: np.ndarray, start: int, stop: int, num_tokens: int, order: int, line_end: int | None
) -> Records:
    """The n-grams that begin in a part of the text, sorted, in blocks."""
    part = np.full(stop - start + order, num_tokens, np.int32)
    following = ids[start : stop + order - 1]
    part[: len(following)] = following
    positions = sorted_positions(part, order, num_tokens)
    grams, repeats = np.empty((BLOCK, order), np.int32), np.empty(BLOCK, np.uint32)
    end = -1 if line_end is None else line_end
    at = 0
    while at < len(positions):
        read, filled = records(part, positions[at:], end, num_tokens, grams, repeats)
        yield grams[:filled], repeats[:filled]
        at += read


def write_trie(blocks: Records, num_tokens: int, order: int, folder: Path) -> None:
    """Write the levels of the trie of sorted n-grams."""
    kinds = ("words", "counts", "first")
    rows = {kind: np.empty((order, BLOCK + 1), np.uint32) for kind in kinds}
    last = np.full(order, num_tokens, np.int32)
    open_counts, open_first, sizes = np.zeros((3, order), np.int64)
    # What the highest order would have as `first` is nothing.
    levels = {kind: range(order - (kind == "first")) for kind in kinds}
    files: dict[str, list[BinaryIO]] = {
        kind: [(folder / f"{kind}-{level}").open("wb") for level in levels[kind]] for kind in kinds
    }

    def add(grams: np.ndarray, repeats: np.ndarray) -> None:
        written = grow(
            grams, repeats, num_tokens, last, open_counts, open_first, sizes, *rows.values()
        )
        for kind, of_kind in files.items():
            for level, file in enumerate(of_kind):
                rows[kind][level, : written[level]].tofile(file)

    bar = Bar("counting", None)
    try:
        for grams, repeats in blocks:
            add(grams, repeats)
            bar.advance()
        add(np.empty((0, order), np.int32), np.empty(0, np.uint32))
        for level in range(order - 1):
            np.array(sizes[level + 1], np.uint32).tofile(files["first"][level])
    finally:
        bar.close()
        for of_kind in files.values():
            for file in of_kind:
                file.close()


def mapped(path: Path, dtype: Any) -> np.ndarray:
    """A file of numbers, mapped, which numpy refuses for an empty one."""
    return np.asarray(np.memmap(path, dtype, "r+") if path.stat().st_size else np.empty(0, dtype))
