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

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.embed.config import EmbedTrainConfig
from dlkit.embed.cooccurrence import COUNTS, SENTENCE_END, count

SMOOTHING = 0.75  # the power of the contexts' distribution
OVERSAMPLING = 10  # dimensions more than asked for, which make the first ones exact
POWERS = 4  # iterations, needed where singular values fall slowly


def train_lsa(
    ids: np.ndarray, num_words: int, config: EmbedTrainConfig, threads: int, device: torch.device
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
    left, values = truncated_svd(matrix.to(device), config.dim, config.seed)
    return np.ascontiguousarray((left * values**power).cpu().numpy(), np.float32)


def tf_idf(ids: np.ndarray, num_words: int) -> Tensor:
    """The weighted counts (N, M), sparse."""
    ends = ids == SENTENCE_END
    documents = np.cumsum(ends)[~ends]
    num_documents = int(ends.sum())
    keys, tf = np.unique(documents * num_words + ids[~ends], return_counts=True)
    document, word = np.divmod(keys, num_words)
    df = np.bincount(word, minlength=num_words)
    weights = (1 + np.log(tf)) * (1 + np.log((1 + num_documents) / (1 + df)))[word]
    lengths = np.sqrt(np.bincount(document, weights**2, minlength=num_documents))
    return sparse(word, document, weights / lengths[document], (num_words, num_documents))


def positive_pmi(counts: np.ndarray, num_words: int) -> Tensor:
    """max(0, log(p(i, j) / (p(i) p(j)^0.75))) (N, N), sparse, from counts of pairs i <= j."""
    i, j = np.divmod(counts["key"], num_words)
    apart = i != j
    word, context = np.concatenate([i, j[apart]]), np.concatenate([j, i[apart]])
    x = np.concatenate([counts["x"], counts["x"][apart]])
    sums = np.bincount(word, x, minlength=num_words)
    smoothed = sums**SMOOTHING
    smoothed /= smoothed.sum()
    information = np.log(x / (sums[word] * smoothed[context]))
    kept = information > 0
    return sparse(word[kept], context[kept], information[kept], (num_words, num_words))


def sparse(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple) -> Tensor:
    indices = torch.from_numpy(np.stack([rows, columns]))
    matrix = torch.sparse_coo_tensor(indices, torch.from_numpy(values).float(), shape)
    return matrix.coalesce()


def truncated_svd(matrix: Tensor, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The first `dim` left singular vectors (N, D) and singular values (D).

    By random projection (Halko et al. 2011, algorithms 4.4 and 5.1). The largest component of each
    vector is made positive, as signs are arbitrary.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        size = min(dim + OVERSAMPLING, *matrix.shape)
        left, values, _ = torch.svd_lowrank(matrix, size, niter=POWERS)
    left, values = left[:, :dim], values[:dim]
    largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
    return left * torch.where(largest < 0, -1.0, 1.0), values
