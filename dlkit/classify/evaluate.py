"""Evaluation of classifiers on labeled data."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dlkit.classify.config import TestViews, is_text_model
from dlkit.classify.data import ImageDataset, make_targets
from dlkit.classify.infer import (
    Classifier,
    TextClassifier,
    check_same_labels,
    load,
    load_text_ensemble,
    predict,
    predict_mean,
    text_probabilities,
)
from dlkit.classify.layouts import ImageSample, read_split
from dlkit.classify.metrics import (
    DEFINITIONS,
    ClassificationMetrics,
    score_multi_label,
    score_retrieval,
    score_single_label,
)
from dlkit.classify.text import TextDataset, read_texts
from dlkit.core.config import ALLOW_SKIPPED_ROWS, allowed_share
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import plots
from dlkit.core.io.files import check_free_in, draw_beside
from dlkit.core.io.scores import Score, rounded
from dlkit.core.ledger import Ledger
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.vision import images

BATCH = 256
CONFUSION, MISTAKES = "confusion.png", "mistakes.png"  # files of --save
MIRRORED = " Outputs are the mean of those of the image and its mirror image."
MAX_MISTAKES = 24  # on the contact sheet


def evaluate(
    classifier: Classifier, pictures: ImageDataset, process: Process
) -> ClassificationMetrics:
    """Score a classifier in training on a data set; every process gets the same scores."""
    classifier.network.eval()
    shared = list(process.share(range(len(pictures))))
    batches = track(pictures.batches(BATCH, shared), "evaluating", -(-len(shared) // BATCH))
    own = [row for pixels, _ in batches for row in classifier.outputs(pixels)]
    outputs = torch.stack(list(process.gather(own)))
    if classifier.descriptor:
        return score_retrieval(outputs, pictures.targets)
    score = score_multi_label if classifier.multi_label else score_single_label
    return score(classifier.probabilities(outputs), pictures.targets, classifier.labels)


def validation_scores(metrics: ClassificationMetrics) -> dict[str, float]:
    """The scores as a training logs them: `val_loss` is the loss, which is not that of a step."""
    names = {"loss": "val_loss"}
    return {names.get(name, name): value for name, value in metrics.summary.items()}


def evaluate_checkpoint(
    data: Sequence[str],
    split: str,
    model: str | Sequence[str],
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    *,
    allow_skipped: float | None = None,
    test_views: TestViews = "one",
) -> Iterator[Score | Failure]:
    """Yield the scores of a model, or of an ensemble, on one split; save plots to `save`.

    A plot that cannot be drawn or written is a Failure after the scores.
    Raises DlkitError where more than the share `allow_skipped` cannot be used.
    """
    names = [model] if isinstance(model, str) else list(model)
    if len(data) != 1:
        raise DlkitError(f"{len(data)} folders of data; give one")
    folder = Path(data[0])
    check_free_in(save, CONFUSION, MISTAKES)
    views = MIRRORED if test_views == "mirror" else ""
    if is_text_model(names[0]):
        if views:
            raise DlkitError(f"--test-views mirror: {names[0]} classifies texts; remove it")
        allowed = allowed_share(allow_skipped, default=ALLOW_SKIPPED_ROWS)
        metrics, drawn = score_texts(names, folder, split, save, device, precision, allowed)
    else:
        allowed = allowed_share(allow_skipped)
        metrics, drawn = score_images(
            names, folder, split, save, workers, device, precision, allowed, test_views
        )
    for name, value in metrics.summary.items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name] + views)
    for label, values in metrics.per_label.items():
        for name, value in values.items():
            yield Score(name, label, rounded(value), DEFINITIONS[name] + views)
    yield from drawn


def score_images(
    names: list[str],
    data: Path,
    split: str,
    save: Path | None,
    workers: int,
    device: str,
    precision: str,
    allowed: float,
    test_views: TestViews,
) -> tuple[ClassificationMetrics, Iterator[Failure]]:
    """Score image classifiers on the images of a split; the iterator draws the plots."""
    classifiers = [replace(load(name, device, precision), test_views=test_views) for name in names]
    first = classifiers[0]
    labeled = read_split(data, split, first.labels, first.draw, first.multi_label)
    ledger = labeled.ledger
    ledger.use("images", len(labeled.samples))
    ledger.report()
    ledger.require("images", data)
    ledger.check(allowed, data)
    present = {label for sample in labeled.samples for label in sample.labels}
    if len(present) < len(first.labels):
        absent = len(first.labels) - len(present)
        log(f"{absent} of the model's {len(first.labels)} labels are not in {data}")
    if first.descriptor and test_views != "one":
        raise DlkitError(f"--test-views {test_views}: {names[0]} predicts descriptors; remove it")
    if first.descriptor and len(names) == 1:
        return score_descriptors(first, labeled.samples, ledger, workers, device), iter(())
    check_same_labels(names, classifiers)
    samples, probabilities = predict_probabilities(
        classifiers, labeled.samples, ledger, workers, device
    )
    ledger.check(allowed, data)
    targets = make_targets(samples, len(first.labels), first.multi_label)
    score = score_multi_label if first.multi_label else score_single_label
    metrics = score(probabilities, targets, first.labels)
    if save is None or not is_main_process():
        return metrics, iter(())
    return metrics, save_plots(metrics, probabilities, samples, targets, first.labels, save)


def score_texts(
    names: list[str],
    data: Path,
    split: str,
    save: Path | None,
    device: str,
    precision: str,
    allowed: float,
) -> tuple[ClassificationMetrics, Iterator[Failure]]:
    """Score text classifiers on the texts of a split; the iterator draws the plot."""
    classifiers = load_text_ensemble(names, device, precision)
    labels, draw = classifiers[0].labels, classifiers[0].draw
    _, samples = read_texts(data, allowed).split(split, labels, draw.share, draw.seed)
    with distributed.launch(device) as process:
        own = list(process.share(text for text, _ in track(samples, "evaluating")))
        rows = []
        for start in range(0, len(own), BATCH):
            rows += [*text_probabilities(classifiers, own[start : start + BATCH])]
        probabilities = torch.stack(list(process.gather(rows)))
    targets = torch.tensor([label for _, label in samples])
    metrics = score_single_label(probabilities, targets, labels)
    if save is None or not is_main_process() or metrics.confusion is None:
        return metrics, iter(())
    path = save / CONFUSION
    drawn = draw_beside(path, plots.heat_map, metrics.confusion, labels, labels, "counts", path)
    return metrics, drawn


def evaluate_texts(
    classifier: TextClassifier, texts: TextDataset, process: Process
) -> ClassificationMetrics:
    """Score a text classifier in training; every process gets the same scores."""
    classifier.network.eval()
    shared = list(process.share(range(len(texts))))
    batches = track(texts.batches(BATCH, shared), "evaluating", -(-len(shared) // BATCH))
    own = [row for ids, _ in batches for row in classifier.outputs(ids)]
    outputs = torch.stack(list(process.gather(own)))
    return score_single_label(outputs.softmax(dim=1), texts.targets, classifier.labels)


def score_descriptors(
    classifier: Classifier,
    samples: Sequence[ImageSample],
    ledger: Ledger,
    workers: int,
    device: str,
) -> ClassificationMetrics:
    """Score a descriptor network by retrieval: do near images share a label?"""
    with distributed.launch(device) as process:
        paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
        found = process.gather(predict(classifier, paths, workers=workers))
        pairs = list(drop_failures(samples, found, ledger))
    targets = make_targets(
        [sample for sample, _ in pairs], len(classifier.labels), multi_label=False
    )
    return score_retrieval(torch.stack([row for _, row in pairs]), targets)


def predict_probabilities(
    classifiers: Sequence[Classifier],
    samples: Sequence[ImageSample],
    ledger: Ledger,
    workers: int,
    device: str,
) -> tuple[list[ImageSample], Tensor]:
    """Return the readable images and their probabilities (N, L)."""
    with distributed.launch(device) as process:
        paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
        found = process.gather(predict_mean(paths, classifiers, BATCH, workers))
        pairs = list(drop_failures(samples, found, ledger))
    return [sample for sample, _ in pairs], torch.stack([row for _, row in pairs])


def drop_failures(
    samples: Sequence[ImageSample], found: Iterator[tuple[str, Tensor | Failure]], ledger: Ledger
) -> Iterator[tuple[ImageSample, Tensor]]:
    """Yield the samples with results; skip and report those that failed."""
    for sample, (path, row) in zip(samples, found, strict=True):
        if isinstance(row, Failure):
            ledger.drop("images", "unreadable image", f"{path} ({row.error})")
        else:
            yield sample, row
    if ledger.used["images"] < len(samples):
        ledger.report()
    if not ledger.used["images"]:
        raise DlkitError("none of the images to evaluate on is readable")


def save_plots(
    metrics: ClassificationMetrics,
    probabilities: Tensor,
    samples: Sequence[ImageSample],
    targets: Tensor,
    labels: list[str],
    folder: Path,
) -> Iterator[Failure]:
    """Save confusion.png, and mistakes.png with the most confident wrong predictions."""
    if metrics.confusion is None:
        log("no plots of the scores for multi-label models")
        return
    path = folder / CONFUSION
    yield from draw_beside(path, plots.heat_map, metrics.confusion, labels, labels, "counts", path)
    confidence, predicted = probabilities.max(dim=1)
    wrong = (predicted != targets).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True)][:MAX_MISTAKES].tolist()
    paths = [str(samples[index].path) for index in worst]
    captions = [
        f"{labels[predicted[i]]} {confidence[i]:.2f}\ntruth: {labels[targets[i]]}" for i in worst
    ]
    if worst:
        path = folder / MISTAKES
        yield from draw_beside(path, save_grid, paths, captions, path)


def save_grid(paths: Sequence[str], captions: Sequence[str], path: Path) -> None:
    """Save a grid of images with captions."""
    pictures = [images.as_pillow(images.read(own, 160)) for own in paths]
    images.save(images.grid(pictures, 6, 164, captions), path)
