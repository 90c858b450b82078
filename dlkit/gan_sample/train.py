"""The training loop of `dlkit gan-sample train`: a generator against a discriminator."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig, by_arch
from dlkit.gan_sample.data import as_it_is, from_bytes
from dlkit.gan_sample.diffaugment import augmented, policy
from dlkit.gan_sample.fid import judge_of, save_samples
from dlkit.gan_sample.loss import discriminator_loss, generator_loss, gradient_penalty
from dlkit.gan_sample.model import build
from dlkit.gan_sample.prepare import optimizer_of, prepared
from dlkit.gan_sample.steps import GanStats, flipped, frozen, stop_if_diverged
from dlkit.gan_sample.train_autoencoder import train_autoencoder
from dlkit.gan_sample.train_cyclegan import train_cyclegan


def train(config: GanTrainConfig) -> Path:
    """Train a model, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        config = by_arch(config)
        if config.arch == "cyclegan":
            return train_cyclegan(config, process)
        if config.arch in {"autoencoder", "vae"}:
            return train_autoencoder(config, process)
        return train_gan(config, process)


def train_gan(config: GanTrainConfig, process: Process) -> Path:
    """Goodfellow et al. 2014, algorithm 1: `d_steps` of the discriminator, one of the generator."""
    changes = policy(config.augment)
    config, pictures, settings = prepared(config)
    model: Any = build(config.arch, **settings)
    generator = process.wrap(model.generator)
    discriminator = process.wrap(model.discriminator)
    run = Run(config, process, model, Header("gan-sample", config.arch, settings, pictures.names))
    of_generator = optimizer_of(run, model.generator)
    of_discriminator = optimizer_of(run, model.discriminator)
    batches = run.loader(pictures, as_it_is, workers=0)
    if len(batches) < config.d_steps:
        raise DlkitError(f"{len(batches)} steps an epoch, but --d-steps {config.d_steps}: too few")
    judge = judge_of(config, pictures, pictures.names, process)

    for epoch in run.epochs():
        balance = run.track(GanStats())
        for step, (pixels, labels) in enumerate(run.batches(batches), run.done + 1):
            real = flipped(from_bytes(pixels), config.flip)
            classes = labels if model.classes else None
            z = torch.randn(len(real), model.latent, device=process.device)
            last = step % config.d_steps == 0  # before the generator's turn
            with torch.set_grad_enabled(last), run.autocast():
                fake = generator(z, classes)

            with run.autocast():
                on_real = discriminator(augmented(real, changes), classes).float()
                on_fake = model.discriminator(augmented(fake.detach(), changes), classes).float()
            loss = discriminator_loss(config.loss, on_real, on_fake)
            balance.add(loss, on_real, on_fake)
            if config.gradient_penalty:
                penalty = gradient_penalty(model.discriminator, real, fake.detach())
                loss = loss + config.gradient_penalty * penalty
            run.step(loss, of_discriminator)
            if config.clip_weights is not None:
                clip_weights(model.discriminator, config.clip_weights)

            if last:
                with frozen(model.discriminator):
                    with run.autocast():
                        on_fake = model.discriminator(augmented(fake, changes), classes).float()
                    loss = generator_loss(config.loss, on_fake)
                    run.step(loss, of_generator)
                balance.generator.append(loss.detach())

        stop_if_diverged(run)
        scores = judge.scores(run.eval_model)
        if process.is_main:
            save_samples(run.eval_model, config, run.folder, epoch)
        run.finish_epoch(-scores[config.score], **balance.means(), **scores)
    return run.best


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """All weights between -limit and limit (Arjovsky et al. 2017, algorithm 1)."""
    for weight in critic.parameters():
        weight.clamp_(-limit, limit)
