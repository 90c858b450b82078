"""The training loop of autoencoders.

Shapes: B images, C channels, S x S pixels, Z numbers of a code.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import Pictures, as_it_is, from_bytes, to_bytes
from dlkit.gan_sample.fid import judge_of, sample_path, save_grid, save_samples
from dlkit.gan_sample.loss import kl_divergence, reconstruction_loss, sparsity_loss
from dlkit.gan_sample.model import VariationalAutoencoder, build
from dlkit.gan_sample.prepare import optimizer_of, prepared, with_length
from dlkit.gan_sample.steps import flipped, stop_if_diverged

BATCH = 256  # of validation
FITTED = 10_000  # codes to which a Gaussian is fitted
SHOWN = 32  # pictures beside their reconstructions


def train_autoencoder(config: GanTrainConfig, process: Process) -> Path:
    """Train an autoencoder, and return the path of its best checkpoint."""
    config, pictures, settings = prepared(config)
    held_out, training = pictures.divided(config.val_share, config.seed)
    with_length(training, config)
    if config.sparsity:
        settings["sparse"] = True
    model: Any = build(config.arch, **settings)
    network = process.wrap(model)
    run = Run(config, process, model, Header("gan-sample", config.arch, settings, []))
    optimizer = optimizer_of(run, model)
    batches = run.loader(training, as_it_is, workers=0)
    variational = isinstance(model, VariationalAutoencoder)
    judge = judge_of(config, training, [], process) if variational else None

    for epoch in run.epochs():
        for pixels, _ in run.batches(batches):
            images = flipped(from_bytes(pixels), config.flip)
            with run.autocast():
                halves, *codes = network(corrupt(images, config.noise, config.masking))
            parts = terms(images, halves.float(), codes, config)
            run.step(torch.stack([*parts.values()]).sum(), optimizer)

        stop_if_diverged(run)
        made: Any = run.eval_model.eval()
        scores = validation(run, held_out, config, process)
        if judge is None:
            made.fit(torch.cat(list(codes_of(made, training.pixels[:FITTED], run))))
            score = -scores["val_loss"] if scores else float(epoch)
        else:
            scores |= judge.scores(made)
            score = -scores[config.score]
        if process.is_main:
            save_samples(made, config, run.folder, epoch)
            shown = held_out if len(held_out) else training
            save_reconstructions(made, shown, config, run, epoch)
        run.finish_epoch(score, **scores)
    return run.best


def corrupt(images: Tensor, noise: float, masking: float) -> Tensor:
    """What a denoising autoencoder is given: images with Gaussian noise, and pixels made gray."""
    if noise:
        images = images + noise * torch.randn_like(images)
    if masking:
        images = images * (torch.rand_like(images[:, :1]) >= masking)
    return images


def terms(
    images: Tensor, halves: Tensor, codes: list[Tensor], config: GanTrainConfig
) -> dict[str, Tensor]:
    """The parts of the loss, means over the batch, from what the network made of the images."""
    apart = reconstruction_loss(config.reconstruction, images, halves)
    parts = {"reconstruction": apart.mean()}
    if config.arch == "vae":
        mean, log_variance = (code.float() for code in codes)
        parts["kl"] = config.beta * kl_divergence(mean, log_variance).mean()
    elif config.sparsity:
        parts["sparsity"] = config.sparsity * sparsity_loss(codes[0].float(), config.activity)
    return parts


@torch.no_grad()
def validation(
    run: Run, held_out: Pictures, config: GanTrainConfig, process: Process
) -> dict[str, float]:
    """The loss on pictures held out, and its parts; nothing where there are none."""
    torch.manual_seed(config.seed)  # the same draws from the codes after each epoch
    found: list[dict[str, float]] = []
    for start in process.share(range(0, len(held_out), BATCH)):
        images = from_bytes(held_out.pixels[start : start + BATCH].to(process.device))
        with run.autocast():
            halves, *codes = run.eval_model(images)
        parts = terms(images, halves.float(), codes, config)
        found.append({k: len(images) * float(v) for k, v in parts.items()})
    gathered = list(process.gather(found))
    if not gathered:
        return {}
    means = {f"val_{k}": sum(f[k] for f in gathered) / len(held_out) for k in gathered[0]}
    return {"val_loss": sum(means.values()), **means}


@torch.no_grad()
def codes_of(model: Any, pixels: Tensor, run: Run) -> Iterator[Tensor]:
    """Codes (B, Z) of uint8 pictures, in batches."""
    for part in pixels.split(BATCH):
        with run.autocast():
            yield model.encode(from_bytes(part.to(run.process.device))).float()


@torch.no_grad()
def save_reconstructions(
    model: Any, pictures: Pictures, config: GanTrainConfig, run: Run, epoch: int
) -> None:
    """samples/epoch-0001-reconstructions.png: pictures, each with its reconstruction below."""
    columns = min(8, len(pictures.pixels))
    pixels = pictures.pixels[: min(SHOWN, len(pictures.pixels) // columns * columns)]
    images = corrupt(from_bytes(pixels.to(run.process.device)), config.noise, config.masking)
    with run.autocast():
        made = to_bytes(model.reconstruct(images)).cpu()
    path = sample_path(run.folder, epoch)
    rows = zip(to_bytes(images).cpu().split(columns), made.split(columns), strict=True)
    cells = [cell for given, back in rows for cell in (*given, *back)]
    save_grid(cells, path.with_name(f"{path.stem}-reconstructions.png"), columns)
