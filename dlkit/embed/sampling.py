"""Subsampling and the learning rate of word2vec, for the trainers on CPUs and on CUDA devices."""

import numpy as np

from dlkit.embed.config import ResolvedConfig

NEGATIVE_POWER = 0.75  # negative words are drawn in proportion to count^0.75
MIN_LR_FRACTION = 1e-4  # of the initial learning rate


def keep_probabilities(counts: np.ndarray, sample: float) -> np.ndarray:
    """Return the share of each word's occurrences to train on (N), as in word2vec.c."""
    if not sample:
        return np.ones(len(counts))
    ratio = counts / (sample * counts.sum())
    keep: np.ndarray = np.minimum((np.sqrt(ratio) + 1) / ratio, 1)
    return keep


def learning_rate(config: ResolvedConfig, epochs_done: float) -> float:
    """Return the learning rate, which falls linearly over all epochs."""
    return config.lr * max(1 - epochs_done / config.epochs, MIN_LR_FRACTION)
