"""Latent semantic analysis: weights, decomposition, vectors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.embed import cooccurrence, lsa
from dlkit.embed.config import EmbedMethod
from tests.embed.helpers import (
    END,
    count_by_brute_force,
    dense_matrix,
    random_sentences,
    settings,
    topic_sentences,
    topic_separation,
)


def test_tf_idf_by_hand() -> None:
    matrix = dense_matrix(lsa.tf_idf(np.array([0, 1, 0, END, 0, 2, END], np.int32), 3))
    rare = 1 + np.log(3 / 2)
    first = np.array([1 + np.log(2), rare, 0])
    second = np.array([1, 0, rare])
    expected = np.stack([first / np.linalg.norm(first), second / np.linalg.norm(second)], axis=1)
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


def test_ppmi_follows_the_formula(tmp_path: Path) -> None:
    ids = random_sentences(8)
    matrix = dense_matrix(
        lsa.positive_pmi(cooccurrence.count_cooccurrences(ids, 30, 5, tmp_path), 30)
    )
    x = count_by_brute_force(ids, 30, 5)
    smoothed = x.sum(axis=0) ** 0.75 / (x.sum(axis=0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        expected = np.log(x / x.sum() / (x.sum(axis=1, keepdims=True) / x.sum() * smoothed))
    np.testing.assert_allclose(matrix, expected.clip(min=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_truncated_svd_equals_the_full_one(threads: int) -> None:
    rng = np.random.default_rng(9)
    low_rank = rng.standard_normal((80, 20)) * 0.8 ** np.arange(20) @ rng.standard_normal((20, 120))
    x = np.where(rng.random((80, 120)) < 0.4, low_rank, 0)
    rows, columns = np.nonzero(x)
    shuffled = rng.permutation(len(rows))
    rows, columns = rows[shuffled], columns[shuffled]
    matrix = lsa.SparseMatrix.from_entries(rows, columns, x[rows, columns], x.shape)
    np.testing.assert_allclose(dense_matrix(matrix), x, rtol=1e-6)
    np.testing.assert_allclose(dense_matrix(matrix.transpose()), x.T, rtol=1e-6)

    left, values = lsa.truncated_svd(matrix, 5, seed=0, threads=threads)
    full, all_values, _ = np.linalg.svd(x)
    np.testing.assert_allclose(values, all_values[:5], rtol=1e-4)
    angles = np.linalg.svd(left.T @ full[:, :5])[1]
    np.testing.assert_allclose(angles, 1, atol=1e-3)
    assert (np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0) > 0).all()


@pytest.mark.parametrize("weighting", ["tfidf", "ppmi"])
def test_lsa_finds_topics_again_and_again(tmp_path: Path, weighting: Any) -> None:
    ids, _ = topic_sentences()
    config = settings(tmp_path, EmbedMethod.lsa, weighting=weighting, dim=4)
    vectors = lsa.train_lsa(ids, 20, config, threads=2)
    assert vectors.shape == (20, 4)
    assert vectors.dtype == np.float32
    assert topic_separation(vectors) > 0.2
    np.testing.assert_array_equal(vectors, lsa.train_lsa(ids, 20, config, threads=2))
    with pytest.raises(DlkitError, match="--dim 21"):
        lsa.train_lsa(ids, 20, replace(config, dim=21), threads=1)


def test_a_matrix_of_low_rank_gives_zeros(tmp_path: Path) -> None:
    ids = np.tile(np.array([0, 1, 2, END], np.int32), 5)
    vectors = lsa.train_lsa(ids, 3, settings(tmp_path, EmbedMethod.lsa, dim=2), threads=1)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[:, 1], 0, atol=1e-5)
