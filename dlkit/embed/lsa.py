"""Latent semantic analysis: a truncated singular value decomposition of counts.

- `tfidf`: words by documents (Deerwester et al. 1990); a document is a line of the corpus, or 1000
  words of a longer one. A word that occurs tf > 0 times in a document and in df of M documents has
  (1 + log tf) (1 + log((1 + M) / (1 + df))), and a document's column is scaled to length 1, as in
  scikit-learn with sublinear_tf. A word's vector is U S.
- `ppmi`: positive pointwise mutual information of words in a window, weighted by 1/distance, with
  the contexts' distribution raised to 0.75; a word's vector is U sqrt(S) (Levy et al. 2015,
  sections 2.1, 3.2 and 3.3).

Shapes: N words, M columns, D dimensions.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit

from dlkit.core.errors import DlkitError
from dlkit.embed.config import EmbedTrainConfig
from dlkit.embed.cooccurrence import COUNTS, SENTENCE_END, count

SMOOTHING = 0.75  # the power of the contexts' distribution
OVERSAMPLING = 10  # dimensions more than asked for, which make the first ones exact
RANK = 1e-12  # of the largest squared length: what is shorter is rounding
BLOCK = 8192  # rows that are held in double precision
POWERS = 4  # iterations, needed where singular values fall slowly


def train_lsa(
    ids: np.ndarray, num_words: int, config: EmbedTrainConfig, threads: int
) -> np.ndarray:
    """Vectors (N, D) of a text of word ids with SENTENCE_END after each line."""
    if config.weighting == "ppmi":
        config.out.mkdir(parents=True, exist_ok=True)
        counts = count(ids, num_words, config.window, config.out, config.memory, threads)
        matrix = positive_pmi(counts, num_words)
        (config.out / COUNTS).unlink()
        power = 0.5
    else:
        matrix = tf_idf(ids, num_words)
        power = 1.0
    most = min(matrix.shape)
    if config.dim > most:
        raise DlkitError(
            f"--dim {config.dim}: {num_words} words by {matrix.shape[1]} "
            f"{'words' if config.weighting == 'ppmi' else 'lines'} have at most {most} dimensions"
        )
    left, values = truncated_svd(matrix, config.dim, config.seed, threads)
    return np.ascontiguousarray(left * values**power, np.float32)


@dataclass(frozen=True)
class Sparse:
    """A matrix by rows: row r has `values` in `columns`, from starts[r] to before starts[r + 1]."""

    starts: np.ndarray  # int64 (N + 1)
    columns: np.ndarray  # int32
    values: np.ndarray  # float32
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
    ) -> "Sparse":
        starts = np.append(0, np.cumsum(np.bincount(rows, minlength=shape[0])))
        order = by_row(rows, starts)
        return cls(starts, columns.astype(np.int32)[order], values.astype(np.float32)[order], shape)

    def transposed(self) -> "Sparse":
        rows = np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.starts))
        return Sparse.of(self.columns, rows, self.values, self.shape[::-1])

    def times(self, dense: np.ndarray, pool: ThreadPoolExecutor, threads: int) -> np.ndarray:
        """The product (N, K) with a matrix (M, K)."""
        product = np.zeros((self.shape[0], dense.shape[1]), np.float32)
        shares = np.linspace(0, len(self.values), 8 * threads + 1)
        cuts = np.searchsorted(self.starts, shares).tolist()
        cuts[-1] = self.shape[0]
        work = partial(multiply, self.starts, self.columns, self.values, dense, product)
        list(pool.map(work, cuts[:-1], cuts[1:]))
        return product


@njit(cache=True, nogil=True)
def by_row(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The order in which entries lie row by row, in each row as they came."""
    free = starts[:-1].copy()
    order = np.empty(len(rows), np.int64)
    for k, row in enumerate(rows):
        order[free[row]] = k
        free[row] += 1
    return order


@njit(cache=True, nogil=True, fastmath=True)
def multiply(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    dense: np.ndarray,
    product: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Rows `first` to before `last` of a sparse matrix times a dense one, added to `product`."""
    for row in range(first, last):
        for k in range(starts[row], starts[row + 1]):
            value, other = values[k], dense[columns[k]]
            for d in range(dense.shape[1]):
                product[row, d] += value * other[d]


def tf_idf(ids: np.ndarray, num_words: int) -> Sparse:
    """The weighted counts (N, M)."""
    ends = ids == SENTENCE_END
    documents = np.cumsum(ends)[~ends]
    num_documents = int(ends.sum())
    keys, tf = np.unique(documents * num_words + ids[~ends], return_counts=True)
    document, word = np.divmod(keys, num_words)
    df = np.bincount(word, minlength=num_words)
    weights = (1 + np.log(tf)) * (1 + np.log((1 + num_documents) / (1 + df)))[word]
    lengths = np.sqrt(np.bincount(document, weights**2, minlength=num_documents))
    return Sparse.of(word, document, weights / lengths[document], (num_words, num_documents))


def positive_pmi(counts: np.ndarray, num_words: int) -> Sparse:
    """max(0, log(p(i, j) / (p(i) p(j)^0.75))) (N, N), from counts of pairs i <= j."""
    i, j = np.divmod(counts["key"], num_words)
    apart = i != j
    word, context = np.concatenate([i, j[apart]]), np.concatenate([j, i[apart]])
    x = np.concatenate([counts["x"], counts["x"][apart]])
    sums = np.bincount(word, x, minlength=num_words)
    smoothed = sums**SMOOTHING
    smoothed /= smoothed.sum()
    information = np.log(x / (sums[word] * smoothed[context]))
    kept = information > 0
    return Sparse.of(word[kept], context[kept], information[kept], (num_words, num_words))


def truncated_svd(
    matrix: Sparse, dim: int, seed: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first `dim` left singular vectors (N, D) and singular values (D), float32.

    By random projection (Halko et al. 2011, algorithms 4.4 and 5.1). The largest component of each
    vector is made positive, as signs are arbitrary.
    """
    size = min(dim + OVERSAMPLING, *matrix.shape)
    rng = np.random.default_rng(seed)
    transposed = matrix.transposed()
    with ThreadPoolExecutor(threads) as pool:
        drawn = rng.standard_normal((matrix.shape[1], size), np.float32)
        basis = orthonormal(matrix.times(drawn, pool, threads))
        for _ in range(POWERS):
            other = orthonormal(transposed.times(basis, pool, threads))
            basis = orthonormal(matrix.times(other, pool, threads))
        projected = transposed.times(basis, pool, threads)
    squares, rotation = np.linalg.eigh(gram(projected))
    values = np.sqrt(squares[::-1][:dim].clip(min=0)).astype(np.float32)
    left = basis @ rotation[:, ::-1][:, :dim].astype(np.float32)
    largest = np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0)
    return left * np.where(largest < 0, np.float32(-1), np.float32(1)), values


def orthonormal(vectors: np.ndarray) -> np.ndarray:
    """A basis of what the columns span, with columns of zeros where they depend on each other.

    The eigenvectors of their products take a tenth of the time of a QR decomposition.
    """
    squares, rotation = np.linalg.eigh(gram(vectors))
    independent = squares > RANK * squares[-1]
    scales = independent / np.sqrt(np.where(independent, squares, 1))
    return vectors @ (rotation * scales).astype(np.float32)


def gram(vectors: np.ndarray) -> np.ndarray:
    """The products (K, K) of the columns (N, K), in double precision."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float64)
        total += block.T @ block
    return total
