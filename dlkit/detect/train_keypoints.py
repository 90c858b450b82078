"""The training loop of `dlkit detect train --arch localize --keypoints K`."""

from pathlib import Path

import torch

from dlkit.core.config import non_defaults, option_name
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.init_from import initial_network, training_detector
from dlkit.detect.keypoint_data import KeypointDataset, read_keypoints
from dlkit.detect.keypoints import evaluate, save_examples
from dlkit.detect.losses.localize import keypoint_losses

# Options of localize that keypoints do not use: a mirrored left eye would be a right one, and
# their CSV files name the splits.
UNUSED = {"alpha", "flip", "flip_vertical", "val_share", "group_by"}
BEST_METRIC = BestMetric("distance", lower=True)


def train(config: DetectTrainConfig) -> Path:
    """Train a network that finds keypoints, and return the path of its best checkpoint."""
    for name in non_defaults(config):
        if name in UNUSED:
            raise DlkitError(f"{option_name(name)} is for boxes, not for --keypoints")
    with distributed.launch(config.device, config.seed) as process:
        allowed = config.allowed
        training, ledger = read_keypoints(config.data, "train", config.keypoints, allowed)
        validation, of_val = read_keypoints(config.data, "val", config.keypoints, allowed)

        names = [str(number) for number in range(1, config.keypoints + 1)]
        model, header = initial_network(config, names, "keypoints")
        network = process.wrap(model)  # gradients are averaged over processes
        run = Run(config, process, model, header)
        optimizer = run.optimizer(model)
        pictures = KeypointDataset(training, config, ledger)
        save_ledgers(run.folder, ledger, of_val)
        ledger.check(allowed, config.data)
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
                draw_in_training(path, save_examples, detector, validation, path)
    return run.best
