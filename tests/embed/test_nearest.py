"""Exact nearest neighbors."""

import time
from typing import Any

import numpy as np
import pytest

from dlkit.core.store import checkpoint
from dlkit.embed.model import Embedding, WordList, row_norms
from dlkit.embed.nearest import half_to_single, top_k, unit
from tests.embed.helpers import embedding


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("words", "dim", "queries", "k"), [(9000, 8, 40, 3), (70, 5, 3, 100)])
def test_top_k_is_exact(dtype: Any, words: int, dim: int, queries: int, k: int) -> None:
    rng = np.random.default_rng(words)
    vectors = rng.normal(size=(words, dim)).astype(dtype)
    vectors[words // 2] = vectors[0]
    vectors[3], vectors[7] = 0, np.nan
    asked = unit(rng.normal(size=(queries, dim)))
    asked[0] = unit(vectors[0])
    without = [[q, 2 * q + 1] for q in range(queries)]
    of = Embedding(
        checkpoint.Header("embed", "x", {}, []), WordList.from_strings(["w"] * words), vectors
    )
    found, scores = top_k(of, asked, k, without)
    truth = asked @ unit(vectors).T
    for query, left_out in enumerate(without):
        truth[query, left_out] = -np.inf
    truth[np.isnan(truth)] = -np.inf
    truth[:, 3] = -np.inf  # the cosine with zeros is undefined
    order = np.argsort(-truth, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(truth, order, axis=1)
    assert np.allclose(scores, best, atol=1e-5)
    shown = np.where(np.isfinite(best), best, -9)
    clear = (np.diff(shown, append=-99) < -1e-5) & (np.diff(shown, prepend=99) < -1e-5)
    clear &= np.isfinite(best)
    assert np.array_equal(found[clear], order[clear])
    assert not np.isnan(scores).any()


def test_ties_go_to_the_first_word() -> None:
    same = embedding([f"w{i}" for i in range(6000)], np.ones((6000, 2)))
    found, _ = top_k(same, unit(np.ones((2, 2))), 3, [[1], []])
    assert found.tolist() == [[0, 2, 3], [0, 1, 2]]


def test_half_precision_is_widened_exactly() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(half_to_single(finite), finite.astype(np.float32))


@pytest.mark.slow
def test_a_million_words_are_searched_quickly() -> None:
    vectors = np.ones((1_000_000, 300), np.float32)
    vectors[:, 0] = np.arange(len(vectors)) % 1000
    of = Embedding(
        checkpoint.Header("embed", "x", {}, []),
        WordList(np.empty(0, np.uint8), np.zeros(len(vectors) + 1)),
        vectors,
        stored_norms=row_norms(vectors),
    )
    query = unit(np.ones((1, 300)))
    top_k(of, query, 10)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        top_k(of, query, 10)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1  # 0.3 s on a quiet machine
