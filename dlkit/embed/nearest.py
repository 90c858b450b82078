"""Exact nearest neighbors: a matrix product and a top-k for each block of the vocabulary.

Shapes: N words, D dimensions, Q queries, T terms of a query, B words of a block, K neighbors.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from dlkit.embed.model import Embedding

MAX_SCORES = 1 << 24  # held at once
SMALL_BLOCK, LARGE_BLOCK = 4096, 65536
MAX_QUERIES = 1024  # searched at once
MAX_CACHED = 1 << 18  # numbers whose conversion stays in the processor's cache

EPSILON = 1e-3  # of 3CosMul (Levy and Goldberg 2014)

ScoreFunction = Callable[[np.ndarray], np.ndarray]  # cosines (Q, T, B) -> scores (Q, B)
Objective = Literal["3cosadd", "3cosmul"]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, float32; rows of zeros stay zeros."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units = np.zeros_like(vectors)
    np.divide(vectors, norms, out=units, where=norms != 0)
    return units


def top_k(
    embedding: Embedding,
    queries: np.ndarray,
    k: int,
    exclude: Sequence[Sequence[int]] | None = None,
    restrict: int | None = None,
    score: ScoreFunction | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k words (Q, K) with the highest cosines (Q, K), best first; ties in word order.

    `queries` are (Q, D), or (Q, T, D) with a `score` function of the terms' cosines. `exclude` has
    the words that each query must not find; `restrict` limits the search to the first words. Where
    fewer than k words remain, or their vectors are zeros or not finite, the score is -inf.
    """
    if queries.ndim == 2:
        queries = queries[:, None]
    found = [
        search_queries(
            embedding,
            queries[start : start + MAX_QUERIES],
            k,
            [] if exclude is None else exclude[start : start + MAX_QUERIES],
            restrict,
            score,
        )
        for start in range(0, len(queries), MAX_QUERIES)
    ]
    return np.concatenate([w for w, _ in found]), np.concatenate([s for _, s in found])


def search_queries(
    embedding: Embedding,
    queries: np.ndarray,
    k: int,
    exclude: Sequence[Sequence[int]],
    restrict: int | None,
    score: ScoreFunction | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The same as `top_k` for queries (Q, T, D), all at once."""
    number, terms, dim = queries.shape
    flat = np.ascontiguousarray(queries, np.float32).reshape(number * terms, dim)
    words = len(embedding.words) if restrict is None else min(restrict, len(embedding.words))
    k = min(k, words)
    norms = embedding.norms[:words]
    no_direction = np.flatnonzero(norms == 0)
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms != 0)
    excluded, excluded_by = flatten_exclusions(exclude)
    best = np.zeros((number, k), np.int64)
    best_scores = np.full((number, k), -np.inf, np.float32)
    size = min(LARGE_BLOCK, max(SMALL_BLOCK, MAX_SCORES // len(flat), k))
    for start in range(0, words, size):
        end = min(start + size, words)
        cosines = cosine_block(flat, embedding.vectors[start:end], inverse[start:end])
        scores = cosines
        if score is not None:
            scores = score(cosines.reshape(number, terms, end - start))
        zeros = no_direction[(no_direction >= start) & (no_direction < end)]
        scores[:, zeros - start] = -np.inf
        inside = (excluded >= start) & (excluded < end)
        scores[excluded_by[inside], excluded[inside] - start] = -np.inf
        if start == 0:
            # NaN would rank highest here; in later blocks it is never above the k-th best.
            scores[np.isnan(scores)] = -np.inf
            least = np.partition(scores, end - k, axis=1)[:, end - k] if end > k else -np.inf
            better = scores >= np.reshape(least, (-1, 1))
        else:
            better = scores > best_scores[:, -1:]
        rows, columns = np.nonzero(better)
        if len(rows):
            merge_candidates(best, best_scores, rows, columns + start, scores[rows, columns])
    return best, best_scores


def cosine_block(flat: np.ndarray, block: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the cosines (Q, B) of unit queries (Q, D) and a block of vectors (B, D), float32."""
    rows = MAX_CACHED // block.shape[1] + 1
    pieces = range(0, len(block), rows) if block.dtype == np.float16 else ()
    cosines: np.ndarray
    if pieces and len(flat) == 1:
        parts = [flat[0] @ half_to_single(block[start : start + rows]).T for start in pieces]
        cosines = np.concatenate(parts)[None] * inverse
        return cosines
    if pieces:
        wide = np.empty(block.shape, np.float32)
        for start in pieces:
            wide[start : start + rows] = half_to_single(block[start : start + rows])
        block = wide
    if len(flat) < block.shape[1]:
        cosines = (flat @ block.T) * inverse
    else:
        cosines = flat @ (block * inverse[:, None]).T
    return cosines


def half_to_single(half: np.ndarray) -> np.ndarray:
    """Convert finite numbers from half to single precision, ten times as fast as astype.

    Sign, exponent and fraction are shifted into place, and a multiplication corrects the exponent's
    bias, which is exact for denormal numbers too.
    """
    bits = np.ascontiguousarray(half).view(np.int16).astype(np.int32)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    single = bits.view(np.float32)
    single *= np.float32(2.0**112)
    return single


def flatten_exclusions(exclude: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the excluded words of all queries, and the query of each."""
    words = [word for query_words in exclude for word in query_words]
    queries = [query for query, query_words in enumerate(exclude) for _ in query_words]
    return np.array(words, np.int64), np.array(queries, np.int64)


def merge_candidates(
    best: np.ndarray,
    best_scores: np.ndarray,
    rows: np.ndarray,
    words: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Merge candidates (a query's row, a word, its score) into the best (Q, K)."""
    number, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(number), k), rows])
    words = np.concatenate([best.ravel(), words])
    scores = np.concatenate([best_scores.ravel(), scores])
    # The sort is stable: of equal scores, earlier words come first.
    order = np.lexsort((-scores, rows))
    starts = np.searchsorted(rows[order], np.arange(number))
    kept = order[(starts[:, None] + np.arange(k)).ravel()]
    best[:] = words[kept].reshape(number, k)
    best_scores[:] = scores[kept].reshape(number, k)


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
