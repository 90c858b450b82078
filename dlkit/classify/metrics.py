"""Scores of classifiers, from probabilities and truths.

Shapes: N samples, L labels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 15  # of the calibration error, as in Guo et al. 2017

DEFINITIONS = {
    "top1": "Share of samples whose most probable label is right.",
    "top5": "Share of samples with the right label among the five most probable.",
    "mean_recall": "Recall of each label (share of its samples found), mean over labels.",
    "calibration_error": "Expected calibration error: |accuracy - confidence|, weighted over 15 "
    "equal bins of confidence (Guo et al. 2017).",
    "loss": "Mean cross-entropy; with several labels, binary cross-entropy, in nats.",
    "map": "Average precision of each label's ranking of all samples, mean over labels.",
    "exact": "Share of samples whose labels of probability 0.5 or more are exactly the true ones.",
    "precision": "Share of the samples given this label that have it.",
    "recall": "Share of the samples with this label that were given it.",
    "f1": "Harmonic mean of precision and recall.",
    "ap": "Average precision: mean of the precision at each sample that has the label.",
    "samples": "Samples with this label.",
    "recall_at_1": "Share of samples whose nearest other sample has the same label.",
    "recall_at_5": "Share of samples with their label among the five nearest other samples.",
    "retrieval_map": "Average precision of the others ranked by distance, mean over samples.",
}


@dataclass(frozen=True)
class ClassificationMetrics:
    """`confusion` (L, L) counts truths in rows and predictions in columns; None with several."""

    summary: dict[str, float]
    per_label: dict[str, dict[str, float]]
    confusion: np.ndarray | None = None


def single_label(
    probabilities: Tensor, targets: Tensor, labels: list[str]
) -> ClassificationMetrics:
    """Scores of probabilities (N, L) where the label `targets` (N,) is the only right one."""
    count = len(labels)
    confidence, predicted = probabilities.max(dim=1)
    right = predicted == targets
    among = probabilities.topk(min(5, count), dim=1).indices == targets[:, None]
    confusion = torch.bincount(targets * count + predicted, minlength=count**2).view(count, count)
    hits = confusion.diagonal().double()
    given, there = confusion.sum(dim=0).double(), confusion.sum(dim=1).double()
    precision, recall = hits / given, hits / there
    f1 = 2 * hits / (given + there)
    of_truth = probabilities.gather(1, targets[:, None]).double()
    summary = {
        "top1": float(right.double().mean()),
        "top5": float(among.any(dim=1).double().mean()),
        "mean_recall": float(recall[there > 0].mean()),
        "calibration_error": calibration_error(confidence, right),
        "loss": float(-of_truth.clamp(1e-12).log().mean()),
    }
    per_label = {
        name: {
            "samples": float(there[i]),
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
        }
        for i, name in enumerate(labels)
    }
    return ClassificationMetrics(summary, per_label, confusion.numpy())


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    bins = (confidence.double() * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.double)
    gap.index_add_(0, bins, right.double() - confidence.double())
    return float(gap.abs().sum() / len(confidence))


def several_labels(
    probabilities: Tensor, targets: Tensor, labels: list[str]
) -> ClassificationMetrics:
    """Scores of probabilities (N, L) where each label stands for itself: `targets` (N, L) 0, 1."""
    given = probabilities >= 0.5
    truth = targets.bool()
    hits = (given & truth).sum(dim=0).double()
    aps = [average_precision(probabilities[:, i], truth[:, i]) for i in range(len(labels))]
    logs = torch.where(truth, probabilities, 1 - probabilities).double().clamp(1e-12).log()
    summary = {
        "map": float(np.nanmean(aps)) if not np.isnan(aps).all() else float("nan"),
        "exact": float((given == truth).all(dim=1).double().mean()),
        "loss": float(-logs.mean()),
    }
    per_label = {
        name: {
            "samples": float(truth[:, i].sum()),
            "ap": aps[i],
            "precision": float(hits[i] / given[:, i].sum()),
            "recall": float(hits[i] / truth[:, i].sum()),
        }
        for i, name in enumerate(labels)
    }
    return ClassificationMetrics(summary, per_label)


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Mean of the precision at each true sample, from the highest score down; nan without any.

    Samples of equal score share the precision at the last of them, so that order does not count.
    """
    if not truth.any():
        return float("nan")
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], truth[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(scores) + 1)
    last = torch.searchsorted(-ranked, -ranked, right=True) - 1
    return float(precision[last][truth[order]].mean())


def retrieval(descriptors: Tensor, targets: Tensor) -> ClassificationMetrics:
    """How well near samples share a label: descriptors (N, D) of length 1, targets (N,)."""
    ones, fives, precisions = [], [], []
    for index in range(len(targets)):
        scores = descriptors @ descriptors[index]
        others = torch.arange(len(targets)) != index
        same = (targets == targets[index])[others]
        if not same.any():
            continue  # nothing to find
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
