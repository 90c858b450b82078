"""The training loop of `dlkit detect train`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dlkit.classify import backbones
from dlkit.core import distributed
from dlkit.core.checkpoint import Header
from dlkit.core.config import refuse_unused
from dlkit.core.errors import DlkitError
from dlkit.core.training import Run
from dlkit.detect import published, svm, train_keypoints
from dlkit.detect.config import (
    DEFAULT_BACKBONE,
    DEFAULT_BACKBONES,
    OWN,
    PROPOSING,
    PUBLISHED,
    TORCHVISION_BACKBONES,
    DetectTrainConfig,
)
from dlkit.detect.data import Pictures, collate, proposals_of, rescaled
from dlkit.detect.evaluate import evaluate, save_examples
from dlkit.detect.infer import Detector, load
from dlkit.detect.layouts import read_split, save_skipped
from dlkit.detect.loss import LOSSES
from dlkit.detect.model import build
from dlkit.detect.models.rcnn import RCNN
from dlkit.detect.models.yolo import STRIDES, Yolo


def train(config: DetectTrainConfig) -> Path:
    """Train a detector, and return the path of its best checkpoint."""
    refuse_unused(config, OWN)
    if config.keypoints:
        return train_keypoints.train(config)
    with distributed.launch(config.device, config.seed) as process:
        training = read_split(config.data, "train")
        validation = read_split(config.data, "val", training.labels)
        names = training.labels

        if config.init_from in PUBLISHED:
            published.fetch(config.init_from)
        teacher = None if config.teacher is None else teacher_of(config, names, process.device)
        settings, trained = network_settings(config, len(names))
        model = build(config.arch, **settings)
        if trained is not None:
            given = trained.state_dict()  # the network may lack the last stages
            model.backbone.load_state_dict({k: given[k] for k in model.backbone.state_dict()})
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        run = Run(config, process, model, Header("detect", config.arch, settings, names))
        optimizer = run.optimizer(model)
        save_skipped(training.skipped, run.folder)
        proposals = None
        if config.arch in PROPOSING:
            proposals = proposals_of(training.samples, run.folder / "proposals.npz", process)
        pictures = Pictures(training.samples, config, proposals)
        batches = run.loader(pictures, collate)
        detector = Detector(
            run.evaluated, names, config.image_size, process.device, config.precision
        )

        losses_of = LOSSES[config.arch]
        if config.arch == "localize":
            losses_of = partial(losses_of, alpha=config.alpha)

        for epoch in run.epochs():
            # The last epochs see whole images, as inference does.
            if epoch >= config.epochs - config.plain_epochs or config.arch == "localize":
                pictures.mosaic = pictures.copy_paste = 0.0
            for images, boxes, labels, *more in run.batches(batches):
                if config.multi_scale > 1:
                    images, boxes, *more = rescaled(config.multi_scale, images, boxes, *more)
                if teacher is not None:
                    with torch.no_grad():
                        more = [teacher(images)]
                with run.autocast():
                    losses = losses_of(network, images, boxes, labels, *more)
                run.step(torch.stack(list(losses.values())).sum(), optimizer)
            detector.network.eval()
            if isinstance(detector.network, RCNN):
                with run.autocast():
                    svm.fit(detector.network, plain_pictures(pictures))
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
        if config.image_size % STRIDES[-1]:
            raise DlkitError(f"--image-size {config.image_size}: yolo needs a multiple of 32")
        settings["size"] = config.size
    if config.arch in {"ssd", "yolo-v1", "localize"}:
        settings["image_size"] = config.image_size
    name = config.backbone or DEFAULT_BACKBONES.get(config.arch, DEFAULT_BACKBONE)
    if name is None or name in TORCHVISION_BACKBONES.get(config.arch, ()):
        if config.from_scratch:
            raise DlkitError("--from-scratch needs a --backbone of dlkit classify")
        if name is not None:
            settings["backbone"] = name
        return settings, None
    trained, settings["backbone"] = backbones.load(name)
    return settings, None if config.from_scratch else trained


def teacher_of(config: DetectTrainConfig, names: list[str], device: torch.device) -> Yolo:
    """The network of `--teacher`, which has to fill the same grids."""
    detector = load(str(config.teacher), str(device), config.precision)
    if not isinstance(detector.network, Yolo) or detector.labels != names:
        raise DlkitError(
            f"--teacher {config.teacher}: not a yolo for {', '.join(names)}, in this order"
        )
    return detector.network


def plain_pictures(pictures: Pictures) -> Iterator[svm.Example]:
    """Whole training images from all over the data, at most svm.FITTED_ON."""
    for index in range(0, len(pictures), -(-len(pictures) // svm.FITTED_ON)):
        example = pictures.plain(index)
        if example is not None:
            yield example
