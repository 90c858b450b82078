"""Counting the n-grams of a text in bounded memory; the counts are on disk.

The positions of the text are sorted by the tokens that begin there, so that equal n-grams are
neighbors and a trie can be written sequentially. A text too large for `memory`, or shared by
several processes, is sorted in parts; each writes a sorted run of n-grams to disk, at the offset in
a file where the part begins in the text, and the runs are merged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import Bar, track
from dlkit.lm_generate.compiled_ngram import collect_ngrams, extend_trie, merge_runs, sort_positions
from dlkit.lm_generate.ngram import Trie

BLOCK = 1 << 16  # records that are processed at once
BYTES_PER_TOKEN = 16  # of a part: its id, two positions, and some reserve
GRAMS, REPEATS = "runs", "repeats"  # the files of sorted parts: n-grams, and their counts
MAX_PART = 1 << 30  # tokens: a position in a part is an int32
Records = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Counts:
    """The n-grams of a text and their counts, mapped from disk.

    If the text begins with the end of a line, that token is not counted: it is not predicted.
    """

    trie: Trie
    counts: list[np.ndarray]  # uint32 (M) of each level

    @property
    def num_tokens(self) -> int:
        return len(self.counts[0])


@dataclass(frozen=True)
class Runs:
    """Sorted n-grams of parts of a text, on disk: each run from a head to its stop, exclusive."""

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
    """Write the sorted n-grams of parts of a text to `folder`; None if one part is all of it.

    A part fits in `memory` (GB). The processes, each of which must call this, share the parts.
    """
    share = -(-len(ids) // process.world_size)
    length = min(max(int(memory * 2**30) // BYTES_PER_TOKEN, 1), MAX_PART, max(share, 1))
    if len(ids) <= length:
        return None
    if process.is_main:
        for name in (GRAMS, REPEATS):
            (folder / name).touch()
    process.barrier()

    def sort(start: int) -> int:
        """Write the n-grams of the part that begins at `start`; returns their number."""
        stop, filled = min(start + length, len(ids)), 0
        with (folder / GRAMS).open("r+b") as grams, (folder / REPEATS).open("r+b") as repeats:
            grams.seek(start * order * np.dtype(np.int32).itemsize)
            repeats.seek(start * np.dtype(np.uint32).itemsize)
            for block, times in sort_records(ids, start, stop, num_tokens, order, line_end):
                block.tofile(grams)
                times.tofile(repeats)
                filled += len(block)
        return filled

    starts = range(0, len(ids), length)
    filled = list(process.gather(map(sort, process.share(track(starts, "sorting")))))
    return Runs(np.array(starts), np.array(starts) + filled)


def count(
    ids: np.ndarray,
    num_tokens: int,
    order: int,
    line_end: int | None,
    folder: Path,
    runs: Runs | None = None,
) -> Counts:
    """Count the n-grams of 1 to `order` tokens of a text of ids; the counts are in `folder`.

    `runs` are the sorted parts of a text that does not fit in memory, or that several processes
    have sorted.
    """
    if runs is None:
        blocks = sort_records(ids, 0, len(ids), num_tokens, order, line_end)
    else:
        blocks = merge_records(runs, order, folder)
    write_trie(blocks, len(ids), num_tokens, order, folder)
    words = [map_file(folder / f"words-{level}", np.uint32) for level in range(order)]
    counts = [map_file(folder / f"counts-{level}", np.uint32) for level in range(order)]
    first = [map_file(folder / f"first-{level}", np.uint32) for level in range(order - 1)]
    # Level 1 has all tokens, also those that do not occur.
    token_counts = np.zeros(num_tokens, np.uint32)
    token_counts[words[0]] = counts[0]
    if len(ids) and ids[0] == line_end:
        token_counts[line_end] -= 1
    if order > 1:
        children = np.zeros(num_tokens, np.int64)
        children[words[0]] = np.diff(first[0].astype(np.int64))
        first[0] = np.append(0, np.cumsum(children)).astype(np.uint32)
    words[0], counts[0] = np.arange(num_tokens, dtype=np.uint32), token_counts
    return Counts(Trie(words, first, line_end), counts)


def merge_records(runs: Runs, order: int, folder: Path) -> Records:
    """Merge all runs: yields sorted n-grams (R, N) and their counts, then removes the files."""
    grams = map_file(folder / GRAMS, np.int32).reshape(-1, order)
    repeats = map_file(folder / REPEATS, np.uint32)
    heads = runs.heads.copy()
    merged, times = np.empty((BLOCK, order), np.int32), np.empty(BLOCK, np.uint32)
    while filled := merge_runs(grams, repeats, heads, runs.stops, merged, times):
        yield merged[:filled], times[:filled]
    (folder / GRAMS).unlink()
    (folder / REPEATS).unlink()


def sort_records(
    ids: np.ndarray, start: int, stop: int, num_tokens: int, order: int, line_end: int | None
) -> Records:
    """The n-grams that begin in a part of the text and their counts, sorted, in blocks."""
    part = np.full(stop - start + order, num_tokens, np.int32)
    following = ids[start : stop + order - 1]
    part[: len(following)] = following
    positions = sort_positions(part, order, num_tokens)
    grams, repeats = np.empty((BLOCK, order), np.int32), np.empty(BLOCK, np.uint32)
    end = -1 if line_end is None else line_end
    at = 0
    while at < len(positions):
        read, filled = collect_ngrams(part, positions[at:], end, num_tokens, grams, repeats)
        yield grams[:filled], repeats[:filled]
        at += read


def write_trie(blocks: Records, length: int, num_tokens: int, order: int, folder: Path) -> None:
    """Write the levels of the trie of the sorted n-grams of a text of this length."""
    kinds = ("words", "counts", "first")
    rows = {kind: np.empty((order, BLOCK + 1), np.uint32) for kind in kinds}
    last = np.full(order, num_tokens, np.int32)
    open_counts, open_first, sizes = np.zeros((3, order), np.int64)
    # The highest order has no children, so no `first`.
    levels = {kind: range(order - (kind == "first")) for kind in kinds}
    files: dict[str, list[BinaryIO]] = {
        kind: [(folder / f"{kind}-{level}").open("wb") for level in levels[kind]] for kind in kinds
    }

    def add(grams: np.ndarray, repeats: np.ndarray) -> None:
        written = extend_trie(
            grams, repeats, num_tokens, last, open_counts, open_first, sizes, *rows.values()
        )
        for kind, kind_files in files.items():
            for level, file in enumerate(kind_files):
                rows[kind][level, : written[level]].tofile(file)

    bar = Bar("counting", length)
    try:
        for grams, repeats in blocks:
            add(grams, repeats)
            bar.advance(by=int(repeats.sum()))
        add(np.empty((0, order), np.int32), np.empty(0, np.uint32))
        for level in range(order - 1):
            np.array(sizes[level + 1], np.uint32).tofile(files["first"][level])
    finally:
        bar.close()
        for kind_files in files.values():
            for file in kind_files:
                file.close()


def map_file(path: Path, dtype: Any) -> np.ndarray:
    """Map a file of numbers, which numpy refuses for an empty one."""
    return np.asarray(np.memmap(path, dtype, "r+") if path.stat().st_size else np.empty(0, dtype))
