"""Subsampling of frequent words."""

import numpy as np

from dlkit.embed import sampling


def test_frequent_words_are_subsampled_as_in_word2vec() -> None:
    keep = sampling.keep_probabilities(np.array([900, 99, 1]), sample=1e-2)
    frequent = np.array([0.9, 0.099]) / 1e-2
    np.testing.assert_allclose(keep[:2], np.sqrt(1 / frequent) + 1 / frequent, rtol=1e-6)
    assert keep[2] == 1
    assert (sampling.keep_probabilities(np.array([900, 99, 1]), sample=0) == 1).all()
