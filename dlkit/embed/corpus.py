"""A corpus of any size, as numbers in a file: as they come at first, then by frequency.

Words are what white space (that of ASCII, as in the C tools) separates; a line is a sentence.
Shapes: N words in the vocabulary.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io import streams, text
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.core.progress import Bar, log
from dlkit.embed.config import EmbedTrainConfig

LONGEST = 1000  # words of a sentence; a longer line is cut, as in word2vec.c
SENTENCE_END = -1
UNKNOWN = -2
LINE_END = b"\xff"  # stands for a line break while a block is cut: UTF-8 has no such byte
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class Text(Protocol):
    """What gives the corpus again each time: blocks of whole lines, UTF-8, ready to be split."""

    def __call__(self, process: AnyProcess = SINGLE_PROCESS) -> Iterator[bytes]:
        """The blocks that are this process's share; those of one by itself are all."""


@dataclass(frozen=True)
class Corpus:
    """The words, most frequent first, and the text in their numbers."""

    words: list[str]
    counts: np.ndarray  # int64 (N)
    ids: np.ndarray  # int32, mapped; words of the vocabulary, and SENTENCE_END after each sentence
    total: int  # words of the text, also those that are not in the vocabulary


@contextmanager
def read(
    config: EmbedTrainConfig, folder: Path, process: AnyProcess = SINGLE_PROCESS
) -> Iterator[Corpus]:
    """The corpus of `config`; its numbers lie in `folder` as long as they are used.

    All processes join phrases; the main one numbers the words.
    """
    if process.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        for left_by_a_killed_run in folder.glob("corpus-*"):
            shutil.rmtree(left_by_a_killed_run)
    process.barrier()
    with TemporaryDirectory(prefix="corpus-", dir=folder) as scratch:
        source = prepared(config, Path(scratch), process)
        mine = [numbered(source, config, Path(scratch))] if process.is_main else []
        ((words, counts, path, total),) = process.gather(mine)
        yield Corpus(words, counts, mapped_ids(path), total)


def numbered(
    source: Text, config: EmbedTrainConfig, scratch: Path
) -> tuple[list[str], np.ndarray, Path, int]:
    """The words, their counts, the file of the text in numbers, and how many words it has."""
    first, path = scratch / "first", scratch / "ids"
    index = Index()
    with first.open("wb") as file:
        counts, lengths = count(source, index, lambda ids: file.write(ids.data))
    kept = vocabulary(index, counts, config.min_count, config.max_vocab)
    renumber(first, lengths, kept, len(counts), path)
    first.unlink()
    if len(mapped_ids(path)) < 3:
        raise DlkitError("no line of the corpus holds two words of the vocabulary")
    words, total = index.words(), int(counts.sum())
    log(f"{total} words; {len(kept)} of {len(counts)} different ones are learned")
    return [words[i].decode() for i in kept.tolist()], counts[kept], path, total


def mapped_ids(path: Path) -> np.ndarray:
    """The numbers in a file, mapped, which numpy refuses for an empty one."""
    return np.memmap(path, np.int32, "r") if path.stat().st_size else np.zeros(0, np.int32)


def prepared(config: EmbedTrainConfig, scratch: Path, process: AnyProcess = SINGLE_PROCESS) -> Text:
    """The text as `config` asks for it; stdin and joined phrases are kept in `scratch`.

    All processes join phrases, each with a copy of the text in a scratch folder of its own.
    """
    from dlkit.embed.phrases import joined

    twice = config.phrases > 0
    sources = [
        spooled(scratch) if source == "-" and twice else source
        for source in text.files(config.corpus)
    ]
    source = reading(sources, config.errors, config.lower, config.words)
    for number in range(config.phrases):
        path = scratch / f"phrases-{number + 1}"
        with path.open("wb") as file:
            file.writelines(joined(source, config.min_count, config.threshold, process))
        source = reading([str(path)], "strict", False, False)
    return source


def spooled(scratch: Path) -> str:
    """All of stdin in a file, since phrases are counted before they are joined."""
    path = scratch / "stdin"
    with path.open("wb") as file, text.stdin() as stream:
        shutil.copyfileobj(streams.binary(stream), file)
    return str(path)


def reading(sources: list[str], errors: str, lower: bool, words: bool) -> Text:
    def whole() -> Iterator[bytes]:
        bar = Bar("reading", text.size(sources), unit="bytes")
        try:
            for source in sources:
                yield from text.blocks(source, errors, lambda n: bar.advance(by=n))
        finally:
            bar.close()

    def blocks(process: AnyProcess = SINGLE_PROCESS) -> Iterator[bytes]:
        return (simplified(block, lower, words) for block in process.share(whole()))

    return blocks


