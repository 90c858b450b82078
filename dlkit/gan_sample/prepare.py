"""What all trainings start from: pictures, what the settings leave to them, and optimizers."""

from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import Pictures, list_pictures, shape_of
from dlkit.gan_sample.model import options

LEAST_STEPS = 100  # of an epoch, where nothing else is asked for


def prepared(config: GanTrainConfig) -> tuple[GanTrainConfig, Pictures, dict[str, Any]]:
    """Settings with nothing left open, decoded pictures, and the keyword arguments of `build`."""
    listed = list_pictures(config.data, "train", classes=config.arch == "cgan")
    shape = shape_of(listed.paths, config.image_size, config.color)
    pictures = Pictures(listed, shape)
    pictures.report()
    config = with_size(config, shape.image_size, shape.channels)
    settings = {"image_size": shape.image_size, "channels": shape.channels}
    chosen = {name: getattr(config, name, None) for name in options(config.arch)}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    if config.arch == "cgan":
        settings["classes"] = len(listed.names)
    return config, with_length(pictures, config), settings


def with_size(config: GanTrainConfig, image_size: int, channels: int) -> GanTrainConfig:
    flip = config.flip
    if flip is None:
        flip = 0.5 if channels == 3 else 0.0
    return replace(config, image_size=image_size, flip=flip)


def with_length(pictures: Pictures, config: GanTrainConfig) -> Pictures:
    """The pictures, as many times over as an epoch's steps need."""
    steps = config.steps_per_epoch or max(len(pictures.pixels) // config.batch_size, LEAST_STEPS)
    pictures.length = steps * config.batch_size
    return pictures


def optimizer_of(run: Run, module: nn.Module) -> Optimizer:
    """The run's optimizer, with `--beta1` where it has one."""
    optimizer = run.optimizer(module)
    for group in optimizer.param_groups:
        if "betas" in group:
            # Where the mean of gradients is short, so is that of their squares in the papers.
            group["betas"] = (run.config.beta1, 0.999 if run.config.beta1 else 0.9)  # type: ignore[attr-defined]
    return optimizer
