"""Exact nearest neighbors: the vocabulary in blocks, a matrix product and a top-k for each.

Shapes: N words, D dimensions, Q queries, T terms of a query, B words of a block, K neighbors.
"""

from collections.abc import Callable, Sequence

import numpy as np

from dlkit.embed.model import Embedding

SCORES = 1 << 24  # scores held at once
SMALL_BLOCK, LARGE_BLOCK = 4096, 65536
MOST_QUERIES = 1024
CACHED = 1 << 18  # numbers whose conversion stays in the processor's cache

Score = Callable[[np.ndarray], np.ndarray]  # cosines (Q, T, B) -> scores (Q, B)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; zeros stay zeros."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms != 0)


def top_k(
    embedding: Embedding,
    queries: np.ndarray,
    k: int,
    without: Sequence[Sequence[int]] | None = None,
    restrict: int | None = None,
    score: Score | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k words (Q, K) with the highest cosines (Q, K), best first; ties go to the first word.

    `queries` (Q, D), or (Q, T, D) with a `score` of the terms' cosines. `without` are the words
    that a query may not find, `restrict` keeps the search to the first words. Where there are fewer
    than k words, or their vectors are not finite, the score is -inf.
    """
    if queries.ndim == 2:
        queries = queries[:, None]
    found = [
        _top_k(
            embedding,
            queries[start : start + MOST_QUERIES],
            k,
            None if without is None else without[start : start + MOST_QUERIES],
            restrict,
            score,
        )
        for start in range(0, len(queries), MOST_QUERIES)
    ]
    return np.concatenate([w for w, _ in found]), np.concatenate([s for _, s in found])


def _top_k(
    embedding: Embedding,
    queries: np.ndarray,
    k: int,
    without: Sequence[Sequence[int]] | None,
    restrict: int | None,
    score: Score | None,
) -> tuple[np.ndarray, np.ndarray]:
    number, terms, dim = queries.shape
    flat = np.ascontiguousarray(queries, np.float32).reshape(number * terms, dim)
    words = len(embedding.words) if restrict is None else min(restrict, len(embedding.words))
    k = min(k, words)
    norms = embedding.norms[:words]
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms != 0)
    excluded, of_query = pairs(without)
    best = np.zeros((number, k), np.int64)
    best_scores = np.full((number, k), -np.inf, np.float32)
    size = min(LARGE_BLOCK, max(SMALL_BLOCK, SCORES // len(flat), k))
    for start in range(0, words, size):
        end = min(start + size, words)
        cosines = products(flat, embedding.vectors[start:end], inverse[start:end])
        scores = cosines
        if score is not None:
            scores = score(cosines.reshape(number, terms, end - start))
        inside = (excluded >= start) & (excluded < end)
        scores[of_query[inside], excluded[inside] - start] = -np.inf
        if start == 0:
            # NaN would count as the highest; later it is never above the k-th best.
            scores[np.isnan(scores)] = -np.inf
            least = np.partition(scores, end - k, axis=1)[:, end - k] if end > k else -np.inf
            better = scores >= np.reshape(least, (-1, 1))
        else:
            better = scores > best_scores[:, -1:]
        rows, columns = np.nonzero(better)
        if len(rows):
            merge(best, best_scores, rows, columns + start, scores[rows, columns])
    return best, best_scores


def products(flat: np.ndarray, block: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Cosines (Q, B) of unit queries (Q, D) and a block of vectors (B, D), float32."""
    rows = CACHED // block.shape[1] + 1
    pieces = range(0, len(block), rows) if block.dtype == np.float16 else ()
    if pieces and len(flat) == 1:
        parts = [flat[0] @ widened(block[start : start + rows]).T for start in pieces]
        return np.concatenate(parts)[None] * inverse
    if pieces:
        wide = np.empty(block.shape, np.float32)
        for start in pieces:
            wide[start : start + rows] = widened(block[start : start + rows])
        block = wide
    if len(flat) < block.shape[1]:
        return (flat @ block.T) * inverse
    return flat @ (block * inverse[:, None]).T


def widened(half: np.ndarray) -> np.ndarray:
    """Half precision as single, ten times as fast as astype; for finite numbers.

    Sign, exponent and fraction are moved to their places, and the exponent's bias is put right by
    a multiplication, which is exact for denormal numbers too.
    """
    bits = np.ascontiguousarray(half).view(np.int16).astype(np.int32)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    single = bits.view(np.float32)
    single *= np.float32(2.0**112)
    return single


def pairs(without: Sequence[Sequence[int]] | None) -> tuple[np.ndarray, np.ndarray]:
    """The words to leave out, flat, and the query that each is of."""
    without = without or []
    words = [word for of_query in without for word in of_query]
    queries = [query for query, of_query in enumerate(without) for _ in of_query]
    return np.array(words, np.int64), np.array(queries, np.int64)


def merge(
    best: np.ndarray,
    best_scores: np.ndarray,
    rows: np.ndarray,
    words: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Let candidates (a query's row, a word, its score) take their places in the best (Q, K)."""
    number, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(number), k), rows])
    words = np.concatenate([best.ravel(), words])
    scores = np.concatenate([best_scores.ravel(), scores])
    # Stable: of equal scores those found before come first, and words came in order.
    order = np.lexsort((-scores, rows))
    starts = np.searchsorted(rows[order], np.arange(number))
    kept = order[(starts[:, None] + np.arange(k)).ravel()]
    best[:] = words[kept].reshape(number, k)
    best_scores[:] = scores[kept].reshape(number, k)
