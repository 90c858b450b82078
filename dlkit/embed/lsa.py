"""Latent semantic analysis: a truncated singular value decomposition of counts.

- `tfidf`: words by documents (Deerwester et al. 1990); a document is a line of the corpus, or 1000
  words of a longer one. A word that occurs tf > 0 times in a document and in df of M documents gets
  (1 + log tf) (1 + log((1 + M) / (1 + df))); the columns are scaled to length 1, as in scikit-learn
  with sublinear_tf. The word vectors are U S.
- `ppmi`: positive pointwise mutual information of words in a window, weighted by 1/distance, with
  the context distribution raised to 0.75; the word vectors are U sqrt(S) (Levy et al. 2015,
  sections 2.1, 3.2 and 3.3).

Shapes: N words, M columns, D dimensions.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.numba_tools import njit
from dlkit.embed.config import ResolvedConfig
from dlkit.embed.cooccurrence import COUNTS_FILE, count_cooccurrences
from dlkit.embed.corpus import SENTENCE_END

SMOOTHING = 0.75  # power of the context distribution
OVERSAMPLING = 10  # extra dimensions, which make the requested ones exact
RANK_TOLERANCE = 1e-12  # of the largest squared length: anything shorter is rounding error
BLOCK = 8192  # rows held in double precision
POWER_ITERATIONS = 4  # needed where singular values fall slowly


def train_lsa(ids: np.ndarray, num_words: int, config: ResolvedConfig, threads: int) -> np.ndarray:
    """Return the vectors (N, D) for a text of word ids with SENTENCE_END after each line."""
    if config.weighting == "ppmi":
        config.out.mkdir(parents=True, exist_ok=True)
        counts = count_cooccurrences(
            ids, num_words, config.window, config.out, config.memory, threads
        )
        matrix = positive_pmi(counts, num_words)
        (config.out / COUNTS_FILE).unlink()
        power = 0.5
    else:
        matrix = tf_idf(ids, num_words)
        power = 1.0
    max_dim = min(matrix.shape)
    if config.dim > max_dim:
        columns = "words" if config.weighting == "ppmi" else "lines"
        raise DlkitError(
            f"--dim {config.dim}: {num_words} words by {matrix.shape[1]} {columns} have at most "
            f"{max_dim} dimensions"
        )
    left, values = truncated_svd(matrix, config.dim, config.seed, threads)
    return np.ascontiguousarray(left * values**power, np.float32)


@dataclass(frozen=True)
class SparseMatrix:
    """A matrix of compressed sparse rows: row r has the entries starts[r] to starts[r + 1] - 1."""

    starts: np.ndarray  # int64 (N + 1)
    columns: np.ndarray  # int32
    values: np.ndarray  # float32
    shape: tuple[int, int]

    @classmethod
    def from_entries(
        cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
    ) -> "SparseMatrix":
        starts = np.append(0, np.cumsum(np.bincount(rows, minlength=shape[0])))
        order = sort_by_row(rows, starts)
        return cls(starts, columns.astype(np.int32)[order], values.astype(np.float32)[order], shape)

    def transpose(self) -> "SparseMatrix":
        rows = np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.starts))
        return SparseMatrix.from_entries(self.columns, rows, self.values, self.shape[::-1])

    def multiply(self, dense: np.ndarray, pool: ThreadPoolExecutor, threads: int) -> np.ndarray:
        """Return the product (N, K) with a dense matrix (M, K)."""
        product = np.zeros((self.shape[0], dense.shape[1]), np.float32)
        shares = np.linspace(0, len(self.values), 8 * threads + 1)
        cuts = np.searchsorted(self.starts, shares).tolist()
        cuts[-1] = self.shape[0]
        work = partial(multiply_rows, self.starts, self.columns, self.values, dense, product)
        list(pool.map(work, cuts[:-1], cuts[1:]))
        return product


@njit(cache=True, nogil=True)
def sort_by_row(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the order that sorts entries by row, stable within a row."""
    free = starts[:-1].copy()
    order = np.empty(len(rows), np.int64)
    for k, row in enumerate(rows):
        order[free[row]] = k
        free[row] += 1
    return order


