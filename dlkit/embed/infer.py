"""Queries: nearest words, analogies, vectors of words and sentences, the odd one out.

Loads numpy, but neither torch nor numba, so that a query starts fast.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import whole_file
from dlkit.core.io.writers import CountedResults
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.embed.model import Embedding
from dlkit.embed.nearest import top_k, unit
from dlkit.embed.vectors import Vectors

EPSILON = 1e-3  # of 3CosMul (Levy and Goldberg 2014)

Objective = Literal["3cosadd", "3cosmul"]


@dataclass(frozen=True)
class Neighbor:
    """A word, with its cosine similarity to the query."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Similar:
    """The words nearest to a query, best first."""

    query: str
    neighbors: list[Neighbor]

    @property
    def path(self) -> str:
        """The name of the query in notices."""
        return self.query

    def rows(self) -> list[dict[str, Any]]:
        return [{"query": self.query, "word": n.word, "cosine": n.cosine} for n in self.neighbors]


@dataclass(frozen=True)
class Answer:
    """An answer to an analogy, with its score."""

    word: str
    score: float


@dataclass(frozen=True)
class Analogy:
    """`a` is to `b` as the answers are to `c`: the words nearest to a - b + c, best first."""

    a: str
    b: str
    c: str
    answers: list[Answer]

    @property
    def path(self) -> str:
        """The name of the query in notices."""
        return f"{self.a} - {self.b} + {self.c}"

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": answer.word, "score": answer.score} for answer in self.answers]


@dataclass(frozen=True)
class TextVector:
    """The vector of a word or sentence."""

    text: str
    vector: list[float]

    def rows(self) -> list[dict[str, Any]]:
        numbers = {str(index): value for index, value in enumerate(self.vector)}
        return [{"text": self.text, **numbers}]


@dataclass(frozen=True)
class OddOneOut:
    """The word least similar to the mean of all words, and each word's cosine with that mean."""

    word: str
    cosines: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": self.word, "cosine": self.cosines[self.word]}]


def similar(
    batches: Iterable[list[str]],
    vectors: Vectors,
    count: int = 10,
    restrict: int | None = None,
    shard: Shard | None = None,
) -> Iterator[Similar | Failure]:
    """Find the words nearest to each query, a word or a sentence, in the batches.

    With a `shard`, only its queries are answered; otherwise all processes share the queries.
    """

    def search(shared: Iterator[list[tuple[int, str]]]) -> Iterator[Similar | Failure]:
        for numbered in shared:
            yield from search_batch([query for _, query in numbered], vectors, count, restrict)

    return map_shard(search, batches, shard=shard, select=Shard.select_windows)


def search_batch(
    queries: list[str], vectors: Vectors, count: int, restrict: int | None
) -> Iterator[Similar | Failure]:
    """Find the words nearest to each query, in one search for all."""
    directions: list[np.ndarray] = []
    failures: list[Failure | None] = []
    for query in queries:
        try:
            if not query.strip():
                raise DlkitError("the query is empty; give a word or a sentence")
            directions.append(unit(vectors.text_vector(query)))
            failures.append(None)
        except DlkitError as error:
            failures.append(Failure(query, str(error)))
    valid = [query for query, failure in zip(queries, failures, strict=True) if failure is None]
    exclude = [vectors.known_words(query) for query in valid]
    found: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
    if valid:
        words, scores = top_k(vectors.embedding, np.stack(directions), count, exclude, restrict)
        found = zip(words, scores, strict=True)
    for query, failure in zip(queries, failures, strict=True):
        yield failure or Similar(
            query, [Neighbor(*pair) for pair in scored_words(vectors, *next(found))]
        )


def scored_words(
    vectors: Vectors, words: np.ndarray, scores: np.ndarray
) -> Iterator[tuple[str, float]]:
    """Yield the words with these indices and their scores, without those of score -inf."""
    for word, score in zip(words, scores, strict=True):
        if np.isfinite(score):
            yield vectors.embedding.words[word], round(float(score), 4)


