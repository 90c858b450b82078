"""Byte-pair encoding in plain Python: learning merges, and applying them.

For large inputs, compiled_learn.py and compiled_encode.py compute the same results.
Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units, 2016.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

Merge = tuple[int, int, int]  # left, right, result
Pair = tuple[int, int]
Ranks = Mapping[Pair, tuple[int, int]]  # pair: rank, result


def learn_merges(
    tokens: Sequence[str],
    words: Sequence[list[int]],
    counts: Sequence[int],
    vocab_size: int,
    min_count: int,
    prefix: str = "",
    likelihood: bool = False,
) -> list[Merge]:
    """Merge the best pair of symbols until there are `vocab_size` tokens.

    `tokens` are the initial symbols, `words` lists of their numbers, with their counts.
    The best pair is the most frequent; ties go to the pair whose left, then right symbol is older,
    as in Hugging Face tokenizers. With `likelihood` it is the pair with the highest
    count(ab) / (count(a) count(b)). `prefix` marks symbols inside a word, as ## does for BERT.

    Two merges may result in the same string ("th" "e" and "t" "he"), which is one token. Its pairs
    are queued again with the words that changed since, and an old entry of the queue keeps its own
    words, as in Hugging Face tokenizers; this decides the order in rare cases.
    """
    words = [list(word) for word in words]
    strings = list(tokens)
    known = {string: number for number, string in enumerate(strings)}
    symbol_counts: dict[int, int] = defaultdict(int)
    pair_counts: dict[Pair, int] = defaultdict(int)
    neighbors: dict[int, list[Any]] = defaultdict(list)  # likelihood: queued pairs of a symbol
    queue: list[tuple[float, Pair, int, Any]] = []  # item: a pair and its words, or None
    serial = 0

    def score(pair: Pair) -> float:
        if likelihood:
            both = float(symbol_counts[pair[0]]) * float(symbol_counts[pair[1]])
            return pair_counts[pair] / both if both else 0.0
        return pair_counts[pair]

    def push(item: list[Any]) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(queue, (-score(item[0]), item[0], serial, item))

    def push_all(where: Mapping[Pair, dict[int, None]]) -> None:
        for pair, places in where.items():
            if pair_counts[pair] > 0:
                item = [pair, places]
                push(item)
                if likelihood:
                    neighbors[pair[0]].append(item)
                    neighbors[pair[1]].append(item)

    where: dict[Pair, dict[int, None]] = defaultdict(dict)
    for index, (word, count) in enumerate(zip(words, counts, strict=True)):
        for symbol in word:
            symbol_counts[symbol] += count
        for pair in pairwise(word):
            pair_counts[pair] += count
            where[pair][index] = None
    push_all(where)

    merges: list[Merge] = []
    while len(strings) < vocab_size and queue:
        negative, pair, _, item = heapq.heappop(queue)
        if item[1] is None:  # merged already; an entry left from an older score
            continue
        if -negative != score(pair):
            push(item)
            continue
        if pair_counts[pair] < max(1, min_count):
            if likelihood:
                continue
            break
        left, right = pair
        string = strings[left] + strings[right].removeprefix(prefix)
        new = known.setdefault(string, len(strings))
        if new == len(strings):
            strings.append(string)
        merges.append((left, right, new))
        where = defaultdict(dict)
        for index in item[1]:
            count = counts[index]
            length = len(words[index])
            for changed, by in merge_pair(words[index], left, right, new):
                pair_counts[changed] += by * count
                if by > 0:
                    where[changed][index] = None
            if likelihood:
                merged = (length - len(words[index])) * count
                pair_counts[pair] -= merged
                symbol_counts[left] -= merged
                symbol_counts[right] -= merged
                symbol_counts[new] += merged
        item[1] = None
        push_all(where)
        if likelihood:  # with fewer of left and right, the scores of their other pairs rose
            for symbol in {left, right}:
                neighbors[symbol] = [other for other in neighbors[symbol] if other[1] is not None]
                for other in neighbors[symbol]:
                    push(other)
    return merges


def merge_pair(word: list[int], left: int, right: int, new: int) -> list[tuple[Pair, int]]:
    """Merge the pair everywhere in `word`; returns the pairs that are new (+1) or gone (-1)."""
    changes: list[tuple[Pair, int]] = []
    i = 0
    while i < len(word) - 1:
        if word[i] == left and word[i + 1] == right:
            word[i : i + 2] = [new]
            if i > 0:
                changes.append(((word[i - 1], left), -1))
                changes.append(((word[i - 1], new), 1))
            if i + 1 < len(word):
                changes.append(((right, word[i + 1]), -1))
                changes.append(((new, word[i + 1]), 1))
        i += 1
    return changes


def apply_merges(symbols: Sequence[int], ranks: Ranks, dropout: float = 0.0) -> list[int]:
    """Merge a word's symbols, always the pair of lowest rank, at its leftmost place.

    Each possible merge is skipped with probability `dropout` (BPE-dropout, Provilkov et al. 2020).
    A heap of (rank, position) keeps long words fast.
    """
    merged, _ = merge_symbols(symbols, ranks, dropout)
    return [symbol for symbol in merged if symbol >= 0]


def merge_symbols(
    symbols: Sequence[int], ranks: Ranks, dropout: float = 0.0
) -> tuple[list[int], list[int]]:
    """Merge a word's symbols as `apply_merges`, each result at the place of its first symbol.

    The other places are -1. The second list has the place of the next result, or -1 after the last.
    """
    symbols = list(symbols)
    following = [*range(1, len(symbols)), -1]
    preceding = list(range(-1, len(symbols) - 1))
    queue = [(*ranks[pair], i, *pair) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
    heapq.heapify(queue)
    skipped: list[tuple[int, int, int, int, int]] = []  # by dropout, until the next merge
    while queue:
        item = heapq.heappop(queue)
        _, new, i, left, right = item
        j = following[i]
        if symbols[i] != left or j < 0 or symbols[j] != right:
            continue  # one of the two was merged in the meantime
        if dropout and random.random() < dropout:
            skipped.append(item)
            continue
        while skipped:
            heapq.heappush(queue, skipped.pop())
        symbols[i], symbols[j] = new, -1
        following[i] = following[j]
        if following[i] >= 0:
            preceding[following[i]] = i
            pair = new, symbols[following[i]]
            if pair in ranks:
                heapq.heappush(queue, (*ranks[pair], i, *pair))
        if preceding[i] >= 0:
            pair = symbols[preceding[i]], new
            if pair in ranks:
                heapq.heappush(queue, (*ranks[pair], preceding[i], *pair))
    return symbols, following


def merge_steps(symbols: Sequence[int], ranks: Ranks) -> Iterator[list[int]]:
    """Yield the word before the first merge and after each merge, in the order of application."""
    word = list(symbols)
    yield list(word)
    while possible := [
        (ranks[pair][0], i) for i, pair in enumerate(pairwise(word)) if pair in ranks
    ]:
        _, i = min(possible)
        word[i : i + 2] = [ranks[word[i], word[i + 1]][1]]
        yield list(word)
