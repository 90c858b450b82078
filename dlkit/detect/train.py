"""The training loop of `dlkit detect train`."""

from pathlib import Path
from typing import Any

import torch

from dlkit.classify import backbones
from dlkit.core import distributed
from dlkit.core.checkpoint import Header
from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.training import Run
from dlkit.detect import published
from dlkit.detect.config import PUBLISHED, DetectTrainConfig
from dlkit.detect.data import Pictures, collate, rescaled
from dlkit.detect.evaluate import evaluate, save_examples
from dlkit.detect.infer import Detector
from dlkit.detect.layouts import read_split
from dlkit.detect.loss import LOSSES
from dlkit.detect.model import build
from dlkit.detect.models.fasterrcnn import RCNN_BACKBONES


def train(config: DetectTrainConfig) -> Path:
    """Train a detector, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        training = read_split(config.data, "train")
        validation = read_split(config.data, "val", training.labels)
        names = training.labels

        if config.init_from in PUBLISHED:
            published.fetch(config.init_from)
        settings, trained = network_settings(config, len(names))
        model = build(config.arch, **settings)
        if trained is not None:
            model.backbone.load_state_dict(trained.state_dict())
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        run = Run(config, process, model, Header("detect", config.arch, settings, names))
        optimizer = run.optimizer(model)
        if process.is_main and training.skipped.places:
            with whole_file(run.folder / "skipped.txt") as partial:
                partial.write_text("\n".join(training.skipped.lines()) + "\n")
        pictures = Pictures(training.samples, config)
        batches = run.loader(pictures, collate)
        detector = Detector(
            run.evaluated, names, config.image_size, process.device, config.precision
        )

        for epoch in run.epochs():
            # The last epochs see whole images, as inference does.
            if epoch >= config.epochs - config.plain_epochs:
                pictures.mosaic = pictures.copy_paste = 0.0
            for images, boxes, labels in run.batches(batches):
                if config.multi_scale > 1:
                    images, boxes = rescaled(images, boxes, config.multi_scale)
                with run.autocast():
                    losses = LOSSES[config.arch](network, images, boxes, labels)
                run.step(torch.stack(list(losses.values())).sum(), optimizer)
            detector.network.eval()
            scores = evaluate(detector, validation.samples, process).metrics.summary
            parts = {f"loss_{name}": loss.item() for name, loss in losses.items()}
            better = run.finish_epoch(scores["ap50_coco101"], **parts, **scores)
            if better and process.is_main:
                save_examples(detector, validation.samples, run.folder / "examples.png")
    return run.best


def network_settings(
    config: DetectTrainConfig, num_labels: int
) -> tuple[dict[str, Any], backbones.Backbone | None]:
    """How to build the network, and the trained backbone to start from."""
    settings: dict[str, Any] = {"num_labels": num_labels}
    if config.arch == "yolo":
        settings["size"] = config.size
    else:
        settings["backbone"] = config.backbone or "mobilenet"
        if settings["backbone"] not in RCNN_BACKBONES:
            raise DlkitError(
                f"--backbone {config.backbone}: fasterrcnn has {' and '.join(RCNN_BACKBONES)}"
            )
    borrowed = config.arch == "yolo" and config.backbone is not None
    if config.from_scratch and not borrowed:
        raise DlkitError("--from-scratch needs --arch yolo and a --backbone")
    if not borrowed:
        return settings, None
    trained, settings["backbone"] = backbones.load(str(config.backbone))
    return settings, None if config.from_scratch else trained
