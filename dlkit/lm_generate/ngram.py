"""n-gram models in use: a trie of n-grams, and the probability of what follows. Loads no torch.

Level n of the trie holds the n-grams of n tokens, sorted; the n-grams one token longer that begin
with it, its children, stand side by side in the next level. Level 1 has every token.

The probability of a token is that of the longest n-gram seen which ends in it; for each longer
context that was seen, but not with this token, it is multiplied by the context's back-off weight.

A tokenizer that drops the ends of lines has a token for them, `line_end`. Lines are then texts by
themselves: no n-gram goes across it. As the first token of an n-gram it stands for the start of a
line (`<s>` in ARPA files), as the last one for its end (`</s>`).

Shapes: N the order, V tokens, M n-grams of a level, T tokens of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.mapped import damaged, map_arrays, write_arrays
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer

ABSENT = -1
CODES = 256  # different numbers that a byte can stand for
EXACT = (0.0, -np.inf)
AT_ONCE = 1 << 18  # tokens that are scored side by side
GRID = 1 << 14  # steps in which the density of numbers is measured


@dataclass(frozen=True)
class Trie:
    """The n-grams of a text, or of a model; levels count from 0 here: `words[0]` is level 1."""

    words: list[np.ndarray]  # (M) of each level: the last token of each n-gram
    first: list[np.ndarray]  # (M + 1) of each level but the last: where the children begin
    line_end: int | None

    @property
    def order(self) -> int:
        return len(self.words)

    def children(self, level: int, node: int) -> slice:
        """The places of an n-gram's children in the next level."""
        first = self.first[level]
        return slice(int(first[node]), int(first[node + 1]))

    def find(self, level: int, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The places in `level` of the n-grams (T) that go on from `parents` with `tokens`.

        ABSENT where there is none, or the parent is absent.
        """
        words, first = self.words[level], self.first[level - 1]
        there = parents >= 0
        known = np.where(there, parents, 0)
        low = first[known].astype(np.int64)
        ends = np.where(there, first[known + 1].astype(np.int64), low)
        high = ends
        while (open_ := low < high).any():
            middle = (low + high) // 2
            before = words[np.where(open_, middle, 0)] < tokens
            low = np.where(open_ & before, middle + 1, low)
            high = np.where(open_ & ~before, middle, high)
        found = low < ends
        found[found] = words[low[found]] == tokens[found]
        return np.where(found, low, ABSENT)

    def locate(self, ids: np.ndarray) -> list[np.ndarray]:
        """For each level, the place (T) of the n-gram that ends in each id; or ABSENT."""
        ids = ids.astype(np.int64)
        places = [ids]
        for level in range(1, self.order):
            before = np.append(ABSENT, places[-1][:-1])[: len(ids)]
            places.append(self.find(level, before, ids))
        return places

    def ngrams(self, level: int, start: int, stop: int) -> np.ndarray:
        """The tokens (R, N) of the n-grams of a level from `start` to before `stop`."""
        found = np.empty((stop - start, level + 1), np.int64)
        found[:, level] = self.words[level][start:stop]
        nodes = np.arange(start, stop)
        for above in range(level - 1, -1, -1):
            nodes = np.searchsorted(self.first[above], nodes, side="right") - 1
            found[:, above] = self.words[above][nodes]
        return found

    def contexts(self, ids: Sequence[int]) -> list[int]:
        """The places of the last 1, 2, ... of `ids` in their levels, or ABSENT."""
        recent = [int(i) for i in ids[max(len(ids) - self.order + 1, 0) :]]
        if self.line_end in recent:
            last = max(place for place, i in enumerate(recent) if i == self.line_end)
            recent = recent[last:]
        return [self.walk(recent[-length:]) for length in range(1, len(recent) + 1)]

    def walk(self, ngram: Sequence[int]) -> int:
        """The place of an n-gram in its level, or ABSENT."""
        node = ngram[0]
        for level, token in enumerate(ngram[1:]):
            inside = self.children(level, node)
            words = self.words[level + 1][inside]
            place = int(np.searchsorted(words, token))
            if place == len(words) or words[place] != token:
                return ABSENT
            node = inside.start + place
        return node


@dataclass(frozen=True)
class Values:
    """A number for each n-gram of a level: float32, or codes of few different numbers."""

    stored: np.ndarray  # (M) float32, or uint8
    table: np.ndarray | None = None  # (256) float32: what the codes stand for

    def __getitem__(self, index: Any) -> Any:
        found = self.stored[index]
        return found if self.table is None else self.table[found]

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class NGram:
    """An n-gram model; logarithms are natural.

    With `floors`, as add-k has them, `backoffs` are the log-probabilities of each token that was
    not seen in a context: shorter contexts then have no say.
    """

    header: Header
    trie: Trie
    logprobs: list[Values]  # of each level
    backoffs: list[Values]  # of each level but the last
    floors: bool = False

    @cached_property
    def units(self) -> TextCodec:
        return TextCodec.from_settings(self.header.settings["tokenizer"])

    @property
    def tokenizer(self) -> Tokenizer:
        return self.units.tokenizer

    @property
    def order(self) -> int:
        return self.trie.order

    @cached_property
    def unigrams(self) -> np.ndarray:
        """Log-probabilities (V) without any context, float32."""
        everything: np.ndarray = self.logprobs[0][:]
        return everything

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probabilities (V) of the token after `ids`, float32."""
        found = self.unigrams.copy()
        for level, node in enumerate(self.trie.contexts(ids)):
            if node == ABSENT:
                continue
            children = self.trie.children(level, node)
            if not self.floors:
                found += self.backoffs[level][node]
            elif children.start < children.stop:
                found[:] = self.backoffs[level][node]
            found[self.trie.words[level + 1][children]] = self.logprobs[level + 1][children]
        return found

    def score(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The log-probability (T) of each id after those before it, float64.

        The first has no context.
        """
        ids = np.asarray(ids, np.int64)
        parts = [np.empty(0)]
        for start in range(0, len(ids), AT_ONCE):
            before = max(start - self.order + 1, 0)
            scores = self.score_at_once(ids[before : start + AT_ONCE])
            parts.append(scores[start - before :])
        return np.concatenate(parts)

    def score_at_once(self, ids: np.ndarray) -> np.ndarray:
        """`score` of ids (T, int64) that are few enough to look all up side by side."""
        places = self.trie.locate(ids)
        found = np.asarray(self.logprobs[0][ids], np.float64)
        for level, first in enumerate(self.trie.first):
            contexts = np.append(ABSENT, places[level][:-1])[: len(ids)]
            known = np.where(contexts >= 0, contexts, 0)
            weights = self.backoffs[level][known]
            if self.floors:
                childless = first[known + 1] == first[known]
                found = np.where((contexts < 0) | childless, found, weights)
            else:
                found += np.where(contexts >= 0, weights, 0)
            there = places[level + 1] >= 0
            found[there] = self.logprobs[level + 1][places[level + 1][there]]
        return found


def save(path: Path, model: NGram, quantize: bool = False) -> None:
    """Write the model, whole or not at all; `quantize` stores each number in a byte.

    Then an n-gram that nothing follows has no back-off weight, and where the children of the others
    begin is stored as two bits for each n-gram: a 0 for each child and a 1 behind them.
    """
    trie = model.trie
    dtype = np.uint16 if len(trie.words[0]) <= 1 << 16 else np.uint32
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, numbers: np.ndarray) -> None:
        if not quantize:
            arrays[name] = numbers
            return
        arrays[name], arrays[f"{name}.table"] = quantized(numbers)

    for level, words in enumerate(trie.words):
        number = level + 1
        if level:
            arrays[f"words.{number}"] = np.asarray(words, dtype)
        add(f"logprobs.{number}", model.logprobs[level][:])
        if number == trie.order:
            continue
        first, weights = trie.first[level], model.backoffs[level][:]
        if quantize:
            arrays[f"children.{number}"] = packed(first)
            weights = weights[has_children(first)]
        else:
            arrays[f"first.{number}"] = np.asarray(first, np.uint32)
        add(f"backoffs.{number}", weights)
    settings = {
        **model.header.settings,
        "order": trie.order,
        "line_end": trie.line_end,
        "floors": model.floors,
        "ngrams": [len(words) for words in trie.words],
    }
    write_arrays(path, arrays, replace(model.header, settings=settings))


def has_children(first: np.ndarray) -> np.ndarray:
    found: np.ndarray = first[1:] > first[:-1]
    return found


def quantized(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (M) as codes (uint8) and what the codes stand for (256, float32).

    Each code stands for the mean of neighbors in order of size. Their squared error is least when
    codes lie as densely as the cube root of the numbers (Panter & Dite 1951). What must stay exact,
    a back-off weight of 1 and -inf, keeps a code of its own.
    """
    if not len(numbers):
        return np.empty(0, np.uint8), np.zeros(CODES, np.float32)
    different = np.unique(numbers)
    if len(different) > CODES:
        exact = np.isin(different, EXACT)
        counts, edges = np.histogram(numbers[~np.isin(numbers, EXACT)], GRID)
        density = np.cumsum(np.cbrt(counts))
        bins = CODES - 2 * int(exact.sum())  # the exact ones may cut a bin in two
        places = np.searchsorted(density, np.arange(bins) / bins * density[-1], side="right")
        starts = np.unique(edges[places].astype(numbers.dtype))
        following = np.searchsorted(different, different[exact], side="right")
        after = different[following[following < len(different)]]
        starts = np.unique(np.concatenate([starts, different[exact], after]))
    else:
        starts = different
    codes = np.searchsorted(starts, numbers, side="right") - 1
    finite = np.where(np.isfinite(numbers), numbers, 0)
    counts = np.bincount(codes, minlength=CODES)
    table = np.bincount(codes, finite, minlength=CODES) / np.maximum(counts, 1)
    table[: len(starts)][np.isneginf(starts)] = -np.inf
    return codes.astype(np.uint8), table.astype(np.float32)


def packed(first: np.ndarray) -> np.ndarray:
    """The bits (uint8) of `Trie.first`."""
    ends = np.asarray(first[1:], np.int64) + np.arange(len(first) - 1)
    bits = np.zeros(int(first[-1]) + len(first) - 1, np.uint8)
    bits[ends] = 1
    return np.packbits(bits)


def unpacked(bits: np.ndarray, nodes: int) -> np.ndarray:
    """The opposite of `packed`, for a level of so many n-grams."""
    ends = np.flatnonzero(np.unpackbits(bits))[:nodes]
    return np.append(0, ends - np.arange(nodes)).astype(np.uint32)


def load(path: Path) -> NGram:
    """The model of a safetensors file, mapped into memory, or of an ARPA file."""
    if path.name.endswith((".arpa", ".arpa.gz")):
        from dlkit.lm_generate.arpa import read_arpa

        return read_arpa(path)
    header, arrays = map_arrays(path, "lm-generate")
    if header.arch != "ngram":
        raise DlkitError(f"{path}: a model of architecture {header.arch}, not of n-grams")
    try:
        settings = header.settings
        numbers = range(1, settings["order"] + 1)
        sizes: list[int] = settings["ngrams"]

        def values(name: str) -> Values:
            return Values(arrays[name], arrays.get(f"{name}.table"))

        def weights(number: int) -> Values:
            found = values(f"backoffs.{number}")
            if found.table is None:
                return found
            every = np.zeros(sizes[number - 1], np.float32)
            every[has_children(first[number - 1])] = found[:]
            return Values(every)

        words = [np.arange(sizes[0]), *(arrays[f"words.{number}"] for number in numbers[1:])]
        first = [
            unpacked(arrays[f"children.{number}"], sizes[number - 1])
            if f"children.{number}" in arrays
            else arrays[f"first.{number}"]
            for number in numbers[:-1]
        ]
        if [len(each) for each in words] != sizes:
            raise ValueError("its n-grams are not those it counts")
        return NGram(
            header,
            Trie(words, first, settings["line_end"]),
            [values(f"logprobs.{number}") for number in numbers],
            [weights(number) for number in numbers[:-1]],
            settings["floors"],
        )
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
