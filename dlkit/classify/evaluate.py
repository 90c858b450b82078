"""Scores of classifiers on labeled images, and pictures of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dlkit.classify.data import Pictures, targets_of
from dlkit.classify.infer import (
    Classifier,
    TextClassifier,
    averaged,
    check_votes,
    is_for_texts,
    load,
    predict,
    text_ensemble,
    text_probabilities,
)
from dlkit.classify.layouts import Sample, read_split
from dlkit.classify.metrics import (
    DEFINITIONS,
    ClassificationMetrics,
    retrieval,
    several_labels,
    single_label,
)
from dlkit.classify.text import Texts, read_texts
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import plots
from dlkit.core.io.scores import Score, rounded
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.vision import images

BATCH = 256
MISTAKES = 24  # on the contact sheet


def evaluate(classifier: Classifier, pictures: Pictures, process: Process) -> ClassificationMetrics:
    """The scores of a classifier in training on decoded images, the same in every process."""
    classifier.network.eval()
    shared = list(process.share(range(len(pictures))))
    own = [
        row for pixels, _ in pictures.batches(BATCH, shared) for row in classifier.outputs(pixels)
    ]
    outputs = torch.stack(list(process.gather(own)))
    if classifier.descriptor:
        return retrieval(outputs, pictures.targets)
    score = several_labels if classifier.multi_label else single_label
    return score(classifier.probabilities(outputs), pictures.targets, classifier.labels)


def evaluate_checkpoint(
    data: Path,
    split: str,
    models: str | Sequence[str],
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score]:
    """The scores of a model, or of several that vote, on one split; pictures go to `save`."""
    names = [models] if isinstance(models, str) else list(models)
    if is_for_texts(names[0]):
        metrics = of_texts(names, data, split, save, device, precision)
    else:
        metrics = of_images(names, data, split, save, workers, device, precision)
    for name, value in metrics.summary.items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    for label, values in metrics.per_label.items():
        for name, value in values.items():
            yield Score(name, label, rounded(value), DEFINITIONS[name])


def of_images(
    names: list[str],
    data: Path,
    split: str,
    save: Path | None,
    workers: int,
    device: str,
    precision: str,
) -> ClassificationMetrics:
    classifiers = [load(name, device, precision) for name in names]
    first = classifiers[0]
    labeled = read_split(data, split, first.labels, *first.dealt)
    labeled.skipped.report()
    if not labeled.samples:
        raise DlkitError(f"{data}: no image of {split!r} has a label that {names[0]} knows")
    there = {label for sample in labeled.samples for label in sample.labels}
    if len(there) < len(first.labels):
        absent = len(first.labels) - len(there)
        log(f"{absent} of the model's {len(first.labels)} labels are not in {data}")
    if first.descriptor and len(names) == 1:
        return of_descriptors(first, labeled.samples, workers, device)
    check_votes(names, classifiers)
    samples, probabilities = of_probabilities(classifiers, labeled.samples, workers, device)
    targets = targets_of(samples, len(first.labels), first.multi_label)
    score = several_labels if first.multi_label else single_label
    metrics = score(probabilities, targets, first.labels)
    if save is not None and is_main_process():
        save_pictures(metrics, probabilities, samples, targets, first.labels, save)
    return metrics


def of_texts(
    names: list[str], data: Path, split: str, save: Path | None, device: str, precision: str
) -> ClassificationMetrics:
    classifiers = text_ensemble(names, device, precision)
    labels = classifiers[0].labels
    _, samples, skipped = read_texts(data, split, labels, *classifiers[0].dealt)
    if not samples:
        raise DlkitError(f"{data}: no text of {split!r} has a label that {names[0]} knows")
    with distributed.launch(device) as process:
        own = list(process.share(text for text, _ in track(samples, "evaluating")))
        rows = []
        for start in range(0, len(own), BATCH):
            rows += [*text_probabilities(classifiers, own[start : start + BATCH])]
        probabilities = torch.stack(list(process.gather(rows)))
    targets = torch.tensor([label for _, label in samples])
    metrics = single_label(probabilities, targets, labels)
    if save is not None and is_main_process() and metrics.confusion is not None:
        plots.heat_map(metrics.confusion, labels, labels, "counts", save / "confusion.png")
        log(f"saved {save / 'confusion.png'}")
    return metrics


def evaluate_texts(
    classifier: TextClassifier, texts: Texts, process: Process
) -> ClassificationMetrics:
    """The scores of a text classifier in training, the same in every process."""
    classifier.network.eval()
    shared = list(process.share(range(len(texts))))
    own = [row for ids, _ in texts.batches(BATCH, shared) for row in classifier.outputs(ids)]
    outputs = torch.stack(list(process.gather(own)))
    return single_label(outputs.softmax(dim=1), texts.targets, classifier.labels)


def of_descriptors(
    classifier: Classifier, samples: Sequence[Sample], workers: int, device: str
) -> ClassificationMetrics:
    with distributed.launch(device) as process:
        paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
        found = process.gather(predict(classifier, paths, workers=workers))
        pairs = list(without_failures(samples, found))
    targets = targets_of([sample for sample, _ in pairs], len(classifier.labels), multi_label=False)
    return retrieval(torch.stack([row for _, row in pairs]), targets)


def of_probabilities(
    classifiers: Sequence[Classifier], samples: Sequence[Sample], workers: int, device: str
) -> tuple[list[Sample], Tensor]:
    """The images that can be read, and their probabilities (N, L)."""
    with distributed.launch(device) as process:
        paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
        found = process.gather(averaged(paths, classifiers, BATCH, workers))
        pairs = list(without_failures(samples, found))
    return [sample for sample, _ in pairs], torch.stack([row for _, row in pairs])


def without_failures(
    samples: Sequence[Sample], found: Iterator[tuple[str, Tensor | Failure]]
) -> Iterator[tuple[Sample, Tensor]]:
    none = True
    for sample, (path, row) in zip(samples, found, strict=True):
        if isinstance(row, Failure):
            log(f"left out {path}: {row.error}")
        else:
            none = False
            yield sample, row
    if none:
        raise DlkitError("none of the images to evaluate on can be read")


def save_pictures(
    metrics: ClassificationMetrics,
    probabilities: Tensor,
    samples: Sequence[Sample],
    targets: Tensor,
    labels: list[str],
    folder: Path,
) -> None:
    """confusion.png, and mistakes.png: the wrong answers given with the most confidence."""
    if metrics.confusion is None:
        log("no pictures of the scores where images may have several labels")
        return
    plots.heat_map(metrics.confusion, labels, labels, "counts", folder / "confusion.png")
    confidence, predicted = probabilities.max(dim=1)
    wrong = (predicted != targets).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True)][:MISTAKES].tolist()
    pictures = [images.as_pillow(images.read(str(samples[index].path), 160)) for index in worst]
    captions = [
        f"{labels[predicted[i]]} {confidence[i]:.2f}\ntruth: {labels[targets[i]]}" for i in worst
    ]
    log(f"saved {folder / 'confusion.png'}")
    if worst:
        images.save(images.grid(pictures, 6, 164, captions), folder / "mistakes.png")
        log(f"saved {folder / 'mistakes.png'}")
