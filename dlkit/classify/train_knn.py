"""Training of k nearest neighbors: the model stores the training images."""

from pathlib import Path
from typing import Any

import torch

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.data import ImageClassifierSettings, image_classifier_settings
from dlkit.classify.evaluate import evaluate, validation_scores
from dlkit.classify.infer import Classifier, load_network
from dlkit.classify.model import build
from dlkit.classify.prepare import prepare_images
from dlkit.core.config import settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run_folder import command_card


def train_knn(config: ClassifyTrainConfig, process: Process) -> Path:
    """Save a k-nearest-neighbors model of the training images; return its path."""
    data = prepare_images(config)
    config, names, inputs = data.config, data.labels, data.inputs
    if data.loss != "cross-entropy":
        raise DlkitError(
            f"--loss {data.loss}: knn has no loss; remove --loss, and use one label per image"
        )
    best = config.out / "best.safetensors"
    if best.exists():
        raise DlkitError(f"--out {config.out}: holds a run already; give another folder")
    settings: dict[str, Any] = {
        "num_labels": len(names),
        "image_size": inputs.image_size,
        "channels": inputs.channels,
        "neighbors": config.neighbors,
    }
    weights = {}
    if config.features_from:
        header, source_network = load_network(config.features_from)
        settings["described_by"] = {
            "arch": header.arch,
            **image_classifier_settings(header)["network"],
        }
        weights = source_network.get_submodule("features").state_dict(prefix="features.0.")
    empty = build("knn", **settings)
    empty.load_state_dict(weights, strict=False)
    describe = empty.features.eval().to(process.device)
    with torch.inference_mode():
        descriptors = torch.cat(
            [
                describe(inputs.normalize(pixels.to(process.device))).cpu()
                for pixels, _ in data.training.batches(256, range(len(data.training)))
            ]
        )
    settings |= {"stored": len(descriptors), "size": descriptors.shape[1]}
    model = build("knn", **settings)
    stored = {"head.descriptors": descriptors, "head.labels": data.training.targets}
    model.load_state_dict({**weights, **stored})
    model.to(process.device)
    classifier = Classifier(model, names, inputs, process.device)
    scores = {}
    if len(data.validation):
        scores = validation_scores(evaluate(classifier, data.validation, process))
    described: ImageClassifierSettings = {
        "network": settings,
        "preprocessing": inputs.to_settings(),
        "loss": data.loss,
    }
    if process.is_main:
        header = Header("classify", "knn", described, names, settings_of(config), scores)
        header.card.update(command_card())
        checkpoint.save(best, model.state_dict(), header)
        save_ledgers(config.out, data.training.ledger, data.validation.ledger)
        found = f"top1 {scores['top1']:.4f}" if scores else "no validation data"
        log(f"{len(descriptors)} images stored  {found}")
    process.barrier()
    return best