def simplified(block: bytes, lower: bool, words: bool) -> bytes:
    if not (lower or words):
        return block
    decoded = block.decode()
    if lower:
        decoded = decoded.lower()
    if words:
        decoded = "\n".join(" ".join(WORD.findall(line)) for line in decoded.split("\n"))
    return decoded.encode()


class Index(dict[bytes, int]):
    """The number of a word; a new word gets the next one."""

    def __init__(self) -> None:
        super().__init__({LINE_END: SENTENCE_END})

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self) - 1
        return number

    def words(self) -> list[bytes]:
        return list(self)[1:]

    def numbers(self, block: bytes) -> np.ndarray:
        """The words of a block as numbers (int32), with SENTENCE_END after each line."""
        tokens = block.replace(b"\n", b" " + LINE_END + b" ").split()
        return np.fromiter(map(self.__getitem__, tokens), np.int32, len(tokens))


def count(
    source: Text,
    index: Index,
    on_block: Callable[[np.ndarray], object],
    process: AnyProcess = SINGLE_PROCESS,
) -> tuple[np.ndarray, list[int]]:
    """How often each word occurs in this process's share of the text (int64).

    And how many numbers each block of it has.
    """
    counts = np.zeros(0, np.int64)
    lengths = []
    for block in source(process):
        ids = index.numbers(block)
        new = np.bincount(ids[ids >= 0], minlength=len(index) - 1)
        new[: len(counts)] += counts
        counts = new
        lengths.append(len(ids))
        on_block(ids)
    return counts, lengths


def vocabulary(index: Index, counts: np.ndarray, min_count: int, most: int) -> np.ndarray:
    """The numbers of the words to keep (N), the most frequent first; DlkitError if none is left."""
    if not len(counts):
        raise DlkitError("the corpus is empty: there is nothing to learn from")
    ranked = np.argsort(-counts, kind="stable")
    first = shown(index.words()[ranked[0]])
    if len(ranked) == 1:
        raise DlkitError(f"the corpus has only one word, {first}: nothing to learn from")
    if counts[ranked[0]] < min_count:
        raise DlkitError(
            f"no word of the corpus occurs {min_count} times (the most frequent, {first}, "
            f"{counts[ranked[0]]}): lower --min-count"
        )
    kept = ranked[counts[ranked] >= min_count][: most or None]
    if len(kept) == 1:
        raise DlkitError(
            f"only {first} is left of {len(ranked)} words: lower --min-count {min_count}"
            f"{' or raise --max-vocab' if most else ''}"
        )
    return kept


def shown(word: bytes) -> str:
    decoded = word.decode()
    return repr(decoded if len(decoded) <= 40 else f"{decoded[:40]}…")


def renumber(first: Path, lengths: list[int], kept: np.ndarray, words: int, path: Path) -> None:
    """Write the numbers in `first` to `path` as ranks in `kept`, without the other words."""
    ranks = np.full(words + 1, UNKNOWN, np.int32)
    ranks[kept] = np.arange(len(kept))
    ranks[SENTENCE_END] = SENTENCE_END
    with first.open("rb") as source, path.open("wb") as file:
        for length in lengths:
            ids = ranks[np.fromfile(source, np.int32, length)]
            file.write(cut(ids[ids != UNKNOWN]).data)


def cut(ids: np.ndarray) -> np.ndarray:
    """The same numbers in sentences of 2 to LONGEST words, each with its end."""
    if len(ids) and ids[-1] != SENTENCE_END:
        ids = np.append(ids, np.int32(SENTENCE_END))
    ends = np.flatnonzero(ids == SENTENCE_END)
    sizes = np.diff(ends, prepend=-1)  # with the end
    ids = ids[np.repeat(sizes > 2, sizes)]
    sizes = sizes[sizes > 2]
    starts = np.cumsum(sizes) - sizes
    long = np.flatnonzero(sizes > LONGEST + 1)
    more = [np.arange(starts[i] + LONGEST, starts[i] + sizes[i] - 1, LONGEST) for i in long]
    return np.insert(ids, np.concatenate(more), SENTENCE_END) if more else ids


def bounds(ids: np.ndarray, size: int) -> np.ndarray:
    """Where chunks of about `size` numbers begin (chunks + 1), each of whole sentences."""
    found = [0]
    while found[-1] < len(ids):
        at = found[-1] + size
        after = np.flatnonzero(ids[at - 1 : at + LONGEST] == SENTENCE_END)
        found.append(at + int(after[0]) if len(after) else len(ids))
    return np.array(found, np.int64)
