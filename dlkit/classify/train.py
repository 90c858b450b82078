"""The training loops of `dlkit classify train`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.nn import functional as F

from dlkit.classify import text
from dlkit.classify.augment import alternate_flips, augment, mix
from dlkit.classify.config import DEFAULTS, NGRAMS, ClassifyTrainConfig
from dlkit.classify.data import ImageClassifierSettings
from dlkit.classify.evaluate import evaluate, evaluate_texts, validation_scores
from dlkit.classify.infer import Classifier, TextClassifier
from dlkit.classify.loss import (
    absolute_weights,
    adaline_loss,
    classification_loss,
    perceptron_loss,
    triplet_loss,
)
from dlkit.classify.model import build
from dlkit.classify.models.airbench import whiten
from dlkit.classify.models.ngrams import Vote
from dlkit.classify.models.text import TEXT_ARCHITECTURES, TextNetwork
from dlkit.classify.prepare import (
    check_frozen,
    check_options,
    freeze,
    network_settings,
    prepare_images,
    prepare_texts,
)
from dlkit.classify.templates import save_templates
from dlkit.classify.train_knn import train_knn
from dlkit.classify.train_ngrams import VOTING_NGRAMS, fit, train_ngrams
from dlkit.core.config import with_defaults
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run

LEARNING_RULES = {"perceptron": perceptron_loss, "adaline": adaline_loss}
BEST_METRIC = {
    "cross-entropy": BestMetric("top1"),
    "bce": BestMetric("map"),
    "triplet": BestMetric("recall_at_1"),
}  # that selects best.safetensors, by loss


def train(config: ClassifyTrainConfig) -> Path:
    """Train a classifier; return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        check_options(config)
        config = with_defaults(config, DEFAULTS[config.arch])
        if config.arch in TEXT_ARCHITECTURES:
            return train_texts(config, process)
        if config.arch in NGRAMS:
            return train_ngrams(replace(config, epochs=1), process)
        return (train_knn if config.arch == "knn" else train_images)(config, process)


def train_images(config: ClassifyTrainConfig, process: Process) -> Path:
    """Train an image classifier by gradient descent."""
    data = prepare_images(config)
    config, names, loss, inputs = data.config, data.labels, data.loss, data.inputs
    settings = network_settings(config, len(names), inputs, data.encoder)
    model = build(config.arch, **settings)
    if config.arch == "airbench":
        whiten(model, inputs.normalize(data.training.sample()))
    frozen = freeze(model, config.freeze)
    network = process.wrap(model)  # the same weights, with gradients averaged over processes
    described: ImageClassifierSettings = {
        "network": settings,
        "preprocessing": inputs.to_settings(),
        "loss": loss,
    }
    header = Header("classify", config.arch, described, names)
    renamed = data.encoder.rename if data.encoder else str
    run = Run(config, process, model, header, renamed)
    check_frozen(run, frozen, config)
    optimizer = run.optimizer(model)
    in_memory = data.training.kept is not None
    batches = run.loader(data.training, collate=collate_as_is, workers=0 if in_memory else None)
    criterion = make_criterion(config, loss, data.training.targets.to(process.device), len(names))
    classifier = Classifier(
        run.eval_model,
        names,
        inputs,
        process.device,
        multi_label=loss == "bce",
        descriptor=loss == "triplet",
        autocast=config.precision,
    )
    save_ledgers(run.folder, data.training.ledger, data.validation.ledger)

    for epoch in run.epochs(BEST_METRIC[loss] if len(data.validation) else None):
        if config.alternate_flip:
            data.training.mirrored = alternate_flips(len(data.training), config.seed, epoch)
        for images, targets in run.batches(batches):
            for module in frozen:
                module.eval()
            images = augment(images, config)
            if config.mixup or config.cutmix:
                images, targets = mix(images, one_hot(targets, len(names)), config)
            with run.autocast():
                output = network(inputs.normalize(images))
            cost = criterion(output, targets)
            if config.l1:
                cost = cost + config.l1 * absolute_weights(model)
            run.step(cost, optimizer)
        scores = {}
        if len(data.validation):
            scores = validation_scores(evaluate(classifier, data.validation, process))
        run.finish_epoch(**scores)
    if config.arch in {"linear", "perceptron", "adaline"} and process.is_main:
        path = run.folder / "templates.png"
        draw_in_training(path, save_templates, model, inputs, names, path)
    return run.best


