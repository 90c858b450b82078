"""Fitting of linear models of n-grams: NB-SVM, and TF-IDF with logistic regression.

Shapes: N texts, F n-grams that are in them, K outputs: one if there are two labels, else L. Numbers
are in double precision, so that the result depends on the data alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.classify.models.ngrams import NGRAM_MODELS, NgramModel, TfIdfNgrams, ngram_keys
from dlkit.classify.text import TextDataset, pad_ids
from dlkit.core.errors import DlkitError
from dlkit.core.progress import log

SMOOTHING = 1.0  # added to the counts of n-grams in the texts of a label
FURTHER = 0.3  # weight of the counts of further texts, which may be of another kind
FOLDS = 5
BATCH = 512
MAX_STEPS, TOLERANCE = 1000, 1e-6  # of L-BFGS; of the gradient, as a share of the cost

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]  # of margins: the sum, and its gradient


@dataclass(frozen=True)
class NgramCounts:
    """A sparse matrix (N, F): the n-grams of each text by their keys, and how often they occur."""

    keys: np.ndarray  # (F,) in order
    texts: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    size: int  # N

    @classmethod
    def of(cls, ids: Sequence[Tensor], vocab_size: int, ngrams: int) -> "NgramCounts":
        """Count the n-grams of texts of ids."""
        found = []
        for start in range(0, len(ids), BATCH):
            padded = pad_ids(ids[start : start + BATCH])
            keys = torch.cat(ngram_keys(padded, vocab_size, ngrams), dim=1).numpy()
            for number, row in enumerate(keys, start):
                own, counts = np.unique(row[row != 0], return_counts=True)
                found.append((np.full(len(own), number), own, counts))
        texts, every, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
        known, columns = np.unique(every, return_inverse=True)
        return cls(known, texts, columns, counts.astype(float), len(ids))

    def times(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The product (N,) of the matrix of `values` in place of the counts, and weights (F,)."""
        return np.bincount(self.texts, values * weights[self.columns], self.size)

    def transposed_times(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The product (F,) of the transposed matrix of `values` and weights (N,)."""
        return np.bincount(self.columns, values * weights[self.texts], len(self.keys))

    def only(self, chosen: np.ndarray) -> "NgramCounts":
        """The counts of the chosen texts (N,) alone, for the same n-grams."""
        kept = chosen[self.texts]
        numbers = chosen.cumsum() - 1
        texts = numbers[self.texts[kept]]
        return NgramCounts(
            self.keys, texts, self.columns[kept], self.counts[kept], int(chosen.sum())
        )

    def texts_with(self, chosen: np.ndarray) -> np.ndarray:
        """The number (F,) of the chosen texts (N,) that have each n-gram."""
        return np.bincount(self.columns, chosen[self.texts].astype(float), len(self.keys))


def fit(
    arch: str,
    settings: dict[str, Any],
    training: TextDataset,
    further: TextDataset | None = None,
    cost: float = 1.0,
    interpolation: float = 0.25,
) -> tuple[NgramModel, dict[str, Any]]:
    """Fit a model to labeled texts; return it, and its keyword arguments.

    `settings` are its arguments but for the number of n-grams; `further` are texts that are only
    counted for the ratios of nbsvm.
    """
    targets = training.targets.numpy()
    num_labels, size = settings["num_labels"], (settings["vocab_size"], settings["ngrams"])
    counts = NgramCounts.of(training.ids, *size)
    if not len(counts.keys):
        raise DlkitError("no words in the training texts")
    settings = {**settings, "features": len(counts.keys)}
    model = NGRAM_MODELS[arch](**settings)
    if isinstance(model, TfIdfNgrams):
        idf = inverse_document_frequencies(counts)
        weights, bias = fit_tf_idf(counts, idf, targets, num_labels, cost)
        model.idf = torch.tensor(idf, dtype=torch.float32)
    else:
        more = None if further is None else NgramCounts.of(further.ids, *size)
        fitted = []
        for label in [1] if num_labels == 2 else range(num_labels):
            others = None if further is None else further.targets.numpy() == label
            fitted.append(
                fit_naive_bayes(counts, targets == label, cost, interpolation, more, others)
            )
        weights, bias = (np.array(parts) for parts in zip(*fitted, strict=True))
    model.keys = torch.tensor(counts.keys)
    model.weights, model.bias = (
        torch.tensor(part, dtype=torch.float32) for part in (weights, bias)
    )
    log(f"{arch}: {len(counts.keys):,} n-grams of {counts.size:,} texts")
    return model.eval(), settings


def log_count_ratios(
    counts: NgramCounts,
    side: np.ndarray,
    further: NgramCounts | None = None,
    further_side: np.ndarray | None = None,
) -> np.ndarray:
    """The logarithms (F,) of the ratios of n-grams' shares in texts of one side and of the other.

    Wang and Manning 2012, equation 3: shares of the smoothed numbers of texts that have an n-gram.
    Those of further texts are added, with a lower weight.
    """
    logs = []
    for own, sign in ((side, True), (~side, False)):
        numbers = SMOOTHING + counts.texts_with(own)
        if further is not None and further_side is not None:
            place = np.searchsorted(further.keys, counts.keys).clip(max=len(further.keys) - 1)
            known = further.keys[place] == counts.keys
            numbers += FURTHER * known * further.texts_with(further_side == sign)[place]
        logs.append(np.log(numbers / numbers.sum()))
    return np.asarray(logs[0] - logs[1])


def fit_naive_bayes(
    counts: NgramCounts,
    side: np.ndarray,
    cost: float,
    interpolation: float,
    further: NgramCounts | None = None,
    further_side: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Weights (F,) of the n-grams in a text, and a bias, for one side against the other.

    They are scaled so that the outputs are logits, by Platt's method: a logistic regression on the
    outputs for the texts of each of FOLDS folds by a fit to the others. Without as many texts of
    each side they are not scaled.
    """
    found = interpolated(counts, side, cost, interpolation, further, further_side)
    if min(side.sum(), (~side).sum()) < FOLDS:
        return found
    fold = np.where(side, side.cumsum(), (~side).cumsum()) % FOLDS
    outputs = np.zeros(counts.size)
    for number in range(FOLDS):
        rest, held_out = counts.only(fold != number), counts.only(fold == number)
        weights, bias = interpolated(
            rest, side[fold != number], cost, interpolation, further, further_side
        )
        weights *= rest.texts_with(np.ones(rest.size)) > 0  # others are unknown to this fit
        outputs[fold == number] = held_out.times(np.ones(len(held_out.texts)), weights) + bias
    numbers = np.arange(counts.size)
    single = NgramCounts(np.ones(1), numbers, np.zeros_like(numbers), outputs, counts.size)
    slope, offset = minimize(single, outputs, logistic(side), 1.0, 1)
    if slope[0, 0] <= 0:  # the outputs are no better than chance
        return found
    return found[0] * slope[0, 0], found[1] * float(slope[0, 0]) + float(offset[0])


def interpolated(
    counts: NgramCounts,
    side: np.ndarray,
    cost: float,
    interpolation: float,
    further: NgramCounts | None,
    further_side: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """Weights (F,) and a bias as in Wang and Manning 2012.

    A classifier on the ratios of the n-grams that are in a text, whose weights are interpolated
    with their mean absolute value. It has the logistic loss in place of the squared hinge.
    """
    ratios = log_count_ratios(counts, side, further, further_side)
    weights, bias = minimize(counts, ratios[counts.columns], logistic(side), cost, 1)
    own = weights[0]
    mixed = (1 - interpolation) * np.abs(own).mean() + interpolation * own
    return ratios * mixed, float(bias[0])


def inverse_document_frequencies(counts: NgramCounts) -> np.ndarray:
    """log((1 + N) / (1 + texts that have it)) + 1 of each n-gram (F,), as scikit-learn's."""
    present = counts.texts_with(np.ones(counts.size))
    return np.asarray(np.log((1 + counts.size) / (1 + present)) + 1)


def fit_tf_idf(
    counts: NgramCounts, idf: np.ndarray, targets: np.ndarray, num_labels: int, cost: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, F) and biases (K,) of logistic regression on vectors of TF-IDF of norm 1."""
    values = counts.counts * idf[counts.columns]
    norms = np.sqrt(np.bincount(counts.texts, values**2, counts.size))
    values /= norms[counts.texts]
    if num_labels == 2:
        return minimize(counts, values, logistic(targets == 1), cost, 1)
    return minimize(counts, values, softmax_loss(targets, num_labels), cost, num_labels)


def logistic(side: np.ndarray) -> Loss:
    """The logistic loss of margins (N, 1)."""
    signs = np.where(side, 1.0, -1.0)[:, None]

    def loss(margins: np.ndarray) -> tuple[float, np.ndarray]:
        inner = signs * margins
        return float(np.logaddexp(0, -inner).sum()), -signs * np.exp(-np.logaddexp(0, inner))

    return loss


def softmax_loss(targets: np.ndarray, num_labels: int) -> Loss:
    """The cross-entropy of logits (N, L)."""
    goal = np.eye(num_labels)[targets]

    def loss(margins: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = margins - margins.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-(goal * logs).sum()), np.exp(logs) - goal

    return loss


def minimize(
    counts: NgramCounts, values: np.ndarray, loss: Loss, cost: float, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, F) and biases (K,) that minimize |weights|^2 / 2 + cost x loss, by L-BFGS."""
    size = len(counts.keys)
    point = torch.zeros(outputs, size + 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=MAX_STEPS,
        tolerance_grad=TOLERANCE * cost,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        weights = point.numpy()
        margins = [counts.times(values, own[:-1]) + own[-1] for own in weights]
        total, slopes = loss(np.column_stack(margins))
        gradient = np.empty_like(weights)
        for own, row, slope in zip(weights, gradient, slopes.T, strict=True):
            row[:-1] = own[:-1] + cost * counts.transposed_times(values, slope)
            row[-1] = cost * slope.sum()
        point.grad = torch.from_numpy(gradient)
        return float((weights[:, :-1] ** 2).sum() / 2 + cost * total)

    optimizer.step(closure)
    found = point.numpy()
    return found[:, :-1].copy(), found[:, -1].copy()
