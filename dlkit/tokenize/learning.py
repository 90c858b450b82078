"""Learning of a vocabulary from counted pre-tokens, by algorithm."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.progress import spinning
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import bpe
from dlkit.tokenize.alphabet import BYTE_TO_CHAR, INSIDE, WORD_END, WORD_START
from dlkit.tokenize.config import Algorithm, Mark, TokenizeTrainConfig
from dlkit.tokenize.counting import Array, PieceCounts
from dlkit.tokenize.model import tokenizer_settings

SMALL = 100_000  # symbols up to which Python is faster than the import of numba


@dataclass(frozen=True)
class Words:
    """Words as symbols: word i is symbols[starts[i] : starts[i + 1]]."""

    symbols: Array  # int32
    starts: Array  # int64, one more than there are words
    counts: Array  # int64


def learn_merges(
    tokens: list[str], words: Words, config: TokenizeTrainConfig, prefix: str = ""
) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn merges of words; returns all tokens and the merges. `tokens` are the symbols."""
    if len(tokens) > config.vocab_size:
        raise DlkitError(
            f"--vocab-size {config.vocab_size} is smaller than the alphabet with the special "
            f"tokens, {len(tokens)}; give more, or --limit-alphabet"
        )
    likelihood = config.algorithm is Algorithm.wordpiece and config.score == "likelihood"
    limits = (config.vocab_size, config.min_count)
    merges: Any
    if len(words.symbols) < SMALL:
        symbols, starts = words.symbols.tolist(), words.starts.tolist()
        lists = [symbols[a:b] for a, b in zip(starts, starts[1:], strict=False)]
        counts = words.counts.tolist()
        merges = bpe.learn_merges(tokens, lists, counts, *limits, prefix, likelihood)
    else:
        from dlkit.core.numba_tools import compile_notice
        from dlkit.tokenize import compiled_learn

        mark = np.frombuffer(prefix.encode(), np.uint8)
        with compile_notice("the loops for large inputs", 20):
            one_word = np.zeros(1, np.int32), np.arange(2), np.ones(1, np.int64)
            compiled_learn.learn_merges(
                np.zeros(1, np.uint8), np.arange(2), *one_word, 1, 1, mark, False
            )
        encoded = [token.encode() for token in tokens]
        with spinning(f"learning from {len(words.counts)} distinct words"):
            merges = compiled_learn.learn_merges(
                np.frombuffer(b"".join(encoded), np.uint8).copy(),
                np.cumsum([0, *map(len, encoded)]).astype(np.int64),
                words.symbols,
                words.starts,
                words.counts,
                *limits,
                mark,
                likelihood,
            ).tolist()
    strings = list(tokens)
    pairs: dict[tuple[str, str], None] = {}
    for left, right, new in merges:
        if new == len(strings):
            strings.append(strings[left] + strings[right].removeprefix(prefix))
        pair = strings[left], strings[right]
        # A pair that is merged twice (see bpe.learn_merges) gets its later rank.
        pairs.pop(pair, None)
        pairs[pair] = None
    return strings, list(pairs)


def learn_byte_bpe(
    pieces: PieceCounts, special: list[str], config: TokenizeTrainConfig, header: Header
) -> tuple[list[str], list[tuple[str, str]]]:
    """byte-bpe: the symbols are bytes."""
    alphabet = sorted(BYTE_TO_CHAR.values())
    tokens = special + [char for char in alphabet if char not in special]
    number = {token: i for i, token in enumerate(tokens)}
    table = np.array([number[BYTE_TO_CHAR[byte]] for byte in range(256)], np.int32)
    starts = np.concatenate([[0], np.cumsum(pieces.lengths)])
    return learn_merges(tokens, Words(table[pieces.pool], starts, pieces.counts), config)


