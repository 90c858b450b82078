"""Training of linear models of n-grams, alone or for a vote with a network: one fit."""

from pathlib import Path
from typing import Any

import torch

from dlkit.classify import ngrams, text
from dlkit.classify.config import DEFAULTS, ClassifyTrainConfig
from dlkit.classify.evaluate import evaluate_texts, validation_scores
from dlkit.classify.infer import TextClassifier
from dlkit.classify.models.ngrams import NgramModel
from dlkit.classify.prepare import TextSetup, prepare_texts
from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run

VOTING_NGRAMS = 2  # longest n-gram of a model that votes


def fit(
    config: ClassifyTrainConfig, arch: str, settings: dict[str, Any], data: TextSetup
) -> tuple[NgramModel, dict[str, Any]]:
    """Fit a model of n-grams to the training texts; return it, and its keyword arguments."""
    cost = DEFAULTS[arch]["cost"] if config.cost is None else config.cost
    return ngrams.fit(arch, settings, data.training, data.further, cost, config.interpolation)


def train_ngrams(config: ClassifyTrainConfig, process: Process) -> Path:
    """Fit a model of n-grams and save it, as the run of one epoch."""
    data = prepare_texts(config)
    arguments = {"num_labels": len(data.labels), **text.network_settings(config, data.vocabulary)}
    model, settings = fit(config, config.arch, arguments, data)
    described: text.TextClassifierSettings = {
        "network": settings,
        "vocabulary": data.vocabulary.to_settings(),
        "max_length": config.max_length,
        "loss": "cross-entropy",
    }
    model.to(process.device)
    run = Run(config, process, model, Header("classify", config.arch, described, data.labels))
    save_ledgers(run.folder, *data.ledgers)
    classifier = TextClassifier(
        model, data.labels, data.vocabulary, config.max_length, process.device, "fp32"
    )
    for _ in run.epochs(BestMetric("top1") if len(data.validation) else None):
        fitted = evaluate_texts(classifier, data.training, process).summary
        run.losses.append(torch.tensor(fitted["loss"]))
        scores = {}
        if len(data.validation):
            scores = validation_scores(evaluate_texts(classifier, data.validation, process))
        run.finish_epoch(**scores)
    return run.best
