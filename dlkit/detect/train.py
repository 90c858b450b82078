"""The training loop of `dlkit detect train`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from dlkit.core.config import refuse_unused
from dlkit.core.errors import DlkitError
from dlkit.core.parallel import distributed
from dlkit.core.train.run import Run
from dlkit.detect import svm, torchvision_zoo, train_keypoints
from dlkit.detect.config import OWN, PROPOSING, PUBLISHED, DetectTrainConfig
from dlkit.detect.data import Pictures, collate, proposals_of, rescaled
from dlkit.detect.evaluate import evaluate, save_examples
from dlkit.detect.infer import load
from dlkit.detect.init_from import in_training, started
from dlkit.detect.layouts import read_split, save_skipped
from dlkit.detect.loss import LOSSES
from dlkit.detect.models.rcnn import RCNN
from dlkit.detect.models.yolo import Yolo


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
            torchvision_zoo.fetch(config.init_from)
        teacher = None if config.teacher is None else teacher_of(config, names, process.device)
        model, header = started(config, names)
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        run = Run(config, process, model, header)
        optimizer = run.optimizer(model)
        save_skipped(training.skipped, run.folder)
        proposals = None
        if config.arch in PROPOSING:
            proposals = proposals_of(training.samples, run.folder / "proposals.npz", process)
        pictures = Pictures(training.samples, config, proposals)
        batches = run.loader(pictures, collate)
        detector = in_training(run, config)

        losses_of = LOSSES[config.arch]
        if config.arch == "localize":
            losses_of = partial(losses_of, alpha=config.alpha)

        for epoch in run.epochs():
            # The last epochs see whole images, as inference does.
            if epoch >= config.epochs - config.close_mosaic or config.arch == "localize":
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
