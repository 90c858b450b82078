"""Reading a corpus of any size: blocks of text, word ids in order of appearance, word counts.

Words are separated by white space (that of ASCII, as in the C tools); a line is a sentence.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import regex

from dlkit.core.io import text
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import Bar

MAX_SENTENCE = 1000  # words; a longer line is split, as in word2vec.c
SENTENCE_END = -1
LINE_END = b"\xff"  # the token for a line break: UTF-8 has no such byte
# Marks (accents, the vowel signs of Hindi and Thai) belong to the letters before them.
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*")


class CorpusReader(Protocol):
    """Reads the corpus from its start at each call: blocks of whole lines, UTF-8."""

    def __call__(self, process: AnyProcess = SINGLE_PROCESS) -> Iterator[bytes]:
        """Yield this process's share of the blocks; a single process gets all."""


def open_corpus(sources: list[str], errors: str, lower: bool, words: bool) -> CorpusReader:
    """Return a reader of these files that normalizes their text (see `normalize`)."""

    def read_all() -> Iterator[bytes]:
        bar = Bar("reading", text.size(sources), unit="bytes")
        try:
            for source in sources:
                yield from text.blocks(source, errors, lambda n: bar.advance(by=n))
        finally:
            bar.close()

    def read(process: AnyProcess = SINGLE_PROCESS) -> Iterator[bytes]:
        return (normalize(block, lower, words) for block in process.share(read_all()))

    return read


def normalize(block: bytes, lower: bool, words: bool) -> bytes:
    """Lower-case a block, keep only its `words`, or both.

    Those are runs of letters with their marks, digits and apostrophes.
    """
    if not (lower or words):
        return block
    decoded = block.decode()
    if lower:
        decoded = decoded.lower()
    if words:
        decoded = "\n".join(" ".join(WORD.findall(line)) for line in decoded.split("\n"))
    return decoded.encode()


class WordIds(dict[bytes, int]):
    """Ids of words in order of appearance: a new word gets the next id."""

    def __init__(self) -> None:
        super().__init__({LINE_END: SENTENCE_END})

    def __missing__(self, word: bytes) -> int:
        new = self[word] = len(self) - 1
        return new

    def words(self) -> list[bytes]:
        return list(self)[1:]

    def encode(self, block: bytes) -> np.ndarray:
        """Return the ids (int32) of the words in a block, with SENTENCE_END after each line."""
        tokens = block.replace(b"\n", b" " + LINE_END + b" ").split()
        return np.fromiter(map(self.__getitem__, tokens), np.int32, len(tokens))


def count_words(
    corpus: CorpusReader,
    word_ids: WordIds,
    on_block: Callable[[np.ndarray], object],
    process: AnyProcess = SINGLE_PROCESS,
) -> tuple[np.ndarray, list[int]]:
    """Count each word in this process's share of the text (int64), adding new words to `word_ids`.

    `on_block` receives the ids of each block. Also returns the number of ids in each block.
    """
    counts = np.zeros(0, np.int64)
    lengths = []
    for block in corpus(process):
        ids = word_ids.encode(block)
        new = np.bincount(ids[ids >= 0], minlength=len(word_ids) - 1)
        new[: len(counts)] += counts
        counts = new
        lengths.append(len(ids))
        on_block(ids)
    return counts, lengths
