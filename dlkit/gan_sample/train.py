"""The training loop of `dlkit gan-sample train`: a generator against a discriminator."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig, ResolvedConfig, by_arch
from dlkit.gan_sample.data import from_uint8, identity_collate
from dlkit.gan_sample.diffaugment import augment, parse_policy
from dlkit.gan_sample.fid import fid_evaluator, save_samples
from dlkit.gan_sample.loss import discriminator_loss, generator_loss, gradient_penalty
from dlkit.gan_sample.model import (
    Autoencoder,
    CycleGan,
    GanModel,
    VariationalAutoencoder,
    build,
    find_architecture,
)
from dlkit.gan_sample.prepare import build_optimizer, prepare
from dlkit.gan_sample.steps import GanStats, freeze, random_flip, stop_if_diverged
from dlkit.gan_sample.train_autoencoder import train_autoencoder
from dlkit.gan_sample.train_cyclegan import train_cyclegan


def train(config: GanTrainConfig) -> Path:
    """Train a model, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        resolved = by_arch(config)
        loop = LOOPS[find_architecture(resolved.arch).network]
        return loop(resolved, process)


def train_gan(config: ResolvedConfig, process: Process) -> Path:
    """Train a GAN: `d_steps` discriminator steps per generator step (Goodfellow et al. 2014)."""
    policy = parse_policy(config.augment)
    config, pictures, settings = prepare(config)
    model: GanModel = build(config.arch, **settings)
    assert model.discriminator is not None
    generator = process.wrap(model.generator)
    discriminator = process.wrap(model.discriminator)
    run = Run(config, process, model, Header("gan-sample", config.arch, settings, pictures.names))
    save_ledgers(run.folder, pictures.ledger)
    generator_optimizer = build_optimizer(run, model.generator)
    discriminator_optimizer = build_optimizer(run, model.discriminator)
    batches = run.loader(pictures, identity_collate, workers=0)
    if len(batches) < config.d_steps:
        raise DlkitError(
            f"--d-steps {config.d_steps}: more than the {len(batches)} steps of an epoch; lower it"
        )
    evaluator = fid_evaluator(config, pictures, pictures.names, process)

    for epoch in run.epochs(BestMetric(config.best_metric, lower=True, losses_compare=False)):
        stats = run.track(GanStats())
        for step, (pixels, labels) in enumerate(run.batches(batches), run.done + 1):
            real = random_flip(from_uint8(pixels), config.flip)
            classes = labels if model.classes else None
            z = torch.randn(len(real), model.latent, device=process.device)
            trains_generator = step % config.d_steps == 0
            with torch.set_grad_enabled(trains_generator), run.autocast():
                fake = generator(z, classes)

            with run.autocast():
                on_real = discriminator(augment(real, policy), classes).float()
                on_fake = model.discriminator(augment(fake.detach(), policy), classes).float()
            loss = discriminator_loss(config.loss, on_real, on_fake)
            stats.add(loss, on_real, on_fake)
            if config.gradient_penalty:
                penalty = gradient_penalty(model.discriminator, real, fake.detach())
                loss = loss + config.gradient_penalty * penalty
            run.step(loss, discriminator_optimizer)
            if config.clip_weights is not None:
                clip_weights(model.discriminator, config.clip_weights)

            if trains_generator:
                with freeze(model.discriminator):
                    with run.autocast():
                        on_fake = model.discriminator(augment(fake, policy), classes).float()
                    loss = generator_loss(config.loss, on_fake)
                    run.step(loss, generator_optimizer)
                stats.generator.append(loss.detach())

        stop_if_diverged(run)
        trained = cast(GanModel, run.eval_model)
        scores = evaluator.scores(trained)
        if process.is_main:
            save_samples(trained, config, run.folder, epoch)
        run.finish_epoch(**stats.means(), **scores)
    return run.best


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Clip all weights to -limit..limit (Arjovsky et al. 2017, algorithm 1)."""
    for weight in critic.parameters():
        weight.clamp_(-limit, limit)


# The training loop of each class of networks.
LOOPS: dict[type[nn.Module], Callable[[ResolvedConfig, Process], Path]] = {
    GanModel: train_gan,
    Autoencoder: train_autoencoder,
    VariationalAutoencoder: train_autoencoder,
    CycleGan: train_cyclegan,
}
