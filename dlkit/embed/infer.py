"""Queries: nearest words, analogies, vectors of words and sentences, the odd one out.

Loads numpy, and neither torch nor numba, so that a query is quick.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import whole_file
from dlkit.core.io.writers import CountedResults
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.store.weights import find
from dlkit.embed import model as files
from dlkit.embed.config import DEFAULT_MODEL
from dlkit.embed.formats import is_foreign, read
from dlkit.embed.model import Embedding
from dlkit.embed.nearest import top_k, unit
from dlkit.embed.subwords import vector_of_unknown

SUGGESTED_FROM = 200_000  # the most frequent words, among which close spellings are looked for
LONGEST_MISSPELLED = 40  # characters: nobody misspells a longer word
EPSILON = 1e-3  # of 3CosMul (Levy and Goldberg 2014)

Objective = Literal["3cosadd", "3cosmul"]


@dataclass(frozen=True)
class Neighbor:
    word: str
    cosine: float


@dataclass(frozen=True)
class Similar:
    """The words nearest to a query, best first."""

    query: str
    neighbors: list[Neighbor]

    @property
    def path(self) -> str:
        """What a notice calls it, if nothing is found."""
        return self.query

    def rows(self) -> list[dict[str, Any]]:
        return [{"query": self.query, "word": n.word, "cosine": n.cosine} for n in self.neighbors]


@dataclass(frozen=True)
class Answer:
    word: str
    score: float


@dataclass(frozen=True)
class Analogy:
    """`a` is to `b` as the answers are to `c`: those nearest to a - b + c, best first."""

    a: str
    b: str
    c: str
    answers: list[Answer]

    @property
    def path(self) -> str:
        """What a notice calls it, if nothing is found."""
        return f"{self.a} - {self.b} + {self.c}"

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": answer.word, "score": answer.score} for answer in self.answers]


@dataclass(frozen=True)
class Vector:
    """The vector of a word or sentence."""

    text: str
    vector: list[float]

    def rows(self) -> list[dict[str, Any]]:
        numbers = {str(index): value for index, value in enumerate(self.vector)}
        return [{"text": self.text, **numbers}]


@dataclass(frozen=True)
class OddOneOut:
    """The word that is least like the mean of all, and the cosine of each with that mean."""

    word: str
    cosines: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": self.word, "cosine": self.cosines[self.word]}]


@dataclass(frozen=True)
class Vocabulary:
    """An embedding by its words; `name` is what errors call it."""

    name: str
    embedding: Embedding

    def index(self, word: str) -> int | None:
        """The word's index: as it is given or, if only that is known, lower-cased."""
        found = self.embedding.words.find(word)
        if found is None and word != word.lower():
            found = self.embedding.words.find(word.lower())
        return found

    def vector(self, word: str) -> np.ndarray | None:
        """The vector (D) of a word, float32; from its n-grams, if there are any, when unknown."""
        index = self.index(word)
        if index is not None:
            return self.embedding.vectors[index].astype(np.float32)
        if self.embedding.subwords is None:
            return None
        return vector_of_unknown(word, self.embedding.subwords)

    def vector_of_text(self, text: str) -> np.ndarray:
        """The vector (D) of a word; of a sentence the mean of its words' vectors of unit length.

        That is fastText's getSentenceVector: words without a vector, or with zeros, do not count.
        Of a blank text it is zeros.
        """
        words = text.split()
        if not words:
            return np.zeros(self.embedding.vectors.shape[1], np.float32)
        index = self.index(text.strip())
        if index is not None:  # it may hold spaces
            return self.embedding.vectors[index].astype(np.float32)
        if len(words) == 1:
            vector = self.vector(words[0])
            if vector is None:
                raise DlkitError(self.unknown(words[0]))
            return vector
        vectors = [vector for word in words if (vector := self.vector(word)) is not None]
        directions = [unit(vector) for vector in vectors if vector.any()]
        if not directions:
            raise DlkitError(f"none of its words is in the vocabulary of {self.name}")
        return np.mean(directions, axis=0)

    def indices(self, text: str) -> list[int]:
        """The known words of a text: of a query, those that are no answers."""
        parts = {text, *text.split()}
        return [index for part in parts if (index := self.index(part)) is not None]

    def unknown(self, word: str) -> str:
        close = self.suggestions(word)
        hint = f": did you mean {', '.join(close)}?" if close else ""
        return f"not in the vocabulary of {self.name}{hint}"

    @cached_property
    def frequent(self) -> dict[str, int]:
        """The words among which close spellings are looked for."""
        words = self.embedding.words
        end = words.offsets[min(len(words), SUGGESTED_FROM)]
        known = words.blob[:end].tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
        return {word: index for index, word in enumerate(known)}

    def suggestions(self, word: str) -> list[str]:
        """Up to three words, the most frequent, of another case or one edit away."""
        if len(word) > LONGEST_MISSPELLED:
            return []
        close = {word.capitalize(), word.upper()}
        for spelling in {word, word.lower()}:
            close |= edits(spelling)
        return sorted(close & self.frequent.keys(), key=self.frequent.__getitem__)[:3]


