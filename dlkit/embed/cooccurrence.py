"""Co-occurrence counts of words, computed in bounded memory and stored on disk.

As in GloVe (Pennington et al. 2014, section 4.2), words d apart in a sentence, d at most `window`,
count 1/d, to the left and to the right: x(i, j) = x(j, i), so only pairs i <= j are stored.

A word's row is counted whole: an index lists its positions, and the words around them are added up
in an array over the vocabulary, small enough for the processor's cache. A text too large for
`memory` is counted in parts of whole sentences; each leaves a sorted run on disk, and the runs are
merged.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.io.files import reserve_space
from dlkit.core.numba_tools import njit
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import Bar
from dlkit.embed.corpus import SENTENCE_END

COUNT = np.dtype([("key", "<i8"), ("x", "<f8")])  # key = i * len(vocabulary) + j, ascending
PAIR = np.dtype([("i", "<i4"), ("j", "<i4"), ("x", "<f4")])
COUNTS_FILE = "counts.bin"
SLICE = 1 << 16  # occurrences that a thread counts at a time
BUCKET = 1 << 16  # pairs that are shuffled at a time: they fit into the cache
MAX_PART = 1 << 30  # ids: a position in a part is an int32
BYTES_PER_WORD = 16  # of a part: its id, its place in the index, and as much again for counts


@njit(cache=True, nogil=True)
def index_positions(ids: np.ndarray, num_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of every word, word by word, and their starts (num_words + 1)."""
    starts = np.zeros(num_words + 1, np.int64)
    for word in ids:
        if word >= 0:
            starts[word + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    positions = np.empty(starts[-1], np.int32)
    for position, word in enumerate(ids):
        if word >= 0:
            positions[free[word]] = position
            free[word] += 1
    return positions, starts


@njit(cache=True, nogil=True)
def count_rows(
    ids: np.ndarray,
    positions: np.ndarray,
    starts: np.ndarray,
    first: int,
    last: int,
    weights: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Fill `counts` with the rows of the words from `first` to before `last`; return their number.

    `weights` (window + 1) is the count of a word at each distance.
    """
    num_words = len(starts) - 1
    window = len(weights) - 1
    row = np.zeros(num_words)
    seen = np.empty(num_words, np.int32)
    filled = 0
    for word in range(first, last):
        num_seen = 0
        for occurrence in range(starts[word], starts[word + 1]):
            here = positions[occurrence]
            for step in (-1, 1):
                other = here
                for distance in range(1, window + 1):
                    other += step
                    if other < 0 or other >= len(ids) or ids[other] < 0:
                        break
                    neighbor = ids[other]
                    # Two of the same word see each other, which is their count in both directions.
                    if neighbor >= word:
                        if row[neighbor] == 0:
                            seen[num_seen] = neighbor
                            num_seen += 1
                        row[neighbor] += weights[distance]
        seen[:num_seen].sort()
        for neighbor in seen[:num_seen]:
            counts[filled]["key"] = np.int64(word) * num_words + neighbor
            counts[filled]["x"] = row[neighbor]
            row[neighbor] = 0
            filled += 1
    return filled


def count_cooccurrences(
    ids: np.ndarray,
    num_words: int,
    window: int,
    folder: Path,
    memory: float = 4.0,
    threads: int = 1,
    process: AnyProcess = SINGLE_PROCESS,
) -> np.ndarray:
    """Count the pairs of a text of word ids with SENTENCE_END after each sentence.

    Returns the counts (COUNT, sorted), mapped from COUNTS_FILE in `folder`; only the main process
    gets any. `memory` is in GB, for each process. The processes share the words, not the text: sums
    over parts of the text would be rounded differently.
    """
    limit = max(int(memory * 2**30), 1)
    runs: list[list[Path]] = []
    bar = Bar("counting", len(ids))
    try:
        with ThreadPoolExecutor(threads) as pool:
            for part in read_parts(ids, min(max(limit // BYTES_PER_WORD, 1), MAX_PART)):
                # A file per process: the first process counts the first words.
                own = folder / f"counts-{len(runs)}-{process.rank}.run"
                with own.open("wb") as file:
                    for counts in count_part(
                        part, num_words, window, pool, threads, limit, process
                    ):
                        counts.tofile(file)
                runs.append(list(process.gather([own])))
                bar.advance(by=len(part))
    finally:
        bar.close()
    if not process.is_main:
        return np.empty(0, COUNT)
    whole = folder / COUNTS_FILE
    for first, *others in runs:
        append_files(others, first)
    if len(runs) == 1:
        runs[0][0].replace(whole)
    else:
        merge_runs([first for first, *_ in runs], whole, max(limit // (4 * COUNT.itemsize), 1))
    return map_records(whole, COUNT)


def append_files(files: list[Path], whole: Path) -> None:
    """Move the content of `files` to the end of another file."""
    with whole.open("ab") as target:
        for path in files:
            with path.open("rb") as source:
                shutil.copyfileobj(source, target)
            path.unlink()


def read_parts(ids: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Read parts of at least `length` ids into memory, each up to the end of a sentence."""
    start = 0
    while start < len(ids):
        end = min(start + length, len(ids))
        while end < len(ids) and ids[end - 1] != SENTENCE_END:
            end += 1
        yield np.array(ids[start:end])
        start = end


def count_part(
    ids: np.ndarray,
    num_words: int,
    window: int,
    pool: ThreadPoolExecutor,
    threads: int,
    limit: int,
    process: AnyProcess,
) -> Iterator[np.ndarray]:
    """Yield the counts of a part in order, a slice of the words at a time, in `limit` / 2 bytes.

    Each process counts a contiguous range of the words.
    """
    positions, starts = index_positions(ids, num_words)
    weights = np.array([0.0, *(1 / distance for distance in range(1, window + 1))])
    # A row has at most as many entries as the word has neighbors, or as there are words after it.
    most = np.minimum(2 * window * np.diff(starts), num_words - np.arange(num_words))

    def rows(first: int, last: int) -> np.ndarray:
        counts = np.empty(int(most[first:last].sum()), COUNT)
        return counts[: count_rows(ids, positions, starts, first, last, weights, counts)]

    at_once = min(SLICE, max(limit // (4 * threads * window * COUNT.itemsize), 1))
    cuts = np.searchsorted(starts, np.arange(0, len(positions), at_once), side="left")
    bounds = np.unique(np.concatenate([[0], cuts, [num_words]])).tolist()
    slices = list(zip(bounds[:-1], bounds[1:], strict=True))
    begin, end = (len(slices) * (process.rank + i) // process.world_size for i in (0, 1))
    slices = slices[begin:end]
    for start in range(0, len(slices), threads):
        yield from pool.map(lambda bounds: rows(*bounds), slices[start : start + threads])


def merge_runs(runs: list[Path], whole: Path, length: int) -> None:
    """Merge sorted runs into one file, adding up the counts of the same key; remove the runs.

    `length` is the number of counts held in memory.
    """
    sources = [map_records(run, COUNT) for run in runs]
    taken = [0] * len(sources)
    each = max(length // len(sources), 1)
    with whole.open("wb") as file:
        while any(start < len(source) for start, source in zip(taken, sources, strict=True)):
            blocks = [
                np.array(source[start : start + each])
                for start, source in zip(taken, sources, strict=True)
            ]
            # Up to this key, the blocks hold all counts of all runs.
            known = min(
                block["key"][-1]
                for block, start, source in zip(blocks, taken, sources, strict=True)
                if start < len(source)
            )
            ends = [int(np.searchsorted(block["key"], known, side="right")) for block in blocks]
            taken = [start + end for start, end in zip(taken, ends, strict=True)]
            counts = np.concatenate([block[:end] for block, end in zip(blocks, ends, strict=True)])
            counts = counts[np.argsort(counts["key"], kind="stable")]
            first = np.flatnonzero(np.diff(counts["key"], prepend=-1))
            sums = counts[first]
            sums["x"] = np.add.reduceat(counts["x"], first)
            sums.tofile(file)
    for run in runs:
        run.unlink()


def map_records(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Map a file of records into memory; numpy refuses to map an empty one."""
    return np.memmap(path, dtype, "r+") if path.stat().st_size else np.empty(0, dtype)


@njit(cache=True, nogil=True)
def scatter(
    counts: np.ndarray, num_words: int, pairs: np.ndarray, bucket_of: np.ndarray, free: np.ndarray
) -> None:
    """Write each count, as a pair, to the next `free` place of its bucket."""
    for k in range(len(counts)):
        place = free[bucket_of[k]]
        free[bucket_of[k]] += 1
        pairs[place]["i"] = counts[k]["key"] // num_words
        pairs[place]["j"] = counts[k]["key"] % num_words
        pairs[place]["x"] = counts[k]["x"]


def shuffle_pairs(counts: np.ndarray, num_words: int, path: Path, seed: int) -> np.ndarray:
    """Write the counts in random order, as pairs (PAIR), to `path` and return them, mapped.

    Every pair draws a bucket; then each bucket is shuffled in memory.
    """
    if not len(counts):
        return np.empty(0, PAIR)
    num_buckets = -(-len(counts) // BUCKET)
    step = 16 * BUCKET
    starts = range(0, len(counts), step)

    def draw_buckets() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        for start in starts:
            block = counts[start : start + step]
            yield block, rng.integers(num_buckets, size=len(block), dtype=np.int32)

    sizes = sum(np.bincount(buckets, minlength=num_buckets) for _, buckets in draw_buckets())
    ends = np.cumsum(sizes)
    free = ends - sizes
    partial = path.with_suffix(".partial")
    pairs = np.memmap(partial, PAIR, "w+", shape=(len(counts),))
    reserve_space(partial)
    for block, buckets in draw_buckets():
        scatter(block, num_words, pairs, buckets, free)
    rng = np.random.default_rng([seed, 1])
    for end, size in zip(ends, np.asarray(sizes), strict=True):
        bucket = np.array(pairs[end - size : end])
        pairs[end - size : end] = bucket[rng.permutation(size)]
    partial.replace(path)
    return pairs
