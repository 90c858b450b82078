"""n-gram models: a trie of n-grams with probabilities and back-off weights. Loads no torch.

Level n of the trie holds the n-grams of n tokens, sorted. The children of an n-gram, which are one
token longer and begin with it, are neighbors in the next level. Level 1 has every token.

The probability of a token is that of the longest n-gram seen that ends in it; for each longer
context that was seen, but not with this token, it is multiplied by the context's back-off weight.

A tokenizer that drops the ends of lines has a token for them, `line_end`. Each line is then
a text of its own: no n-gram spans two lines. As the first token of an n-gram it marks the start of
a line (`<s>` in ARPA files), as the last one its end (`</s>`). In models that were read from ARPA
files, the start is a token of its own, `line_start`.

Shapes: N the order, V tokens, M n-grams of a level, T tokens of a text.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NotRequired, TypedDict

import numpy as np

from dlkit.core.generation.sampling import Sampling, choose, penalized
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer

ABSENT = -1
CHUNK = 1 << 18  # tokens that are scored at once


class NGramSettings(TypedDict):
    """The settings in the header of an n-gram model."""

    tokenizer: dict[str, Any]  # the content of its tokenizer's file
    smoothing: str  # as in `--smoothing`; arpa if it was read from a file of that format
    # Of a model in a file:
    order: NotRequired[int]
    line_end: NotRequired[int | None]  # as in `Trie`
    floors: NotRequired[bool]  # as in `NGram`
    ngrams: NotRequired[list[int]]  # the number of each order


def stored_settings(header: Header) -> NGramSettings:
    """The settings of an n-gram model's header."""
    settings: NGramSettings = schema.fit(NGramSettings, header.settings)
    return settings


