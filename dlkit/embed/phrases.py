"""Phrases, as in word2phrase: pairs of words that stand together more often than by chance.

Pairs are scored by (Mikolov et al. 2013b, equation 6, times the words T of the text)

    T (count(a b) - min_count) / (count(a) count(b)).

A pair above the threshold becomes a_b, from left to right; another pass joins longer ones.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess, join_processes
from dlkit.core.progress import log
from dlkit.embed import corpus
from dlkit.embed.config import EmbedTrainConfig

HALF, LOW = 32, 0xFFFFFFFF
BLOCKS_AT_ONCE = 4  # of each process, that all get


def join(config: EmbedTrainConfig) -> Iterator[bytes]:
    """The corpus of `config` after its passes, in blocks of whole lines."""
    with join_processes() as process, TemporaryDirectory() as scratch:
        yield from corpus.prepared(config, Path(scratch), process)()


def joined(
    source: corpus.Text, min_count: int, threshold: float, process: AnyProcess = SINGLE_PROCESS
) -> Iterator[bytes]:
    """The text with its phrases joined, in blocks of whole lines.

    The processes share the blocks; each gets all of the joined text.
    """
    index, counts, keys, times = pair_counts(source, process)
    total = counts[counts >= min_count].sum()
    good = times >= min_count
    keys, times = keys[good], times[good]
    left, right = counts[keys >> HALF], counts[keys & LOW]
    chosen = keys[total * (times - min_count) / left / right > threshold]
    log(f"{len(chosen)} phrases")
    blocks = (join_block(block, index, chosen) for block in source(process))
    yield from process.gather(blocks, max_size=BLOCKS_AT_ONCE)


def pair_counts(
    source: corpus.Text, process: AnyProcess
) -> tuple[corpus.Index, np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of the words and how often each occurs; pairs, ascending, and how often."""
    own = corpus.Index()
    keys, times = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(ids: np.ndarray) -> None:
        nonlocal keys, times
        found, new = np.unique(pairs_of(ids), return_counts=True)
        words = found >= 0
        keys, times = summed([keys, found[words]], [times, new[words]])

    own_counts, _ = corpus.count(source, own, add, process)
    if process.world_size == 1:
        return own, own_counts, keys, times
    index, counts = corpus.Index(), np.zeros(0, np.int64)
    all_keys, all_times = [], []
    for words, of_words, own_keys, own_times in process.gather(
        [(own.words(), own_counts, keys, times)]
    ):
        # Its numbers as ours: a word that is new gets the next one.
        numbers = np.array([index[word] for word in words], np.int64)
        counts = np.append(counts, np.zeros(len(index.words()) - len(counts), np.int64))
        counts[numbers] += of_words
        all_keys.append(numbers[own_keys >> HALF] << HALF | numbers[own_keys & LOW])
        all_times.append(own_times)
    return index, counts, *summed(all_keys, all_times)


def summed(
    keys: Sequence[np.ndarray], times: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """All different keys, ascending, and the sums of what they have."""
    different, place = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(place, np.concatenate(times), len(different))
    return different, sums.astype(np.int64)


def pairs_of(ids: np.ndarray) -> np.ndarray:
    """Each number with the next as left << HALF | right; -1 where either is no word."""
    left, right = ids[:-1].astype(np.int64), ids[1:]
    return np.where((left >= 0) & (right >= 0), left << HALF | right, -1)


def join_block(block: bytes, index: corpus.Index, chosen: np.ndarray) -> bytes:
    ids = index.numbers(block)
    keys = pairs_of(ids)
    places = np.minimum(np.searchsorted(chosen, keys), max(len(chosen) - 1, 0))
    good = (chosen[places] == keys) if len(chosen) else np.zeros(len(keys), bool)
    # Of pairs that overlap, the first, the third, ... are joined.
    at = np.flatnonzero(good)
    begins = np.append(True, np.diff(at) > 1)[: len(at)]
    run_starts = at[np.maximum.accumulate(np.where(begins, np.arange(len(at)), 0))]
    taken = np.zeros(len(ids), bool)
    taken[at[(at - run_starts) % 2 == 0]] = True
    lines, i = [], 0
    marks = taken.tolist()
    for line in block.split(b"\n"):
        words = line.split()
        here = marks[i : i + len(words)]
        i += len(words) + 1
        if True in here:
            glued = [w + (b"_" if mark else b" ") for w, mark in zip(words, here, strict=True)]
            lines.append(b"".join(glued).rstrip(b" "))
        else:
            lines.append(b" ".join(words))
    return b"\n".join(lines)
