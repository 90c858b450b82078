"""What a model in training makes after each epoch: scores, and pictures from the same noise.

Shapes: N pictures, C channels, S x S pixels, D numbers of a descriptor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.parallel.distributed import Process
from dlkit.core.vision import images
from dlkit.gan_sample import features, latents
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import Pictures
from dlkit.gan_sample.features import FeatureNetwork
from dlkit.gan_sample.generate import cycled, decoded
from dlkit.gan_sample.metrics import distances

SHOWN = 64  # pictures in a grid of samples
SCORES = ("fid", "kid", "precision", "recall", "diversity")


@dataclass(frozen=True)
class FidEvaluator:
    """Compares what a model makes with real pictures, in the features of a classifier."""

    network: FeatureNetwork
    real: np.ndarray  # (N, D)
    names: list[str]  # of the model's classes
    config: GanTrainConfig
    process: Process

    def scores(self, model: Any) -> dict[str, float]:
        """Of `--eval-samples` pictures from noise of their own, the same after each epoch."""
        count = self.config.eval_samples
        shared = range(self.process.rank, count, self.process.world_size)
        z = latents.draw(self.config.seed + 1, shared, model.latent)
        asked = cycled(shared, model.classes)
        pixels = torch.cat(list(decoded(model.eval(), z, asked, self.config.precision)))
        found, said = self.described(pixels)
        scores = self.compared(found)
        if asked is not None and self.names == self.network.labels:
            right = list(self.process.gather((said == asked).tolist()))
            scores["class_accuracy"] = sum(right) / len(right)
        return scores

    def described(self, pixels: Tensor) -> tuple[np.ndarray, Tensor]:
        """Descriptors of all processes' pictures, and the labels of this one's."""
        found, said = self.network.describe(pixels)
        return np.stack(list(self.process.gather(found.numpy()))), said

    def compared(self, found: np.ndarray) -> dict[str, float]:
        """How far descriptors (N, D) are from those of the real pictures."""
        scores = distances(self.real, found)
        return {name: scores[name] for name in SCORES}


def judge_of(
    config: GanTrainConfig, pictures: Pictures, names: list[str], process: Process
) -> FidEvaluator:
    """With descriptors of `--eval-samples` of the pictures, or all."""
    shape = pictures.shape
    place = str(process.device)
    network = features.load(config.features, shape.image_size, shape.channels, place)
    draw = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(pictures.pixels), generator=draw)[: config.eval_samples]
    real, _ = network.describe(pictures.pixels[chosen])
    return FidEvaluator(network, real.numpy(), names, config, process)


def save_samples(model: Any, config: GanTrainConfig, folder: Path, epoch: int) -> None:
    """samples/epoch-0001.png: pictures from noise that is the same after each epoch."""
    numbers = range(SHOWN)
    z = latents.draw(config.seed, numbers, model.latent)
    labels = cycled(numbers, model.classes)
    pixels = torch.cat(list(decoded(model.eval(), z, labels, config.precision)))
    # With classes, a column for each, as many as fit.
    columns = model.classes if model.classes and model.classes <= SHOWN // 4 else 0
    save_grid(pixels, sample_path(folder, epoch), columns)


def sample_path(folder: Path, epoch: int) -> Path:
    return folder / "samples" / f"epoch-{epoch + 1:04}.png"


def save_grid(pixels: Tensor | Sequence[Tensor], path: Path, columns: int = 0) -> None:
    """uint8 pictures (N, C, S, S) in their own size, by default in a square."""
    cells = [images.as_pillow(images.Picture(p.expand(3, -1, -1), 0, 0)) for p in pixels]
    columns = columns or math.isqrt(len(cells) - 1) + 1
    images.save(images.grid(cells, columns, pixels[0].shape[-1] + 4), path)
