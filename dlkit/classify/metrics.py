"""Classification and retrieval metrics.

Shapes: N samples, L labels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 15  # of the calibration error, as in Guo et al. 2017

DEFINITIONS = {
    "top1": "Share of samples whose most probable label is correct.",
    "top5": "Share of samples with the correct label among the five most probable.",
    "mean_recall": "Recall of each label (share of its samples found), mean over labels.",
    "calibration_error": "Expected calibration error: |accuracy - confidence|, weighted over 15 "
    "equal bins of confidence (Guo et al. 2017).",
    "loss": "Mean cross-entropy, for multi-label models binary cross-entropy, in nats.",
    "map": "Average precision of each label's ranking of all samples, mean over labels.",
    "exact": "Share of samples whose labels of probability 0.5 or more are exactly the true ones.",
    "precision": "Share of the samples predicted to have this label that have it.",
    "recall": "Share of the samples with this label that were predicted to have it.",
    "f1": "Harmonic mean of precision and recall.",
    "ap": "Average precision: mean of the precision at each sample that has the label.",
    "samples": "Samples with this label.",
    "recall_at_1": "Share of samples whose nearest other sample has the same label.",
    "recall_at_5": "Share of samples with their label among the five nearest other samples.",
    "retrieval_map": "Average precision of the others ranked by distance, mean over samples.",
}


@dataclass(frozen=True)
class ClassificationMetrics:
    """Scores of a classifier.

    `confusion` (L, L) has true labels in rows and predictions in columns; None if multi-label.
    """

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]
    confusion: np.ndarray | None = None


def score_single_label(
    probabilities: Tensor, targets: Tensor, labels: list[str]
) -> ClassificationMetrics:
    """Score probabilities (N, L) against the one label `targets` (N,) of each sample."""
    count = len(labels)
    confidence, predicted = probabilities.max(dim=1)
    correct = predicted == targets
    in_top5 = probabilities.topk(min(5, count), dim=1).indices == targets[:, None]
    confusion = torch.bincount(targets * count + predicted, minlength=count**2).view(count, count)
    hits = confusion.diagonal().double()
    predictions, support = confusion.sum(dim=0).double(), confusion.sum(dim=1).double()
    precision, recall = hits / predictions, hits / support
    f1 = 2 * hits / (predictions + support)
    likelihood = probabilities.gather(1, targets[:, None]).double()
    summary = {
        "top1": float(correct.double().mean()),
        "top5": float(in_top5.any(dim=1).double().mean()),
        "mean_recall": float(recall[support > 0].mean()),
        "calibration_error": calibration_error(confidence, correct),
        "loss": float(-likelihood.clamp(1e-12).log().mean()),
    }
    per_label = {
        name: {
            "samples": float(support[i]),
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
        }
        for i, name in enumerate(labels)
    }
    return ClassificationMetrics(summary, per_label, confusion.numpy())


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017) of predictions (N,)."""
    bins = (confidence.double() * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.double)
    gap.index_add_(0, bins, correct.double() - confidence.double())
    return float(gap.abs().sum() / len(confidence))


def score_multi_label(
    probabilities: Tensor, targets: Tensor, labels: list[str]
) -> ClassificationMetrics:
    """Score independent probabilities (N, L) against multi-hot `targets` (N, L)."""
    predicted = probabilities >= 0.5
    truth = targets.bool()
    hits = (predicted & truth).sum(dim=0).double()
    aps = [average_precision(probabilities[:, i], truth[:, i]) for i in range(len(labels))]
    logs = torch.where(truth, probabilities, 1 - probabilities).double().clamp(1e-12).log()
    summary = {
        "map": float(np.nanmean(aps)) if not np.isnan(aps).all() else float("nan"),
        "exact": float((predicted == truth).all(dim=1).double().mean()),
        "loss": float(-logs.mean()),
    }
    per_label = {
        name: {
            "samples": float(truth[:, i].sum()),
            "ap": aps[i],
            "precision": float(hits[i] / predicted[:, i].sum()),
            "recall": float(hits[i] / truth[:, i].sum()),
        }
        for i, name in enumerate(labels)
    }
    return ClassificationMetrics(summary, per_label)


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Mean of the precision at each positive sample by descending score; nan without positives.

    Samples of equal score share the precision at the last of them, so their order has no effect.
    """
    if not truth.any():
        return float("nan")
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], truth[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(scores) + 1)
    last = torch.searchsorted(-ranked, -ranked, right=True) - 1
    return float(precision[last][truth[order]].mean())


def score_retrieval(descriptors: Tensor, targets: Tensor) -> ClassificationMetrics:
    """Score the retrieval of samples of the same label, by unit descriptors (N, D)."""
    ones, fives, precisions = [], [], []
    for index in range(len(targets)):
        scores = descriptors @ descriptors[index]
        others = torch.arange(len(targets)) != index
        same = (targets == targets[index])[others]
        if not same.any():
            continue  # no other sample has the label
        ranked = same[scores[others].argsort(descending=True, stable=True)]
        ones.append(bool(ranked[0]))
        fives.append(bool(ranked[:5].any()))
        precisions.append(average_precision(scores[others], same))
    summary = {
        "recall_at_1": float(np.mean(ones)),
        "recall_at_5": float(np.mean(fives)),
        "retrieval_map": float(np.mean(precisions)),
    }
    return ClassificationMetrics(summary, {})
