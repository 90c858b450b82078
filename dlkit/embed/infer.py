"""Queries: nearest words, analogies, vectors of words and sentences, the odd one out.

Loads numpy, but neither torch nor numba, so that a query starts fast.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import note_saved, whole_file
from dlkit.core.io.text import Line
from dlkit.core.io.writers import CountedResults
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.embed.nearest import Objective, unit
from dlkit.embed.results import Analogy, OddOneOut, Similar, TextVector
from dlkit.embed.vectors import Vectors


def similar(
    batches: Iterable[list[str] | Failure],
    vectors: Vectors,
    count: int = 10,
    restrict: int | None = None,
    shard: Shard | None = None,
) -> Iterator[Similar | Failure]:
    """Find the words nearest to each query, a word or a sentence, in the batches.

    With a `shard`, only its queries are answered; otherwise all processes share the queries.
    """

    def search(shared: Iterator[list[tuple[int, str]] | Failure]) -> Iterator[Similar | Failure]:
        for numbered in shared:
            if isinstance(numbered, Failure):
                yield numbered
                continue
            yield from vectors.search([query for _, query in numbered], count, restrict)

    return map_shard(search, batches, shard=shard, select=Shard.select_windows)


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
    try:
        return vectors.analogy(a, b, c, count, restrict, objective)
    except DlkitError as error:
        return Failure(str(error.path), error.reason)


def text_vectors(
    texts: Iterable[Line], vectors: Vectors, shard: Shard | None = None
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


def write_array(texts: Iterable[Line], vectors: Vectors, path: Path) -> None:
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
        note_saved(path)
    results.end()


def odd_one_out(words: Sequence[str], vectors: Vectors) -> Iterator[OddOneOut | Failure]:
    """Find the word least similar to the mean of the words' unit vectors; unknown words fail."""
    known = {}
    for word in words:
        try:
            known[word] = vectors.direction(word)
        except DlkitError as error:
            yield Failure(word, error.reason)
    if len(known) < 3:
        raise DlkitError(f"odd-one-out needs three known words or more; {len(known)} are known")
    directions = np.stack(list(known.values()))
    cosines = directions @ unit(directions.mean(axis=0))
    rounded = {word: round(float(c), 4) for word, c in zip(known, cosines, strict=True)}
    yield OddOneOut(list(known)[int(np.argmin(cosines))], rounded)
