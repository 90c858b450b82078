"""Counting the different pre-tokens of a corpus: once, in parallel."""

import queue
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.sharding import join_processes
from dlkit.tokenize import pretokenize
from dlkit.tokenize.normalize import normalize

LONGEST = 1 << 20  # bytes of a pre-token: each merge in it reads all of it
SMALL = 1 << 19  # bytes that are counted sooner than numba is imported


@dataclass(frozen=True)
class Pieces:
    """Different pre-tokens: their bytes one after the other, their lengths, their counts."""

    pool: np.ndarray  # uint8
    lengths: np.ndarray  # int64, in bytes
    counts: np.ndarray  # int64

    def texts(self) -> list[str]:
        data = self.pool.tobytes()
        ends = np.cumsum(self.lengths).tolist()
        return [
            data[a:b].decode("utf-8", "surrogateescape")
            for a, b in zip([0, *ends], ends, strict=False)
        ]


def count(
    blocks: Iterator[bytes], split: str, steps: list[str], workers: int, shared: bool = False
) -> Pieces:
    """The different pre-tokens of all lines (each with its end), and how often each occurs.

    With `shared`, each process that torchrun or srun started counts a share of the blocks, and
    all get the sums.
    """
    if not shared:
        pieces = counted(blocks, split, steps, workers)
    else:
        with join_processes() as process:
            own = counted(process.share(blocks), split, steps, workers)
            pieces = added(list(process.gather([own])))
    longest = pieces.lengths.max(initial=0)
    if longest > LONGEST:
        raise DlkitError(
            f"a stretch of {longest} bytes between two places where --split cuts: that is too long "
            f"to learn from (at most {LONGEST}); break it into lines, or split otherwise"
        )
    return pieces


def counted(blocks: Iterator[bytes], split: str, steps: list[str], workers: int) -> Pieces:
    first: list[bytes] = []
    size = 0
    for block in blocks:
        first.append(block)
        size += len(block)
        if size > SMALL:
            break
    else:
        return from_counter(sum_counters(count_block(b, split, steps) for b in first))

    def everything() -> Iterator[bytes]:
        yield from first
        first.clear()
        yield from blocks

    from dlkit.tokenize import compiled_split

    if split in compiled_split.MODES:
        return count_compiled(everything(), compiled_split.MODES[split], steps, workers)
    with ProcessPoolExecutor(workers) as pool:
        jobs = ahead(pool, everything(), workers, count_block, split, steps)
        return from_counter(sum_counters(jobs))


def ahead(pool: Executor, blocks: Iterator[bytes], workers: int, work: Any, *more: Any) -> Any:
    """`work(block, *more)` of each block, in order, a few blocks ahead of who asks."""
    waiting: deque[Future] = deque()
    for block in blocks:
        waiting.append(pool.submit(work, block, *more))
        if len(waiting) > workers + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def count_block(block: bytes, split: str, steps: list[str]) -> Counter[str]:
    cut = pretokenize.splitter(split)
    counter: Counter[str] = Counter()
    for line in re.findall(r"[^\n]*\n|[^\n]+", normalize(block.decode(), steps)):
        counter.update(cut(line))
    return counter


def sum_counters(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def added(shares: Iterable[Pieces]) -> Pieces:
    """The counts of several processes together."""
    total: Counter[str] = Counter()
    for share in shares:
        counts = share.counts.tolist()
        total.update(dict(zip(share.texts(), counts, strict=True)))
    return from_counter(total)


def from_counter(counter: Counter[str]) -> Pieces:
    encoded = [piece.encode("utf-8", "surrogateescape") for piece in counter]
    return Pieces(
        np.frombuffer(b"".join(encoded), np.uint8),
        np.array([len(piece) for piece in encoded], np.int64),
        np.array(list(counter.values()), np.int64),
    )


def count_compiled(blocks: Iterator[bytes], mode: int, steps: list[str], workers: int) -> Pieces:
    """Each thread counts blocks into a table of its own; the tables are added up."""
    from dlkit.core.numba_tools import loading
    from dlkit.tokenize import compiled_split, compiled_table

    kinds = compiled_split.kinds(mode)
    with loading("the loops for large inputs", 20):
        nowhere = np.zeros(0, np.int64)
        fresh: Any = compiled_table.empty()
        compiled_split.count_pieces(
            np.frombuffer(b"", np.uint8), nowhere, nowhere, kinds, mode, *fresh
        )
    tables: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(workers):
        tables.put(compiled_table.empty())

    def work(block: bytes) -> None:
        if steps:
            block = normalize(block.decode(), steps).encode()
        text = np.frombuffer(block, np.uint8)
        starts, ends = compiled_split.line_bounds(text)
        with_ends = np.minimum(ends + 1, len(text))
        mine = tables.get()
        try:
            mine = compiled_split.count_pieces(text, starts, with_ends, kinds, mode, *mine)
        finally:
            tables.put(mine)

    with ThreadPoolExecutor(workers) as pool:
        for _ in ahead(pool, blocks, workers, work):
            pass
    total = tables.get()
    for _ in range(workers - 1):
        total = compiled_split.add_counts(*tables.get()[:2], *total)
    table, pool_, _, pool_used = total
    rows = table.reshape(-1, 4)
    rows = rows[rows[:, 1] != 0]
    rows = rows[np.argsort(rows[:, 2])]  # in the order of the pool
    lengths = np.diff(rows[:, 2], append=pool_used)
    return Pieces(pool_[:pool_used], lengths, rows[:, 3].copy())
