"""The training loop of `dlkit detect train`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dlkit.core.config import refuse_unused
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.progress import log
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.detect import model, svm, torchvision_zoo, train_keypoints
from dlkit.detect.config import PUBLISHED, DetectTrainConfig
from dlkit.detect.data import DetectionDataset, collate, load_proposals, resize_batch
from dlkit.detect.evaluate import evaluate, save_examples
from dlkit.detect.infer import load
from dlkit.detect.init_from import initial_network, training_detector
from dlkit.detect.layouts import read_training
from dlkit.detect.metrics import best_thresholds

BEST_METRIC = BestMetric("ap50_coco101")


def train(config: DetectTrainConfig) -> Path:
    """Train a detector, and return the path of its best checkpoint."""
    architecture = model.find(config.arch)
    refuse_unused(config, model.options_by_architecture())
    if config.keypoints or config.arch == "keypoints":
        return train_keypoints.train(config)
    with distributed.launch(config.device, config.seed) as process:
        training, validation = read_training(config)
        names = training.labels

        if config.init_from in PUBLISHED:
            torchvision_zoo.fetch(config.init_from)
        teacher = None if config.teacher is None else load_teacher(config, names, process.device)
        detector_model, header = initial_network(config, names, config.arch)
        network = process.wrap(detector_model)  # gradients are averaged over processes
        run = Run(config, process, detector_model, header)
        optimizer = run.optimizer(detector_model)
        proposals = None
        if architecture.proposals:
            proposals = load_proposals(training.samples, run.folder / "proposals.npz", process)
        pictures = DetectionDataset(training.samples, config, proposals, training.ledger)
        save_ledgers(run.folder, training.ledger, validation.ledger)
        training.ledger.check(config.allowed, config.data)
        batches = run.loader(pictures, collate)
        detector = training_detector(run, config)
        loss_settings = {name: getattr(config, name) for name in architecture.loss_settings}
        losses_of = partial(architecture.losses, **loss_settings)

        best: BestMetric | None = BEST_METRIC
        if not any(len(sample.boxes) for sample in validation.samples):
            log("val: no box of a label of train, so that no score can be computed")
            best = None
        for epoch in run.epochs(best):
            # The last epochs see whole images, as inference does.
            if epoch >= config.epochs - config.close_mosaic or "mosaic" not in architecture.options:
                pictures.mosaic = pictures.copy_paste = 0.0
            for images, boxes, labels, *more in run.batches(batches):
                if config.multi_scale > 1:
                    images, boxes, *more = resize_batch(config.multi_scale, images, boxes, *more)
                if teacher is not None:
                    with torch.no_grad():
                        more = [teacher(images)]
                with run.autocast():
                    losses = losses_of(network, images, boxes, labels, *more)
                run.step(torch.stack(list(losses.values())).sum(), optimizer)
            run.eval_model.eval()
            if architecture.fit is not None:
                with run.autocast():
                    architecture.fit(run.eval_model, whole_images(pictures))
            metrics = evaluate(detector, validation.samples, process).metrics
            thresholds = best_thresholds(metrics.curves)
            run.header = replace(run.header, thresholds=thresholds)
            parts = {f"loss_{name}": loss.item() for name, loss in losses.items()}
            better = run.finish_epoch(**parts, **metrics.summary)
            if better and process.is_main:
                path = run.folder / "examples.png"
                shown = replace(detector, thresholds=thresholds)
                draw_in_training(path, save_examples, shown, validation.samples, path)
    return run.best


def load_teacher(config: DetectTrainConfig, names: list[str], device: torch.device) -> nn.Module:
    """The network of `--teacher`, whose outputs must have the same shapes as the student's."""
    detector = load(str(config.teacher), str(device), config.precision)
    network = detector.network
    if not isinstance(network, model.find(config.arch).build) or detector.labels != names:
        raise DlkitError(
            f"--teacher {config.teacher}: not a {config.arch} with the labels {', '.join(names)},"
            " in this order"
        )
    return network


def whole_images(pictures: DetectionDataset) -> Iterator[svm.Example]:
    """Training images without augmentation, spread over the data set, at most svm.FITTED_ON."""
    for index in range(0, len(pictures), -(-len(pictures) // svm.FITTED_ON)):
        example = pictures.whole_image(index)
        if example is not None:
            yield example
