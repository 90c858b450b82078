"""The training loop of `dlkit detect train --arch keypoints`."""

from pathlib import Path

import torch

from dlkit.core.config import non_defaults, option_name
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.progress import log
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.init_from import initial_network, training_detector
from dlkit.detect.keypoint_data import KeypointDataset, keypoint_labels, read_training
from dlkit.detect.keypoints import evaluate, save_examples
from dlkit.detect.losses.localize import keypoint_losses

UNUSED = {"alpha", "flip_vertical"}  # options of localize that keypoints do not use
NOT_MIRRORED = (
    "the data do not determine which keypoint each is in a mirrored image (flip_idx in data.yaml,"
    " or names with left and right)"
)
BEST_METRIC = BestMetric("distance", lower=True)


def train(config: DetectTrainConfig) -> Path:
    """Train a network that finds keypoints, and return the path of its best checkpoint."""
    for name in non_defaults(config):
        if name in UNUSED:
            raise DlkitError(f"{option_name(name)} is for boxes, not for keypoints")
    with distributed.launch(config.device, config.seed) as process:
        training, validation = read_training(config)
        pose, ledger = training.pose, training.ledger
        if pose.mirrored is None and config.flip:
            if "flip" in non_defaults(config):
                raise DlkitError(f"--flip {config.flip:g}: {NOT_MIRRORED}")
            log(f"images are not mirrored: {NOT_MIRRORED}")

        names = keypoint_labels(pose)
        model, header = initial_network(config, names, "keypoints", pose.skeleton)
        network = process.wrap(model)  # gradients are averaged over processes
        run = Run(config, process, model, header)
        optimizer = run.optimizer(model)
        pictures = KeypointDataset(training.samples, config, pose.mirrored, ledger)
        save_ledgers(run.folder, ledger, validation.ledger)
        ledger.check(config.allowed, config.data)
        batches = run.loader(pictures)
        detector = training_detector(run, config)

        for _ in run.epochs(BEST_METRIC):
            for images, points in run.batches(batches):
                with run.autocast():
                    losses = keypoint_losses(network, images, points)
                run.step(torch.stack(list(losses.values())).sum(), optimizer)
            run.eval_model.eval()
            scores = evaluate(detector, validation, process).scores()
            better = run.finish_epoch(**scores)
            if better and process.is_main:
                path = run.folder / "examples.png"
                draw_in_training(path, save_examples, detector, validation.samples, path)
    return run.best
