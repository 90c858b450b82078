"""Preparation of every training: data, settings that depend on it, and optimizers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from torch import nn
from torch.optim import Optimizer

from dlkit.core.train.run import Run
from dlkit.gan_sample.config import ResolvedConfig
from dlkit.gan_sample.data import Shape, SquareImages, choose_shape, list_pictures
from dlkit.gan_sample.model import GanSettings, find_architecture

MIN_STEPS = 100  # of an epoch without --steps-per-epoch


def prepare(config: ResolvedConfig) -> tuple[ResolvedConfig, SquareImages, GanSettings]:
    """Complete settings, decoded pictures, and the keyword arguments of `build`."""
    architecture = find_architecture(config.arch)
    listed = list_pictures(config.data, "train", classes=architecture.conditional)
    shape = choose_shape(listed.paths, config.image_size, config.color)
    pictures = SquareImages(listed, shape)
    pictures.report(config.data, config.allowed)
    config = fill_in_size(config, shape.image_size, shape.channels)
    settings = given_settings(config, shape, architecture.options)
    if architecture.conditional:
        settings["classes"] = len(listed.names)
    return config, set_epoch_length(pictures, config), settings


def given_settings(config: ResolvedConfig, shape: Shape, options: Sequence[str]) -> GanSettings:
    """The shape, and those of the options that have a value."""
    settings: GanSettings = {"image_size": shape.image_size, "channels": shape.channels}
    chosen = {name: getattr(config, name, None) for name in options}
    given = {name: value for name, value in chosen.items() if value is not None}
    return cast(GanSettings, {**settings, **given})


def fill_in_size(config: ResolvedConfig, image_size: int, channels: int) -> ResolvedConfig:
    """The settings with this image size and, unless given, a flip probability by channels."""
    flip = config.flip
    if flip is None:
        flip = 0.5 if channels == 3 else 0.0
    return replace(config, image_size=image_size, flip=flip)


def set_epoch_length(pictures: SquareImages, config: ResolvedConfig) -> SquareImages:
    """Set the number of samples of an epoch."""
    steps = config.steps_per_epoch or max(len(pictures.pixels) // config.batch_size, MIN_STEPS)
    pictures.length = steps * config.batch_size
    return pictures


def build_optimizer(run: Run, module: nn.Module) -> Optimizer:
    """The run's optimizer, with `--beta1` if it is Adam."""
    optimizer = run.optimizer(module)
    for group in optimizer.param_groups:
        if "betas" in group:
            # The papers that set beta1 to 0 set beta2 to 0.9.
            group["betas"] = (run.config.beta1, 0.999 if run.config.beta1 else 0.9)  # type: ignore[attr-defined]
    return optimizer