def edits(word: str) -> set[str]:
    """What one letter more, less or changed, or two swapped, make of a word."""
    letters = {*ascii_lowercase, *word}
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    fewer = {left + right[1:] for left, right in cuts if right}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    changed = {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    more = {left + letter + right for left, right in cuts for letter in letters}
    return fewer | swapped | changed | more


def load(model: str | Path = DEFAULT_MODEL) -> Vocabulary:
    """The embedding of this name, file or URL; other tools' files are read whole."""
    path = Path(model) if is_foreign(str(model)) else find("embed", str(model))
    return Vocabulary(str(model), read(path) if is_foreign(str(path)) else files.load(path))


def similar(
    batches: Iterable[list[str]],
    vocabulary: Vocabulary,
    count: int = 10,
    restrict: int | None = None,
    shard: Shard | None = None,
) -> Iterator[Similar | Failure]:
    """The words nearest to each query of the batches, which may be a sentence.

    Only the `shard` of the queries is answered; without one, the processes share them.
    """

    def results(shared: Iterator[list[tuple[int, str]]]) -> Iterator[Similar | Failure]:
        for numbered in shared:
            yield from of_batch([query for _, query in numbered], vocabulary, count, restrict)

    return map_shard(results, batches, shard=shard, select=Shard.select_windows)


def of_batch(
    batch: list[str], vocabulary: Vocabulary, count: int, restrict: int | None
) -> Iterator[Similar | Failure]:
    """The words nearest to each query; all are looked up together."""
    vectors: list[np.ndarray] = []
    results: list[Failure | None] = []
    for query in batch:
        try:
            if not query.strip():
                raise DlkitError("an empty query: give a word or a sentence")
            vectors.append(unit(vocabulary.vector_of_text(query)))
            results.append(None)
        except DlkitError as error:
            results.append(Failure(query, str(error)))
    asked = [q for q, result in zip(batch, results, strict=True) if result is None]
    without = [vocabulary.indices(query) for query in asked]
    found = iter(nearest(vocabulary, vectors, count, without, restrict))
    for query, result in zip(batch, results, strict=True):
        yield result or Similar(query, [Neighbor(*pair) for pair in next(found)])


def nearest(
    vocabulary: Vocabulary,
    vectors: Sequence[np.ndarray],
    count: int,
    without: Sequence[Sequence[int]],
    restrict: int | None,
) -> Iterator[list[tuple[str, float]]]:
    """For each vector of unit length, the nearest words with their cosines."""
    if not vectors:
        return
    words, scores = top_k(vocabulary.embedding, np.stack(vectors), count, without, restrict)
    for of_query, its_scores in zip(words, scores, strict=True):
        yield [
            (vocabulary.embedding.words[word], round(float(score), 4))
            for word, score in zip(of_query, its_scores, strict=True)
            if np.isfinite(score)
        ]


def analogy(
    a: str,
    b: str,
    c: str,
    vocabulary: Vocabulary,
    objective: Objective = "3cosadd",
    count: int = 10,
    restrict: int | None = None,
) -> Analogy | Failure:
    """The words x for which a is to b as x is to c."""
    terms = []
    for word in (a, b, c):
        vector = vocabulary.vector(word)
        if vector is None:
            return Failure(word, vocabulary.unknown(word))
        terms.append(unit(vector))
    without = [[i for word in (a, b, c) for i in vocabulary.indices(word)]]
    words, scores = solve(
        vocabulary.embedding, np.stack(terms)[None], objective, count, without, restrict
    )
    found = zip(words[0], scores[0], strict=True)
    answers = [
        Answer(vocabulary.embedding.words[word], round(float(score), 4))
        for word, score in found
        if np.isfinite(score)
    ]
    return Analogy(a, b, c, answers)


def solve(
    embedding: Embedding,
    terms: np.ndarray,
    objective: Objective,
    count: int,
    without: Sequence[Sequence[int]],
    restrict: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best words and their scores (Q, K) for questions (Q, 3, D) of unit vectors a, b, c.

    3CosAdd (Mikolov et al. 2013): cos(x, a - b + c). 3CosMul (Levy and Goldberg 2014), with cosines
    moved to 0 to 1: cos(x, a) cos(x, c) / (cos(x, b) + 0.001).
    """
    if objective == "3cosadd":
        sums = unit(terms[:, 0] - terms[:, 1] + terms[:, 2])
        return top_k(embedding, sums, count, without, restrict)

    def multiplied(cosines: np.ndarray) -> np.ndarray:
        positive = (cosines + 1) / 2
        return positive[:, 0] * positive[:, 2] / (positive[:, 1] + EPSILON)

    return top_k(embedding, terms, count, without, restrict, multiplied)


def vectors(
    texts: Iterable[str], vocabulary: Vocabulary, shard: Shard | None = None
) -> Iterator[Vector | Failure]:
    """The vector of each word or sentence, also of a blank one: rows stay in step with lines.

    Only the `shard` of the texts gets one; without it, the processes under torchrun share them.
    """

    def results(shared: Iterator[str]) -> Iterator[Vector | Failure]:
        for text in shared:
            try:
                vector = vocabulary.vector_of_text(text)
            except DlkitError as error:
                yield Failure(text, str(error))
            else:
                yield Vector(text, [float(f"{number:.9g}") for number in vector.tolist()])

    return map_shard(results, texts, shard=shard)


def write_array(texts: Iterable[str], vocabulary: Vocabulary, path: Path) -> None:
    """The vectors as a .npy file (texts, D), float32; a row of zeros where there is none."""
    results = CountedResults(vectors(texts, vocabulary))
    nothing = np.zeros(vocabulary.embedding.vectors.shape[1], np.float32)
    rows = [
        nothing if isinstance(result, Failure) else np.array(result.vector, np.float32)
        for result in results
    ]
    if is_main_process():
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack(rows) if rows else nothing[None][:0])
    results.end()


def odd_one_out(words: Sequence[str], vocabulary: Vocabulary) -> Iterator[OddOneOut | Failure]:
    """The word least like the mean of the words' unit vectors; unknown words do not count."""
    known = {}
    for word in words:
        vector = vocabulary.vector(word)
        if vector is None:
            yield Failure(word, vocabulary.unknown(word))
        else:
            known[word] = unit(vector)
    if len(known) < 3:
        raise DlkitError(f"odd-one-out needs three known words or more; {len(known)} are known")
    directions = np.stack(list(known.values()))
    cosines = directions @ unit(directions.mean(axis=0))
    rounded = {word: round(float(c), 4) for word, c in zip(known, cosines, strict=True)}
    yield OddOneOut(list(known)[int(np.argmin(cosines))], rounded)
