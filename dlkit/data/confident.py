"""Confident learning: labels that are probably wrong, by out-of-sample probabilities.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021),
for labels; boxes are compared with a detector's in the same spirit (Tkachenko, Thyagarajan and
Mueller, "ObjectLab", 2023). Shapes: N samples, K classes, D numbers of a descriptor; G given and P
predicted boxes of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RIDGE = 1e-2  # weight of the squared weights of the softmax regression
STEPS = 100  # of L-BFGS
NEAR = 0.1  # intersection over union from which a predicted box is about a given one
SAME = 0.5  # from which it is the same object
SHIFTED = 0.25  # least score of a box that is elsewhere
SURE = 0.5  # least score of a box that may be missing


def thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The mean probability (K,) of each class among the samples with its label (equation 2)."""
    return np.array(
        [probabilities[labels == k, k].mean() for k in range(probabilities.shape[1])], float
    )


def confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The class (N,) that each sample confidently has, -1 for none (equation 1).

    Of the classes whose threshold the sample's probability reaches, the most probable one.
    """
    reached = probabilities >= thresholds(labels, probabilities) - 1e-6
    best: np.ndarray = np.where(reached, probabilities, -1).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def suspect_labels(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The samples off the diagonal of the confident joint, the least probable label first.

    Section 3.2 of the paper; "self-confidence" is the probability of a sample's own label.

    Samples whose most probable class is their label do not count.
    """
    confident = confident_classes(labels, probabilities)
    off = (confident >= 0) & (confident != labels) & (probabilities.argmax(axis=1) != labels)
    found = np.flatnonzero(off)
    confidence = probabilities[found, labels[found]]
    order: np.ndarray = found[np.argsort(confidence, kind="stable")]
    return order


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each sample: each label has its share in every fold, in random order."""
    generator = np.random.default_rng(seed)
    found = np.empty(len(labels), int)
    first = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        found[members] = (first + np.arange(len(members))) % folds
        first += len(members)
    return found


def held_out_probabilities(
    descriptors: np.ndarray, labels: np.ndarray, num_classes: int, folds: int, seed: int
) -> np.ndarray:
    """Probabilities (N, K) of softmax regressions, each trained without the samples of a fold."""
    found = np.empty((len(labels), num_classes))
    fold_of = stratified_folds(labels, folds, seed)
    for fold in range(folds):
        held = fold_of == fold
        found[held] = softmax_regression(
            descriptors[~held], labels[~held], descriptors[held], num_classes
        )
    return found


def softmax_regression(
    descriptors: np.ndarray, labels: np.ndarray, others: np.ndarray, num_classes: int
) -> np.ndarray:
    """Probabilities (M, K) of other descriptors (M, D) by a softmax regression on (N, D)."""
    import torch
    from torch.nn import functional as F

    mean, deviation = descriptors.mean(axis=0), descriptors.std(axis=0) + 1e-6
    inputs = torch.from_numpy((descriptors - mean) / deviation).float()
    targets = torch.from_numpy(labels).long()
    weight = torch.zeros(num_classes, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), targets)
        loss = loss + RIDGE * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scaled = torch.from_numpy((others - mean) / deviation).float()
        found: np.ndarray = F.linear(scaled, weight, bias).softmax(dim=1).double().numpy()
    return found


# ---- Boxes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxSuspect:
    """A given box, by its number, that is probably wrong, or none: a missing one.

    `score` is 1 for the most suspect. `predicted` is the number of the box that should be there.
    """

    kind: str
    score: float
    given: int | None
    predicted: int | None


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union (G, P) of boxes (G, 4) and (P, 4), as x1, y1, x2, y2."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    found: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def suspect_boxes(
    boxes: np.ndarray,
    labels: Sequence[str],
    found: np.ndarray,
    found_labels: Sequence[str],
    scores: np.ndarray,
) -> Iterator[BoxSuspect]:
    """Suspects among the given boxes (G, 4) of an image, by predicted ones (P, 4) with scores (P,).

    Each given box is matched with the predicted ones that it overlaps more than any other given box
    does. "label": the best of them, weighted by score, has another label. "box": one of the same
    label is elsewhere; its score is that of the surest prediction, minus the largest product of
    score and intersection over union, and at least SHIFTED. "no object": none is there. "missing
    box": a sure prediction overlaps no given box.
    """
    if not len(boxes) and not len(found):
        return
    iou = overlaps(boxes.reshape(-1, 4).astype(float), found.reshape(-1, 4).astype(float))
    nearest = iou.argmax(axis=0) if len(boxes) else np.full(len(found), -1)
    for number, label in enumerate(labels):
        mine = [p for p in range(len(found)) if iou[number, p] >= NEAR and nearest[p] == number]
        agreeing = [p for p in mine if found_labels[p] == label]
        support = max((float(scores[p] * iou[number, p]) for p in agreeing), default=0.0)
        others = [p for p in mine if found_labels[p] != label and iou[number, p] >= SAME]
        against = max(others, key=lambda p: scores[p] * iou[number, p], default=None)
        if against is not None and scores[against] * iou[number, against] > support:
            score = float(scores[against] * iou[number, against]) - support
            yield BoxSuspect("label", score, number, against)
        elif agreeing:
            best = max(agreeing, key=lambda p: scores[p])
            score = float(scores[best]) - support
            if score >= SHIFTED:
                yield BoxSuspect("box", score, number, best)
        else:
            yield BoxSuspect("no object", float(1 - iou[number].max(initial=0)) / 2, number, None)
    for p in range(len(found)):
        if scores[p] >= SURE and iou[:, p].max(initial=0) < NEAR:
            yield BoxSuspect("missing box", float(scores[p]), None, p)
