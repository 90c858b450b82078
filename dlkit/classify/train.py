"""The training loops of `dlkit classify train`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dlkit.classify import text
from dlkit.classify.augment import augmented, mixed
from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.evaluate import evaluate, evaluate_texts
from dlkit.classify.infer import Classifier, TextClassifier
from dlkit.classify.loss import (
    absolute_weights,
    adaline_loss,
    classification_loss,
    perceptron_loss,
    triplet_loss,
)
from dlkit.classify.model import build
from dlkit.classify.models.text import TEXT_ARCHITECTURES
from dlkit.classify.prepare import (
    freeze,
    name_skipped,
    network_settings,
    prepared,
    prepared_texts,
    refuse_unused,
    with_recipe,
)
from dlkit.classify.templates import save_templates
from dlkit.classify.train_knn import memorize
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run

RULES = {"perceptron": perceptron_loss, "adaline": adaline_loss}
SCORES = {"cross-entropy": "top1", "bce": "map", "triplet": "recall_at_1"}  # what `best` goes by


def train(config: ClassifyTrainConfig) -> Path:
    """Train a classifier, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        refuse_unused(config)
        config = with_recipe(config)
        if config.arch in TEXT_ARCHITECTURES:
            return train_texts(config, process)
        return (memorize if config.arch == "knn" else train_images)(config, process)


def train_images(config: ClassifyTrainConfig, process: Process) -> Path:
    data = prepared(config)
    config, names, loss, inputs = data.config, data.labels, data.loss, data.inputs
    settings = network_settings(config, len(names), inputs, data.encoder)
    model = build(config.arch, **settings)
    frozen = freeze(model, config.freeze)
    network = process.wrap(model)  # the same weights, with gradients averaged over processes
    described = {"network": settings, "preprocessing": asdict(inputs), "loss": loss}
    header = Header("classify", config.arch, described, names)
    renamed = data.encoder.renamed if data.encoder else str
    run = Run(config, process, model, header, renamed)
    optimizer = run.optimizer(model)
    in_memory = data.training.kept is not None
    batches = run.loader(data.training, collate=as_it_is, workers=0 if in_memory else None)
    criterion = criterion_of(config, loss, data.training.targets.to(process.device), len(names))
    classifier = Classifier(
        run.eval_model,
        names,
        inputs,
        process.device,
        multi_label=loss == "bce",
        descriptor=loss == "triplet",
        autocast=config.precision,
    )
    name_skipped(run.folder, data, process)

    for epoch in run.epochs():
        for images, targets in run.batches(batches):
            for module in frozen:
                module.eval()
            images = augmented(images, config)
            if config.mixup or config.cutmix:
                images, targets = mixed(images, as_shares(targets, len(names)), config)
            with run.autocast():
                output = network(inputs.normalize(images))
            cost = criterion(output, targets)
            if config.l1:
                cost = cost + config.l1 * absolute_weights(model)
            run.step(cost, optimizer)
        scores = {}
        if len(data.validation):
            scores = evaluate(classifier, data.validation, process).summary
        # With nothing to validate on, the last epoch is the best.
        run.finish_epoch(scores.get(SCORES[loss], float(epoch)), **scores)
    if config.arch in {"linear", "perceptron", "adaline"} and process.is_main:
        save_templates(model, inputs, names, run.folder / "templates.png")
    return run.best


def train_texts(config: ClassifyTrainConfig, process: Process) -> Path:
    data = prepared_texts(config)
    names, vocabulary = data.labels, data.vocabulary
    settings = {"num_labels": len(names), **text.network_settings(config, vocabulary)}
    model = TEXT_ARCHITECTURES[config.arch](**settings)
    network = process.wrap(model)
    described = {
        "network": settings,
        "vocabulary": vocabulary.to_settings(),
        "max_length": config.max_length,
        "loss": "cross-entropy",
    }
    run = Run(config, process, model, Header("classify", config.arch, described, names))
    optimizer = run.optimizer(model)
    batches = run.loader(data.training, collate=as_it_is, workers=0)
    criterion = criterion_of(
        config, "cross-entropy", data.training.targets.to(process.device), len(names)
    )
    classifier = TextClassifier(
        run.eval_model, names, vocabulary, config.max_length, process.device, config.precision
    )

    for epoch in run.epochs():
        for ids, targets in run.batches(batches):
            with run.autocast():
                output = network(ids)
            cost = criterion(output, targets)
            if config.l1:
                cost = cost + config.l1 * absolute_weights(model)
            run.step(cost, optimizer)
        scores = {}
        if len(data.validation):
            scores = evaluate_texts(classifier, data.validation, process).summary
        run.finish_epoch(scores.get("top1", float(epoch)), **scores)
    return run.best


def criterion_of(
    config: ClassifyTrainConfig, loss: str, targets: Tensor, num_labels: int
) -> Callable[[Any, Tensor], Tensor]:
    """The loss of a batch, from the network's output and the targets."""
    if config.arch in RULES:
        return RULES[config.arch]
    if loss == "triplet":
        return lambda output, goal: triplet_loss(output.float(), goal, config.margin)
    weights = balanced(targets, num_labels) if config.class_weights else None

    def criterion(output: Any, goal: Tensor) -> Tensor:
        def of_logits(logits: Tensor) -> Tensor:
            if loss == "bce":
                smooth = goal * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
                return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
            return F.cross_entropy(logits, goal, weights, label_smoothing=config.label_smoothing)

        return classification_loss(output, of_logits)

    return criterion


def balanced(targets: Tensor, num_labels: int) -> Tensor:
    """Weights (L,) by which all labels count the same.

    For targets (N, L), the weight of a label's samples against those without it.
    """
    if targets.dim() == 2:
        there = targets.sum(dim=0)
        return (len(targets) - there) / there.clamp(min=1)
    counts = targets.bincount(minlength=num_labels)
    return len(targets) / (num_labels * counts.clamp(min=1))


def as_shares(targets: Tensor, num_labels: int) -> Tensor:
    """Targets as shares of the labels (B, L)."""
    return targets if targets.dim() == 2 else F.one_hot(targets, num_labels).float()


def as_it_is(batch: list[Tensor]) -> list[Tensor]:
    """A batch that the data set has put together already."""
    return batch
