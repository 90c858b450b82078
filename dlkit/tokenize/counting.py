"""Counting of the distinct pre-tokens of a corpus, in parallel."""

import queue
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dlkit.core.environment import ignore_signals
from dlkit.core.errors import DlkitError
from dlkit.core.parallel.sharding import join_processes
from dlkit.tokenize import pretokenize
from dlkit.tokenize.data import map_ahead
from dlkit.tokenize.normalize import normalize_lines

Array = npt.NDArray[Any]
MAX_PIECE = 1 << 20  # bytes of a pre-token: each merge in it reads all of it
SMALL = 1 << 19  # bytes up to which Python is faster than the import of numba


@dataclass(frozen=True)
class PieceCounts:
    """Distinct pre-tokens: their bytes one after the other, their lengths, their counts."""

    pool: Array  # uint8
    lengths: Array  # int64, in bytes
    counts: Array  # int64

    def texts(self) -> list[str]:
        """The pre-tokens."""
        data = self.pool.tobytes()
        ends = np.cumsum(self.lengths).tolist()
        return [
            data[a:b].decode("utf-8", "surrogateescape")
            for a, b in zip([0, *ends], ends, strict=False)
        ]


def count_pre_tokens(
    blocks: Iterator[bytes],
    split: str,
    steps: list[str],
    workers: int,
    distributed: bool = False,
    gaps: bool = False,
) -> PieceCounts:
    """Count the distinct pre-tokens of all lines (each with its end); with `gaps`, all text.

    With `distributed`, each process that torchrun or srun started counts a share of the blocks,
    and all processes get the sums.
    """
    if not distributed:
        pieces = count_blocks(blocks, split, steps, workers, gaps)
    else:
        with join_processes() as process:
            own = count_blocks(process.share(blocks), split, steps, workers, gaps)
            pieces = sum_pieces(list(process.gather([own])))
    longest = pieces.lengths.max(initial=0)
    if longest > MAX_PIECE:
        raise DlkitError(
            f"--split: a pre-token of {longest} bytes is too long to learn from (at most "
            f"{MAX_PIECE}); break the text into lines, or choose another --split"
        )
    return pieces


def count_blocks(
    blocks: Iterator[bytes], split: str, steps: list[str], workers: int, gaps: bool = False
) -> PieceCounts:
    first: list[bytes] = []
    size = 0
    for block in blocks:
        first.append(block)
        size += len(block)
        if size > SMALL:
            break
    else:
        return from_counter(sum_counters(count_block(b, split, steps, gaps) for b in first))

    def all_blocks() -> Iterator[bytes]:
        yield from first
        first.clear()
        yield from blocks

    from dlkit.tokenize import compiled_split

    if split in compiled_split.MODES and not gaps:
        return count_compiled(all_blocks(), compiled_split.MODES[split], steps, workers)
    # Ctrl-C is for this process, which then ends the others.
    ignore = partial(ignore_signals, (signal.SIGINT,))
    with ProcessPoolExecutor(workers, initializer=ignore) as pool:
        work = partial(count_block, split=split, steps=steps, gaps=gaps)
        return from_counter(sum_counters(map_ahead(pool, work, all_blocks(), workers)))


def count_block(block: bytes, split: str, steps: list[str], gaps: bool = False) -> Counter[str]:
    """Count the pre-tokens of a block in Python."""
    split_line = pretokenize.splitter(split, gaps)
    counter: Counter[str] = Counter()
    for line in re.findall(r"[^\n]*\n|[^\n]+", normalize_lines(block.decode(), steps)):
        counter.update(split_line(line))
    return counter


def sum_counters(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def sum_pieces(shares: Iterable[PieceCounts]) -> PieceCounts:
    """Sum the counts of several processes."""
    total: Counter[str] = Counter()
    for share in shares:
        counts = share.counts.tolist()
        total.update(dict(zip(share.texts(), counts, strict=True)))
    return from_counter(total)


def from_counter(counter: Counter[str]) -> PieceCounts:
    encoded = [piece.encode("utf-8", "surrogateescape") for piece in counter]
    return PieceCounts(
        np.frombuffer(b"".join(encoded), np.uint8),
        np.array([len(piece) for piece in encoded], np.int64),
        np.array(list(counter.values()), np.int64),
    )


def count_compiled(
    blocks: Iterator[bytes], mode: int, steps: list[str], workers: int
) -> PieceCounts:
    """Count in threads, each into a table of its own, and sum the tables."""
    from dlkit.core.numba_tools import compile_notice
    from dlkit.tokenize import compiled_split, compiled_table

    kinds = compiled_split.character_kinds(mode)
    with compile_notice("the loops for large inputs", 20):
        nowhere = np.zeros(0, np.int64)
        empty: Any = compiled_table.empty()
        compiled_split.count_pieces(
            np.frombuffer(b"", np.uint8), nowhere, nowhere, kinds, mode, *empty
        )
    tables: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(workers):
        tables.put(compiled_table.empty())

    def count_into_table(block: bytes) -> None:
        if steps:
            block = normalize_lines(block.decode(), steps).encode()
        text = np.frombuffer(block, np.uint8)
        starts, ends = compiled_split.line_bounds(text)
        with_ends = np.minimum(ends + 1, len(text))
        own = tables.get()
        try:
            own = compiled_split.count_pieces(text, starts, with_ends, kinds, mode, *own)
        finally:
            tables.put(own)

    with ThreadPoolExecutor(workers) as pool:
        for _ in map_ahead(pool, count_into_table, blocks, workers):
            pass
    total = tables.get()
    for _ in range(workers - 1):
        total = compiled_split.add_counts(*tables.get()[:2], *total)
    table, pool_, _, pool_used = total
    rows = table.reshape(-1, 4)
    rows = rows[rows[:, 1] != 0]
    rows = rows[np.argsort(rows[:, 2])]  # in the order of the pool
    lengths = np.diff(rows[:, 2], append=pool_used)
    return PieceCounts(pool_[:pool_used], lengths, rows[:, 3].copy())
