"""Evaluation after each epoch of training: FID and other scores, and sample pictures.

Shapes: N pictures, C channels, S x S pixels, D numbers of a descriptor.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import track
from dlkit.gan_sample import features, latents
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import SquareImages
from dlkit.gan_sample.features import FeatureExtractor
from dlkit.gan_sample.generate import BATCH, cycle_classes, generate
from dlkit.gan_sample.grid import save_grid
from dlkit.gan_sample.metrics import distances
from dlkit.gan_sample.model import LatentModel

GRID_COUNT = 64  # pictures in a grid of samples
SCORES = ("fid", "kid", "precision", "recall", "diversity")


@dataclass(frozen=True)
class FidEvaluator:
    """Scores a model in training against real pictures, in the features of a classifier."""

    network: FeatureExtractor
    real: np.ndarray  # (N, D)
    names: list[str]  # of the model's classes
    config: GanTrainConfig
    process: Process

    def scores(self, model: LatentModel) -> dict[str, float]:
        """Scores of `--eval-samples` pictures, from the same noise after each epoch."""
        count = self.config.eval_samples
        shared = range(self.process.rank, count, self.process.world_size)
        z = latents.draw(self.config.seed + 1, shared, model.latent)
        requested = cycle_classes(shared, model.classes)
        drawn = generate(model.eval(), z, requested, self.config.precision)
        pixels = torch.cat(list(track(drawn, "evaluating", -(-len(shared) // BATCH))))
        descriptors, predicted = self.describe_all(pixels)
        scores = self.compare(descriptors)
        if requested is not None and self.names == self.network.labels:
            correct = list(self.process.gather((predicted == requested).tolist()))
            scores["class_accuracy"] = sum(correct) / len(correct)
        return scores

    def describe_all(self, pixels: Tensor) -> tuple[np.ndarray, Tensor]:
        """Descriptors (N, D) of all processes' pictures, and predicted labels of this one's."""
        descriptors, predicted = self.network.describe(pixels)
        return np.stack(list(self.process.gather(descriptors.numpy()))), predicted

    def compare(self, descriptors: np.ndarray) -> dict[str, float]:
        """Distances of descriptors (N, D) from those of the real pictures."""
        scores = distances(self.real, descriptors)
        return {name: scores[name] for name in SCORES}


def fid_evaluator(
    config: GanTrainConfig, pictures: SquareImages, names: list[str], process: Process
) -> FidEvaluator:
    """An evaluator with the descriptors of at most `--eval-samples` of the pictures."""
    shape = pictures.shape
    device = str(process.device)
    network = features.load(config.features, shape.image_size, shape.channels, device)
    draw = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(pictures.pixels), generator=draw)[: config.eval_samples]
    real, _ = network.describe(pictures.pixels[chosen])
    return FidEvaluator(network, real.numpy(), names, config, process)


def save_samples(model: LatentModel, config: GanTrainConfig, folder: Path, epoch: int) -> None:
    """Write samples/epoch-0001.png: pictures from the same noise after each epoch."""
    numbers = range(GRID_COUNT)
    z = latents.draw(config.seed, numbers, model.latent)
    labels = cycle_classes(numbers, model.classes)
    pixels = torch.cat(list(generate(model.eval(), z, labels, config.precision)))
    # One column per class if they fit.
    columns = model.classes if model.classes and model.classes <= GRID_COUNT // 4 else 0
    save_grid(list(pixels), sample_path(folder, epoch), columns)


def sample_path(folder: Path, epoch: int) -> Path:
    return folder / "samples" / f"epoch-{epoch + 1:04}.png"
