"""Corpora, settings and vectors that several tests of `dlkit embed` share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.store import checkpoint
from dlkit.embed import compiled, lsa
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, ResolvedConfig, resolve_config
from dlkit.embed.corpus import SENTENCE_END
from dlkit.embed.hogwild import padded_width
from dlkit.embed.model import Embedding, WordList

END = SENTENCE_END
DIM = 20  # fills a vector of 16 and a part of another
RATE = 0.1
SENTENCE = np.array([0, 1, -1], np.int32)
COUNTRIES = ["france", "italy", "japan", "germany", "spain"]
CAPITALS = ["paris", "rome", "tokyo", "berlin", "madrid"]
OTHERS = ["king", "kings", "queen", "new york", "naïve", "日本"]
RNG = np.random.default_rng(0)


def random_sentences(
    seed: int = 0, sentences: int = 60, num_words: int = 30, longest: int = 25
) -> np.ndarray:
    """Ids of random sentences, some of them empty, with frequent and rare words."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    for _ in range(sentences):
        drawn = num_words * rng.random(rng.integers(0, longest)) ** 2
        ids += [*drawn.astype(int), END]
    return np.array(ids, np.int32)


def topic_sentences(seed: int = 0, sentences: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Ids of sentences of even words or of odd ones, of 20; and the words' counts."""
    rng = np.random.default_rng(seed)
    parts = [[*(2 * rng.integers(10, size=12) + rng.integers(2)), END] for _ in range(sentences)]
    ids = np.array(parts, np.int32).flatten()
    return ids, np.bincount(ids[ids >= 0], minlength=20)


def topic_separation(vectors: np.ndarray) -> float:
    """The mean cosine within a topic less the one between the two topics."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    same = (np.arange(20)[:, None] - np.arange(20)) % 2 == 0
    return float(cosines[same & ~np.eye(20, dtype=bool)].mean() - cosines[~same].mean())


def settings(tmp_path: Path, method: EmbedMethod, **changed: Any) -> ResolvedConfig:
    return resolve_config(EmbedTrainConfig(corpus=[], out=tmp_path, method=method, **changed))


def count_by_brute_force(ids: np.ndarray, num_words: int, window: int) -> np.ndarray:
    """x(i, j) (N, N): every word with each word before and after it."""
    x = np.zeros((num_words, num_words))
    for a, word in enumerate(ids):
        for b, other in enumerate(ids):
            near = 0 < abs(a - b) <= window
            if near and word >= 0 and other >= 0 and END not in ids[min(a, b) : max(a, b)]:
                x[word, other] += 1 / abs(a - b)
    return x


def dense_matrix(matrix: lsa.SparseMatrix) -> np.ndarray:
    x = np.zeros(matrix.shape)
    for row in range(matrix.shape[0]):
        part = slice(matrix.starts[row], matrix.starts[row + 1])
        x[row, matrix.columns[part]] = matrix.values[part]
    return x


def kernel_settings(**changed: Any) -> ResolvedConfig:
    return resolve_config(EmbedTrainConfig(corpus=[], dim=DIM, **changed))


def padded_weights(rows: int, seed: int) -> np.ndarray:
    """Rows (rows, W) of random numbers, padded with zeros."""
    matrix = np.zeros((rows, padded_width(DIM)), np.float32)
    matrix[:, :DIM] = np.random.default_rng(seed).normal(size=(rows, DIM)) / 2
    return matrix


def always_drawing(word: int, num_words: int, negative: int) -> compiled.SamplingTables:
    """Keeps all words; every negative word is `word`."""
    alias = compiled.alias_table(np.eye(num_words)[word])
    keep = np.full(num_words, 0xFFFFFFFF, np.uint32)
    no_path = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return compiled.SamplingTables(1, negative, keep, alias, *no_path)


def tensors(inputs: np.ndarray, outputs: np.ndarray) -> tuple[Tensor, Tensor]:
    return tuple(torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in (inputs, outputs))  # type: ignore[return-value]


def descend(value: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """One step of gradient descent."""
    gradients = torch.autograd.grad(value, (inputs, outputs))
    with torch.no_grad():
        inputs -= RATE * gradients[0]
        outputs -= RATE * gradients[1]


def embedding(words: list[str], vectors: Any, **parts: Any) -> Embedding:
    matrix = np.asarray(vectors, np.float32)
    header = checkpoint.Header("embed", "skipgram", {"dim": matrix.shape[1]}, [])
    return Embedding(header, WordList.from_strings(words), matrix, **parts)