def analogy(
    a: str,
    b: str,
    c: str,
    vectors: Vectors,
    objective: Objective = "3cosadd",
    count: int = 10,
    restrict: int | None = None,
) -> Analogy | Failure:
    """Find the words x for which a is to b as x is to c."""
    terms = []
    for word in (a, b, c):
        vector = vectors.word_vector(word)
        if vector is None:
            return Failure(word, vectors.unknown_word(word))
        terms.append(unit(vector))
    exclude = [[i for word in (a, b, c) for i in vectors.known_words(word)]]
    words, scores = solve_analogies(
        vectors.embedding, np.stack(terms)[None], objective, count, exclude, restrict
    )
    return Analogy(a, b, c, [Answer(*pair) for pair in scored_words(vectors, words[0], scores[0])])


def solve_analogies(
    embedding: Embedding,
    terms: np.ndarray,
    objective: Objective,
    count: int,
    exclude: Sequence[Sequence[int]],
    restrict: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best words and scores (Q, K) for questions (Q, 3, D) of unit vectors a, b, c.

    3CosAdd (Mikolov et al. 2013): cos(x, a - b + c). 3CosMul (Levy and Goldberg 2014), with cosines
    moved to 0 to 1: cos(x, a) cos(x, c) / (cos(x, b) + 0.001).
    """
    if objective == "3cosadd":
        sums = unit(terms[:, 0] - terms[:, 1] + terms[:, 2])
        return top_k(embedding, sums, count, exclude, restrict)

    def multiply_cosines(cosines: np.ndarray) -> np.ndarray:
        positive = (cosines + 1) / 2
        return positive[:, 0] * positive[:, 2] / (positive[:, 1] + EPSILON)

    return top_k(embedding, terms, count, exclude, restrict, multiply_cosines)


def text_vectors(
    texts: Iterable[str], vectors: Vectors, shard: Shard | None = None
) -> Iterator[TextVector | Failure]:
    """Return the vector of each word or sentence; blank lines get zeros, so that rows match lines.

    With a `shard`, only its texts get one; otherwise all processes under torchrun share the texts.
    """

    def embed(shared: Iterator[str]) -> Iterator[TextVector | Failure]:
        for text in shared:
            try:
                vector = vectors.text_vector(text)
            except DlkitError as error:
                yield Failure(text, str(error))
            else:
                yield TextVector(text, [float(f"{number:.9g}") for number in vector.tolist()])

    return map_shard(embed, texts, shard=shard)


def write_array(texts: Iterable[str], vectors: Vectors, path: Path) -> None:
    """Write the vectors as a .npy file (texts, D), float32; a failed text gets a row of zeros."""
    results = CountedResults(text_vectors(texts, vectors))
    zeros = np.zeros(vectors.embedding.vectors.shape[1], np.float32)
    rows = [
        zeros if isinstance(result, Failure) else np.array(result.vector, np.float32)
        for result in results
    ]
    if is_main_process():
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack(rows) if rows else zeros[None][:0])
    results.end()


def odd_one_out(words: Sequence[str], vectors: Vectors) -> Iterator[OddOneOut | Failure]:
    """Find the word least similar to the mean of the words' unit vectors; unknown words fail."""
    known = {}
    for word in words:
        vector = vectors.word_vector(word)
        if vector is None:
            yield Failure(word, vectors.unknown_word(word))
        else:
            known[word] = unit(vector)
    if len(known) < 3:
        raise DlkitError(f"odd-one-out needs three known words or more; {len(known)} are known")
    directions = np.stack(list(known.values()))
    cosines = directions @ unit(directions.mean(axis=0))
    rounded = {word: round(float(c), 4) for word, c in zip(known, cosines, strict=True)}
    yield OddOneOut(list(known)[int(np.argmin(cosines))], rounded)
