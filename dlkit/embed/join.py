"""`dlkit embed join`: the vectors of several models as those of one.

Each model's unit vectors are centered and lose their first principal components ("all-but-the-top",
Mu and Viswanath 2018), are scaled to length 1 and concatenated (Yin and Schuetze 2016); a principal
component analysis keeps `dim` numbers. Vectors of n-grams, for words that are not known, are those
whose mean is nearest to the vectors of the known words (Zhao, Mudgal and Liang 2018), by ridge
regression.

Shapes: N words, D dimensions, G n-grams of all words, R buckets of n-grams.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists
from dlkit.core.progress import log, track
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run_folder import command_card
from dlkit.embed.model import Embedding, Subwords, WordList, save_embedding
from dlkit.embed.vectors import load

COMPONENTS = 2  # removed from each model: Mu and Viswanath's D / 100, rounded up, for D to 200
RIDGE = 0.1  # of the n-grams
STEPS = 40  # of conjugate gradients


def join(
    models: Sequence[str],
    out: Path,
    dim: int = 100,
    weights: Sequence[float] | None = None,
    components: int = COMPONENTS,
    max_vocab: int = 0,
    bucket: int = 0,
    minn: int = 3,
    maxn: int = 6,
    bits: int = 32,
    force: bool = False,
) -> Path:
    """Write the joined vectors of the models, of the words that all of them have, to `out`.

    `weights` scale the unit vectors of each model; `max_vocab` keeps the first words of the first
    model only, the most frequent ones; 0: all. With `bucket`, n-grams of `minn` to `maxn`
    characters get vectors, too. Raises DlkitError where no word is in all models.
    """
    if weights is not None and len(weights) != len(models):
        raise DlkitError(f"--weights: {len(weights)} numbers for {len(models)} models")
    if out.suffix != ".safetensors":
        raise DlkitError("the name of the file must end in .safetensors; rename it", out)
    if exists(out) and not force:
        raise DlkitError("exists; give another --out, or --force", out)
    if bits not in (32, 16, 8):
        raise DlkitError(f"--bits {bits} is not supported; choose from 32, 16, 8")
    if bucket and minn > maxn:
        raise DlkitError(f"--minn {minn}: greater than --maxn {maxn}")
    loaded = [load(model).embedding for model in models]
    first = loaded[0]
    places = [found.words.index for found in loaded]
    words = [word for word in first.words.to_list() if all(word in own for own in places)]
    words = words[: max_vocab or None]
    if len(words) <= max(dim, components):
        raise DlkitError(f"only {len(words)} words are in all models; too few for --dim {dim}")
    total = sum(found.vectors.shape[1] for found in loaded)
    if dim > total:
        raise DlkitError(f"--dim {dim}: the models have {total} dimensions together")
    for model, found in zip(models, loaded, strict=True):
        log(f"{model}: {len(words)} of {len(found.words)} words are taken")
    parts = []
    for found, own, scale in zip(loaded, places, weights or [1.0] * len(models), strict=True):
        rows = np.asarray(found.vectors, np.float32)[[own[word] for word in words]]
        parts.append(scale * unit_rows(without_top(unit_rows(rows), components)))
    joined = np.hstack(parts)
    vectors = unit_rows(principal(joined, dim))
    names = WordList.from_strings(words)
    subwords = fit_subwords(names, vectors, minn, maxn, bucket) if bucket else None
    counts = None
    if first.counts is not None:
        counts = np.asarray(first.counts)[[places[0][word] for word in words]]
    config = {"models": list(models), "weights": None if weights is None else list(weights),
              "components": components}  # fmt: skip
    header = Header("embed", "join", {"dim": dim}, [], config, {}, command_card())
    save_embedding(out, Embedding(header, names, vectors, counts, subwords), bits)
    return out


def parse_weights(text: str) -> list[float]:
    """Numbers above 0 with commas between them, of `--weights`."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < np.inf for number in numbers):
        raise DlkitError(f"--weights {text}: not numbers above 0; give one a model, such as 1,0.7")
    return numbers


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The vectors (N, D), scaled to length 1; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return scaled


def without_top(vectors: np.ndarray, components: int) -> np.ndarray:
    """The vectors (N, D), centered, without their first principal components."""
    centered: np.ndarray = vectors - vectors.mean(axis=0)
    top = directions(centered)[:, :components]
    centered -= centered @ top @ top.T
    return centered


def principal(vectors: np.ndarray, dim: int) -> np.ndarray:
    """The vectors (N, D) on their first `dim` principal axes."""
    kept: np.ndarray = vectors @ directions(vectors)[:, :dim]
    return kept


def directions(vectors: np.ndarray) -> np.ndarray:
    """The principal axes (D, D) of centered vectors (N, D), as columns, the longest first."""
    _, axes = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    return np.ascontiguousarray(axes[:, ::-1], np.float32)


def fit_subwords(
    words: WordList, vectors: np.ndarray, minn: int, maxn: int, bucket: int
) -> Subwords:
    """Vectors of n-grams whose mean in each word is near its vector (N, D), in least squares.

    Minimizes |A X - vectors|^2 + RIDGE |X|^2 by conjugate gradients (Hestenes and Stiefel 1952),
    where row w of A holds the shares of the n-grams of word w.
    """
    from dlkit.embed.compiled_subwords import hash_ngrams

    hashes, starts = hash_ngrams(words, minn, maxn, bucket)
    buckets, columns = np.unique(hashes, return_inverse=True)
    counts = np.diff(starts)
    rows = np.repeat(np.arange(len(words)), counts)
    shares = (1 / counts[rows]).astype(np.float32)
    means = SparseProduct(columns, starts, shares)
    by_column = np.argsort(columns, kind="stable")
    column_starts = np.searchsorted(columns[by_column], np.arange(len(buckets) + 1))
    transposed = SparseProduct(rows[by_column], column_starts, shares[by_column])

    fitted = np.zeros((len(buckets), vectors.shape[1]), np.float32)
    residual = transposed(vectors)
    direction = residual.copy()
    squares = (residual**2).sum(axis=0)
    for _ in track(range(STEPS), "fitting n-grams"):
        image = transposed(means(direction)) + RIDGE * direction
        step = squares / np.maximum((direction * image).sum(axis=0), 1e-30)
        fitted += step * direction
        residual -= step * image
        previous, squares = squares, (residual**2).sum(axis=0)
        direction = residual + squares / np.maximum(previous, 1e-30) * direction
    return Subwords(minn, maxn, bucket, buckets, fitted)


class SparseProduct:
    """The product of a sparse matrix with a dense one.

    The sparse one has these columns and values of nonzero entries, row by row; `starts` (rows + 1)
    are the first entries of the rows, as in scipy's csr_array.
    """

    def __init__(self, columns: np.ndarray, starts: np.ndarray, values: np.ndarray) -> None:
        import torch

        self.offsets = torch.from_numpy(starts[:-1].astype(np.int64))
        self.columns = torch.from_numpy(columns.astype(np.int64))
        self.values = torch.from_numpy(values)

    def __call__(self, dense: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn import functional as F

        product = F.embedding_bag(
            self.columns,
            torch.from_numpy(dense),
            self.offsets,
            mode="sum",
            per_sample_weights=self.values,
        )
        found: np.ndarray = product.numpy()
        return found
