"""A corpus as ids of its vocabulary, in a file: phrases joined, rare words removed.

Shapes: N words in the vocabulary.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import log
from dlkit.embed.config import EmbedTrainConfig
from dlkit.embed.corpus import MAX_SENTENCE, SENTENCE_END, CorpusReader, WordIds, count_words
from dlkit.embed.model import quote_word
from dlkit.embed.phrases import open_with_phrases

UNKNOWN = -2


@dataclass(frozen=True)
class Corpus:
    """The vocabulary, most frequent words first, and the text as ids."""

    words: list[str]
    counts: np.ndarray  # int64 (N)
    ids: np.ndarray  # int32, mapped; ids of the vocabulary, and SENTENCE_END after each sentence
    total: int  # words in the text, including those outside the vocabulary


@contextmanager
def encode_corpus(
    config: EmbedTrainConfig, folder: Path, process: AnyProcess = SINGLE_PROCESS
) -> Iterator[Corpus]:
    """Encode the corpus of `config`; the ids stay in `folder` until the context ends.

    All processes join phrases; the main one encodes.
    """
    if process.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        for left_by_a_killed_run in folder.glob("corpus-*"):
            shutil.rmtree(left_by_a_killed_run)
    process.barrier()
    with TemporaryDirectory(prefix="corpus-", dir=folder) as scratch:
        reader = open_with_phrases(config, Path(scratch), process)
        own = [encode(reader, config, Path(scratch))] if process.is_main else []
        ((words, counts, path, total),) = process.gather(own)
        yield Corpus(words, counts, map_ids(path), total)


def encode(
    reader: CorpusReader, config: EmbedTrainConfig, scratch: Path
) -> tuple[list[str], np.ndarray, Path, int]:
    """Return the vocabulary, its counts, the file of ids, and the number of words in the text."""
    first, path = scratch / "first", scratch / "ids"
    word_ids = WordIds()
    with first.open("wb") as file:
        counts, lengths = count_words(reader, word_ids, lambda ids: file.write(ids.data))
    kept = select_vocabulary(word_ids, counts, config.min_count, config.max_vocab)
    renumber(first, lengths, kept, len(counts), path)
    first.unlink()
    if len(map_ids(path)) < 3:
        raise DlkitError(
            "no line of the corpus holds two words of the vocabulary; lower --min-count"
        )
    words, total = word_ids.words(), int(counts.sum())
    log(f"{total} words; the vocabulary has {len(kept)} of {len(counts)} distinct ones")
    return [words[i].decode() for i in kept.tolist()], counts[kept], path, total


def map_ids(path: Path) -> np.ndarray:
    """Map a file of ids into memory; numpy refuses to map an empty one."""
    return np.memmap(path, np.int32, "r") if path.stat().st_size else np.zeros(0, np.int32)


def select_vocabulary(
    word_ids: WordIds, counts: np.ndarray, min_count: int, max_vocab: int
) -> np.ndarray:
    """Return the ids of the words to keep (N), most frequent first; DlkitError if too few."""
    if not len(counts):
        raise DlkitError("the corpus is empty; give files that hold text")
    ranked = np.argsort(-counts, kind="stable")
    first = quote_word(word_ids.words()[ranked[0]])
    if len(ranked) == 1:
        raise DlkitError(f"the corpus has only one word, {first}; give more text")
    if counts[ranked[0]] < min_count:
        raise DlkitError(
            f"no word of the corpus occurs {min_count} times (the most frequent, {first}, "
            f"{counts[ranked[0]]}); lower --min-count"
        )
    kept = ranked[counts[ranked] >= min_count][: max_vocab or None]
    if len(kept) == 1:
        raise DlkitError(
            f"only {first} is left of {len(ranked)} words; lower --min-count {min_count}"
            f"{' or raise --max-vocab' if max_vocab else ''}"
        )
    return kept


def renumber(first: Path, lengths: list[int], kept: np.ndarray, num_words: int, path: Path) -> None:
    """Write the ids in `first` to `path` as ranks in `kept`, without the other words."""
    ranks = np.full(num_words + 1, UNKNOWN, np.int32)
    ranks[kept] = np.arange(len(kept))
    ranks[SENTENCE_END] = SENTENCE_END
    with first.open("rb") as source, path.open("wb") as file:
        for length in lengths:
            ids = ranks[np.fromfile(source, np.int32, length)]
            file.write(split_sentences(ids[ids != UNKNOWN]).data)


def split_sentences(ids: np.ndarray) -> np.ndarray:
    """Drop sentences of less than 2 words and split those of more than MAX_SENTENCE."""
    if len(ids) and ids[-1] != SENTENCE_END:
        ids = np.append(ids, np.int32(SENTENCE_END))
    ends = np.flatnonzero(ids == SENTENCE_END)
    sizes = np.diff(ends, prepend=-1)  # with the end
    ids = ids[np.repeat(sizes > 2, sizes)]
    sizes = sizes[sizes > 2]
    starts = np.cumsum(sizes) - sizes
    long = np.flatnonzero(sizes > MAX_SENTENCE + 1)
    cuts = [
        np.arange(starts[i] + MAX_SENTENCE, starts[i] + sizes[i] - 1, MAX_SENTENCE) for i in long
    ]
    return np.insert(ids, np.concatenate(cuts), SENTENCE_END) if cuts else ids


def chunk_bounds(ids: np.ndarray, size: int) -> np.ndarray:
    """Return the bounds (chunks + 1) of chunks of whole sentences, each about `size` ids long."""
    bounds = [0]
    while bounds[-1] < len(ids):
        at = bounds[-1] + size
        after = np.flatnonzero(ids[at - 1 : at + MAX_SENTENCE] == SENTENCE_END)
        bounds.append(at + int(after[0]) if len(after) else len(ids))
    return np.array(bounds, np.int64)