@njit(cache=True, nogil=True, fastmath=True)
def multiply_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    dense: np.ndarray,
    product: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Add rows `first` to before `last` of a sparse matrix times a dense one to `product`."""
    for row in range(first, last):
        for k in range(starts[row], starts[row + 1]):
            value, other = values[k], dense[columns[k]]
            for d in range(dense.shape[1]):
                product[row, d] += value * other[d]


def tf_idf(ids: np.ndarray, num_words: int) -> SparseMatrix:
    """Return the tf-idf weights (N, M) of words in documents."""
    ends = ids == SENTENCE_END
    documents = np.cumsum(ends)[~ends]
    num_documents = int(ends.sum())
    keys, tf = np.unique(documents * num_words + ids[~ends], return_counts=True)
    document, word = np.divmod(keys, num_words)
    df = np.bincount(word, minlength=num_words)
    weights = (1 + np.log(tf)) * (1 + np.log((1 + num_documents) / (1 + df)))[word]
    lengths = np.sqrt(np.bincount(document, weights**2, minlength=num_documents))
    return SparseMatrix.from_entries(
        word, document, weights / lengths[document], (num_words, num_documents)
    )


def positive_pmi(counts: np.ndarray, num_words: int) -> SparseMatrix:
    """Return max(0, log(p(i, j) / (p(i) p(j)^0.75))) (N, N) for counts of pairs i <= j."""
    i, j = np.divmod(counts["key"], num_words)
    apart = i != j
    word, context = np.concatenate([i, j[apart]]), np.concatenate([j, i[apart]])
    x = np.concatenate([counts["x"], counts["x"][apart]])
    sums = np.bincount(word, x, minlength=num_words)
    smoothed = sums**SMOOTHING
    smoothed /= smoothed.sum()
    information = np.log(x / (sums[word] * smoothed[context]))
    kept = information > 0
    return SparseMatrix.from_entries(
        word[kept], context[kept], information[kept], (num_words, num_words)
    )


def truncated_svd(
    matrix: SparseMatrix, dim: int, seed: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `dim` left singular vectors (N, D) and singular values (D), float32.

    By random projection (Halko et al. 2011, algorithms 4.4 and 5.1). Signs are arbitrary, so the
    largest component of each vector is made positive.
    """
    size = min(dim + OVERSAMPLING, *matrix.shape)
    rng = np.random.default_rng(seed)
    transposed = matrix.transpose()
    with ThreadPoolExecutor(threads) as pool:
        drawn = rng.standard_normal((matrix.shape[1], size), np.float32)
        basis = orthonormal_basis(matrix.multiply(drawn, pool, threads))
        for _ in range(POWER_ITERATIONS):
            other = orthonormal_basis(transposed.multiply(basis, pool, threads))
            basis = orthonormal_basis(matrix.multiply(other, pool, threads))
        projected = transposed.multiply(basis, pool, threads)
    squares, rotation = np.linalg.eigh(gram_matrix(projected))
    values = np.sqrt(squares[::-1][:dim].clip(min=0)).astype(np.float32)
    left = basis @ rotation[:, ::-1][:, :dim].astype(np.float32)
    largest = np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0)
    return left * np.where(largest < 0, np.float32(-1), np.float32(1)), values


def orthonormal_basis(vectors: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns' span, with zero columns where they are dependent.

    The eigenvectors of the Gram matrix take a tenth of the time of a QR decomposition.
    """
    squares, rotation = np.linalg.eigh(gram_matrix(vectors))
    independent = squares > RANK_TOLERANCE * squares[-1]
    scales = independent / np.sqrt(np.where(independent, squares, 1))
    basis: np.ndarray = vectors @ (rotation * scales).astype(np.float32)
    return basis


def gram_matrix(vectors: np.ndarray) -> np.ndarray:
    """Return the Gram matrix (K, K) of the columns (N, K), in double precision."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float64)
        total += block.T @ block
    return total