@dataclass(frozen=True)
class Trie:
    """The n-grams of a text or a model; indices of levels count from 0: `words[0]` is level 1."""

    words: list[np.ndarray]  # (M) of each level: the last token of each n-gram
    first: list[np.ndarray]  # (M + 1) of each level but the last: where children begin
    line_end: int | None
    line_start: int | None = None  # the first token of a line's n-grams; None: `line_end`

    @property
    def order(self) -> int:
        return len(self.words)

    def children(self, level: int, node: int) -> slice:
        """The slice of an n-gram's children in the next level."""
        first = self.first[level]
        return slice(int(first[node]), int(first[node + 1]))

    def find(self, level: int, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Find the children (T) of `parents` that end in `tokens`, as indices in `level`.

        ABSENT where there is none, or the parent is absent.
        """
        words, first = self.words[level], self.first[level - 1]
        present = parents >= 0
        known = np.where(present, parents, 0)
        low = first[known].astype(np.int64)
        ends = np.where(present, first[known + 1].astype(np.int64), low)
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
        """For each level, the index (T) of the n-gram that ends in each id, or ABSENT."""
        ids = ids.astype(np.int64)
        places = [ids]
        for level in range(1, self.order):
            places.append(self.find(level, self.preceding(places[-1], ids, level), ids))
        return places

    def preceding(self, places: np.ndarray, ids: np.ndarray, level: int) -> np.ndarray:
        """The n-gram of `level` tokens (T) before each id, given those that end in each id.

        It begins where the line does.
        """
        before = np.append(ABSENT, places[:-1])[: len(ids)]
        if self.line_end is not None:
            start = self.line_end if self.line_start is None else self.line_start
            before[1:][ids[:-1] == self.line_end] = start if level == 1 else ABSENT
        return before

    def ngrams(self, level: int, start: int, stop: int) -> np.ndarray:
        """The tokens (R, N) of the n-grams `start` to `stop` - 1 of a level."""
        found = np.empty((stop - start, level + 1), np.int64)
        found[:, level] = self.words[level][start:stop]
        nodes = np.arange(start, stop)
        for above in range(level - 1, -1, -1):
            nodes = np.searchsorted(self.first[above], nodes, side="right") - 1
            found[:, above] = self.words[above][nodes]
        return found

    def contexts(self, ids: Sequence[int]) -> list[int]:
        """Indices of the n-grams of the last 1, 2, ... of `ids`, or ABSENT."""
        recent = [int(i) for i in ids[max(len(ids) - self.order + 1, 0) :]]
        if self.line_end in recent:
            last = max(place for place, i in enumerate(recent) if i == self.line_end)
            recent = recent[last:]
            if self.line_start is not None:
                recent[0] = self.line_start
        return [self.walk(recent[-length:]) for length in range(1, len(recent) + 1)]

    def walk(self, ngram: Sequence[int]) -> int:
        """The index of an n-gram in its level, or ABSENT."""
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
    """A number for each n-gram of a level: float32, or codes of a table."""

    stored: np.ndarray  # (M) float32, or uint8
    table: np.ndarray | None = None  # (256) float32: values of the codes

    def __getitem__(self, index: Any) -> Any:
        found = self.stored[index]
        return found if self.table is None else self.table[found]

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class NGram(LanguageModel):
    """An n-gram model; logarithms are natural.

    With `floors`, as add-k has them, `backoffs` are the log-probabilities of each token that was
    not seen in a context, and shorter contexts have no effect.
    """

    verbs: ClassVar[frozenset[str]] = frozenset({"generate", "score"})

    header: Header
    trie: Trie
    logprobs: list[Values]  # of each level
    backoffs: list[Values]  # of each level but the last
    floors: bool = False
    name: str = "n-grams"

    @cached_property
    def codec(self) -> TextCodec:  # type: ignore[override]
        return TextCodec.from_settings(stored_settings(self.header)["tokenizer"])

    @property
    def tokenizer(self) -> Tokenizer:
        return self.codec.tokenizer

    @property
    def order(self) -> int:
        return self.trie.order

    @cached_property
    def unigrams(self) -> np.ndarray:
        """Log-probabilities (V) without any context, float32."""
        logprobs: np.ndarray = self.logprobs[0][:]
        return logprobs

    def next_logprobs(self, ids: Sequence[int]) -> np.ndarray:
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

        The first id has no context.
        """
        ids = np.asarray(ids, np.int64)
        parts = [np.empty(0)]
        for start in range(0, len(ids), CHUNK):
            before = max(start - self.order + 1, 0)
            scores = self.score_chunk(ids[before : start + CHUNK])
            parts.append(scores[start - before :])
        return np.concatenate(parts)

    def score_chunk(self, ids: np.ndarray) -> np.ndarray:
        """`score` of ids (T, int64) that are looked up all at once."""
        places = self.trie.locate(ids)
        found = np.asarray(self.logprobs[0][ids], np.float64)
        for level, first in enumerate(self.trie.first):
            contexts = self.trie.preceding(places[level], ids, level + 1)
            known = np.where(contexts >= 0, contexts, 0)
            weights = self.backoffs[level][known]
            if self.floors:
                childless = first[known + 1] == first[known]
                found = np.where((contexts < 0) | childless, found, weights)
            else:
                found += np.where(contexts >= 0, weights, 0)
            seen = places[level + 1] >= 0
            found[seen] = self.logprobs[level + 1][places[level + 1][seen]]
        return found

    def start_texts(self, prompts: Sequence[list[int]], max_tokens: int) -> "NGramTexts":
        return NGramTexts(self, prompts, self.banned)

    def token_logprobs(self, texts: Sequence[list[int]]) -> list[list[float]]:
        start = self.start_ids
        return [self.score([*start, *ids])[len(start) :].tolist() for ids in texts]

    def losses(self, ids: np.ndarray, stride: int | None) -> np.ndarray:
        losses: np.ndarray = -self.score(ids)[1:]
        return losses

    def describe_losses(self, stride: int | None) -> str:
        return "each predicted from all before it"


class NGramTexts:
    """A batch of texts that an n-gram model continues; see generate.TextBatch."""

    # Shapes: B texts, V tokens of the vocabulary.

    truncated = False

    def __init__(
        self, model: NGram, prompts: Sequence[Sequence[int]], banned: Collection[int]
    ) -> None:
        self.model = model
        self.banned = sorted(banned)
        self.ids = [list(prompt) for prompt in prompts]

    def next_logprobs(self) -> np.ndarray:
        """Log-probabilities (B, V) of the next token of each text."""
        return np.stack([self.model.next_logprobs(ids) for ids in self.ids])

    def mask_banned(self, logprobs: np.ndarray) -> np.ndarray:
        """Mask the log-probabilities (B, V) of banned tokens.

        Where a model without smoothing then finds no token possible, the unigrams are used.
        """
        allowed = logprobs.copy()
        allowed[:, self.banned] = -np.inf
        stuck = np.isneginf(allowed).all(-1)
        if stuck.any():
            allowed[stuck] = self.model.unigrams
            allowed[:, self.banned] = -np.inf
        return allowed

    def choose(
        self, sampling: Sampling, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        logprobs = self.next_logprobs()
        allowed = self.mask_banned(logprobs)
        if sampling.repetition_penalty != 1:
            seen = np.zeros(allowed.shape, bool)
            for row, ids in enumerate(self.ids):
                seen[row, ids] = True
            allowed = penalized(allowed, seen, sampling.repetition_penalty)
        tokens = choose(allowed, sampling, np.asarray(uniforms))
        return tokens.tolist(), logprobs[np.arange(len(tokens)), tokens].tolist()

    def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
        logprobs = self.mask_banned(self.next_logprobs())
        tokens = np.argsort(-logprobs, axis=-1, kind="stable")[:, :count]
        return tokens.tolist(), np.take_along_axis(logprobs, tokens, -1).tolist()

    def append(self, tokens: Sequence[int]) -> None:
        for ids, token in zip(self.ids, tokens, strict=True):
            ids.append(token)

    def select(self, rows: Sequence[int]) -> None:
        self.ids = [list(self.ids[row]) for row in rows]