def train_texts(config: ClassifyTrainConfig, process: Process) -> Path:
    """Train a text classifier."""
    data = prepare_texts(config)
    names, vocabulary = data.labels, data.vocabulary
    settings = {"num_labels": len(names), **text.network_settings(config, vocabulary)}
    model = TEXT_ARCHITECTURES[config.arch](**settings)
    rename: Callable[[str], str] = str
    if config.vote != "none":
        arguments = {"num_labels": len(names), "vocab_size": len(vocabulary)}
        arguments["ngrams"] = VOTING_NGRAMS
        voter, fitted = fit(config, config.vote, arguments, data)
        model = Vote(model, voter)
        settings["vote"] = {"arch": config.vote, **fitted}
        rename = "network.{}".format
    network = process.wrap(model)
    described: text.TextClassifierSettings = {
        "network": settings,
        "vocabulary": vocabulary.to_settings(),
        "max_length": config.max_length,
        "loss": "cross-entropy",
    }
    header = Header("classify", config.arch, described, names)
    run = Run(config, process, model, header, rename)
    save_ledgers(run.folder, *data.ledgers)
    optimizer = run.optimizer(model)
    batches = run.loader(data.training, collate=collate_as_is, workers=0)
    criterion = make_criterion(
        config, "cross-entropy", data.training.targets.to(process.device), len(names)
    )
    classifier = TextClassifier(
        cast(TextNetwork, run.eval_model),
        names,
        vocabulary,
        config.max_length,
        process.device,
        config.precision,
    )

    for _ in run.epochs(BestMetric("top1") if len(data.validation) else None):
        for ids, targets in run.batches(batches):
            with run.autocast():
                output = network(ids)
            cost = criterion(output, targets)
            if config.l1:
                cost = cost + config.l1 * absolute_weights(model)
            run.step(cost, optimizer)
        scores = {}
        if len(data.validation):
            scores = validation_scores(evaluate_texts(classifier, data.validation, process))
        run.finish_epoch(**scores)
    return run.best


def make_criterion(
    config: ClassifyTrainConfig, loss: str, targets: Tensor, num_labels: int
) -> Callable[[Any, Tensor], Tensor]:
    """Return the loss function of a batch: of the network's output and the targets."""
    if config.arch in LEARNING_RULES:
        return LEARNING_RULES[config.arch]
    if loss == "triplet":
        return lambda output, goal: triplet_loss(output.float(), goal, config.margin)
    weights = balanced_weights(targets, num_labels) if config.class_weights else None

    def criterion(output: Any, goal: Tensor) -> Tensor:
        def logits_loss(logits: Tensor) -> Tensor:
            if loss == "bce":
                smooth = goal * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
                return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
            return F.cross_entropy(logits, goal, weights, label_smoothing=config.label_smoothing)

        return classification_loss(output, logits_loss)

    return criterion


def balanced_weights(targets: Tensor, num_labels: int) -> Tensor:
    """Return weights (L,) inverse to the frequency of each label.

    For multi-label targets (N, L), the weight of the samples with a label against those without.
    """
    if targets.dim() == 2:
        counts = targets.sum(dim=0)
        return (len(targets) - counts) / counts.clamp(min=1)
    counts = targets.bincount(minlength=num_labels)
    return len(targets) / (num_labels * counts.clamp(min=1))


def one_hot(targets: Tensor, num_labels: int) -> Tensor:
    """Return targets as probabilities of the labels (B, L)."""
    return targets if targets.dim() == 2 else F.one_hot(targets, num_labels).float()


def collate_as_is(batch: list[Tensor]) -> list[Tensor]:
    """Return a batch that the data set has collated already."""
    return batch