def learn_char_bpe(
    pieces: PieceCounts, special: list[str], config: TokenizeTrainConfig, header: Header
) -> tuple[list[str], list[tuple[str, str]]]:
    """bpe and wordpiece: the symbols are characters, marked by their position in the word.

    Ids: special tokens, characters by code point, marked characters by code point. (In Hugging Face
    tokenizers the order of the marked ones is random, and with it the order of ties.)
    """
    mark = str(config.mark) if config.algorithm is Algorithm.bpe else "inside"
    tokenizer_settings(header)["mark"] = mark
    tokens, words = split_into_symbols(pieces, special, mark, config.limit_alphabet)
    tokens, merges = learn_merges(tokens, words, config, INSIDE if mark == "inside" else "")
    return tokens, merges if config.algorithm is Algorithm.bpe else []


def split_into_symbols(
    pieces: PieceCounts, special: list[str], mark: str, limit_alphabet: int | None
) -> tuple[list[str], Words]:
    """The special tokens and the symbols, and the pre-tokens as words of symbols."""
    points = np.frombuffer(pieces.pool.tobytes().decode().encode("utf-32-le"), np.uint32)
    is_start = (pieces.pool & 0xC0) != 0x80  # of a character
    ends = np.cumsum(is_start)[np.cumsum(pieces.lengths) - 1]
    lengths = np.diff(ends, prepend=0)
    if mark == Mark.word_start:
        points = np.insert(points, ends - lengths, ord(WORD_START))
        lengths = lengths + 1
        ends = np.cumsum(lengths)
    frequency = np.bincount(points, np.repeat(pieces.counts, lengths)).astype(np.int64)
    present = np.flatnonzero(frequency)
    if limit_alphabet is not None and len(present) > limit_alphabet:
        order = np.lexsort((present, -frequency[present]))
        present = np.sort(present[order[:limit_alphabet]])
    plain_at = np.ones(len(points), bool)  # whether the character has no mark
    if mark == Mark.end_of_word:
        plain_at[ends - 1] = False
    elif mark == "inside":
        plain_at[:] = False
        plain_at[ends - lengths] = True

    tokens = list(special)
    known = {token: i for i, token in enumerate(tokens)}
    tables = np.full((2, len(frequency)), -1, np.int32)
    for marked in (0, 1):
        for point in present.tolist():
            char = chr(point)
            if marked:
                char = char + WORD_END if mark == Mark.end_of_word else INSIDE + char
            tables[marked, point] = known.get(char, len(tokens))
            if char not in known:
                known[char] = len(tokens)
                tokens.append(char)
        if marked == 0:
            present = np.intersect1d(present, points[~plain_at])
    symbols = np.where(plain_at, tables[0][points], tables[1][points])
    kept = symbols >= 0
    starts = np.concatenate([[0], np.cumsum(kept)[ends - 1]])
    return tokens, Words(symbols[kept], starts.astype(np.int64), pieces.counts)


def learn_frequent(
    pieces: PieceCounts, special: list[str], config: TokenizeTrainConfig, header: Header
) -> tuple[list[str], list[tuple[str, str]]]:
    """char, whitespace, words: the most frequent pre-tokens; ties go to the smaller string."""
    limit = config.vocab_size - len(special)
    if config.algorithm is Algorithm.char and config.limit_alphabet is not None:
        limit = min(limit, config.limit_alphabet)
    if limit <= 0:
        raise DlkitError(f"--vocab-size {config.vocab_size} leaves no room for tokens; give more")
    counted = zip(pieces.counts.tolist(), pieces.texts(), strict=True)
    ranked = sorted((-count, text) for count, text in counted if count >= config.min_count)
    # Lines are encoded without their ends.
    found = [text for _, text in ranked if text != "\n" and text not in special]
    return special + found[:limit], []


LEARNERS = {
    Algorithm.byte_bpe: learn_byte_bpe,
    Algorithm.bpe: learn_char_bpe,
    Algorithm.wordpiece: learn_char_bpe,
    Algorithm.char: learn_frequent,
    Algorithm.whitespace: learn_frequent,
    Algorithm.words: learn_frequent,
}
