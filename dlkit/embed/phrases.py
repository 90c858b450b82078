"""Phrases, as in word2phrase: join pairs of words that occur together more often than by chance.

The score of a pair is (Mikolov et al. 2013b, equation 6, times the number T of words in the text)

    T (count(a b) - min_count) / (count(a) count(b)).

A pair above the threshold becomes a_b, from left to right; another pass joins longer phrases.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dlkit.core.io import text
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess, join_processes
from dlkit.core.progress import log
from dlkit.embed.config import EmbedTrainConfig
from dlkit.embed.corpus import CorpusReader, WordIds, count_words, open_corpus

HALF, LOW = 32, 0xFFFFFFFF
BLOCKS_AT_ONCE = 4  # per process, gathered by all


def corpus_with_phrases(config: EmbedTrainConfig) -> Iterator[bytes]:
    """Yield the corpus of `config` after all phrase passes, in blocks of whole lines."""
    with join_processes() as process, TemporaryDirectory() as scratch:
        yield from open_with_phrases(config, Path(scratch), process)()


def open_with_phrases(
    config: EmbedTrainConfig, scratch: Path, process: AnyProcess = SINGLE_PROCESS
) -> CorpusReader:
    """Return a reader of the normalized corpus after `config.phrases` phrase passes.

    `scratch` holds a copy of stdin and the joined text. All processes join phrases, each with a
    copy of the text in a scratch folder of its own.
    """
    sources = [
        text.spool(source, scratch) if config.phrases else source
        for source in text.files(config.corpus)
    ]
    reader = open_corpus(sources, config.errors, config.lower, config.words)
    for number in range(config.phrases):
        path = scratch / f"phrases-{number + 1}"
        with path.open("wb") as file:
            file.writelines(join_phrases(reader, config.min_count, config.threshold, process))
        reader = open_corpus([str(path)], "strict", False, False)
    return reader


def join_phrases(
    reader: CorpusReader, min_count: int, threshold: float, process: AnyProcess = SINGLE_PROCESS
) -> Iterator[bytes]:
    """Yield the text with its phrases joined, in blocks of whole lines.

    The processes share the blocks; each gets all of the joined text.
    """
    word_ids, counts, pairs, times = count_pairs(reader, process)
    total = counts[counts >= min_count].sum()
    frequent = times >= min_count
    pairs, times = pairs[frequent], times[frequent]
    left, right = counts[pairs >> HALF], counts[pairs & LOW]
    phrases = pairs[total * (times - min_count) / left / right > threshold]
    log(f"{len(phrases)} phrases")
    blocks = (join_block(block, word_ids, phrases) for block in reader(process))
    yield from process.gather(blocks, max_size=BLOCKS_AT_ONCE)


def count_pairs(
    reader: CorpusReader, process: AnyProcess
) -> tuple[WordIds, np.ndarray, np.ndarray, np.ndarray]:
    """Count the words and the pairs of adjacent words of all processes' shares.

    Returns the ids of the words, the count of each, the pairs (`pair_keys`), ascending, and the
    count of each.
    """
    own_ids = WordIds()
    pairs, times = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(ids: np.ndarray) -> None:
        nonlocal pairs, times
        found, new = np.unique(pair_keys(ids), return_counts=True)
        valid = found >= 0
        pairs, times = sum_by_key([pairs, found[valid]], [times, new[valid]])

    own_counts, _ = count_words(reader, own_ids, add, process)
    if process.world_size == 1:
        return own_ids, own_counts, pairs, times
    word_ids, counts = WordIds(), np.zeros(0, np.int64)
    all_pairs, all_times = [], []
    for words, process_counts, process_pairs, process_times in process.gather(
        [(own_ids.words(), own_counts, pairs, times)]
    ):
        # Translate the process's ids to common ones: a new word gets the next id.
        common = np.array([word_ids[word] for word in words], np.int64)
        counts = np.append(counts, np.zeros(len(word_ids.words()) - len(counts), np.int64))
        counts[common] += process_counts
        all_pairs.append(common[process_pairs >> HALF] << HALF | common[process_pairs & LOW])
        all_times.append(process_times)
    return word_ids, counts, *sum_by_key(all_pairs, all_times)


def sum_by_key(
    keys: Sequence[np.ndarray], values: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys, ascending, and the sum of the values of each."""
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(place, np.concatenate(values), len(distinct))
    return distinct, sums.astype(np.int64)


def pair_keys(ids: np.ndarray) -> np.ndarray:
    """Encode each id and its successor as left << HALF | right; -1 where either is no word."""
    left, right = ids[:-1].astype(np.int64), ids[1:]
    return np.where((left >= 0) & (right >= 0), left << HALF | right, -1)


def join_block(block: bytes, word_ids: WordIds, phrases: np.ndarray) -> bytes:
    """Join the pairs of a block that are among `phrases`, which are ascending."""
    ids = word_ids.encode(block)
    keys = pair_keys(ids)
    places = np.minimum(np.searchsorted(phrases, keys), max(len(phrases) - 1, 0))
    is_phrase = (phrases[places] == keys) if len(phrases) else np.zeros(len(keys), bool)
    # Of overlapping pairs, the first, the third, ... are joined.
    at = np.flatnonzero(is_phrase)
    begins = np.append(True, np.diff(at) > 1)[: len(at)]
    run_starts = at[np.maximum.accumulate(np.where(begins, np.arange(len(at)), 0))]
    joins_next = np.zeros(len(ids), bool)
    joins_next[at[(at - run_starts) % 2 == 0]] = True
    lines, i = [], 0
    marks = joins_next.tolist()
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
