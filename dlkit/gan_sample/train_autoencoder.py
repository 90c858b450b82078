"""The training loop of autoencoders.

Shapes: B images, C channels, S x S pixels, Z numbers of a code.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import ResolvedConfig
from dlkit.gan_sample.data import SquareImages, from_uint8, identity_collate, to_uint8
from dlkit.gan_sample.fid import fid_evaluator, sample_path, save_samples
from dlkit.gan_sample.grid import save_grid
from dlkit.gan_sample.loss import autoencoder_losses, vae_losses
from dlkit.gan_sample.model import Autoencoder, VariationalAutoencoder, build
from dlkit.gan_sample.prepare import build_optimizer, prepare, set_epoch_length
from dlkit.gan_sample.steps import random_flip, stop_if_diverged

BATCH = 256  # of validation
CODES_TO_FIT = 10_000  # codes for `Autoencoder.fit`
MAX_SHOWN = 32  # pictures in the grid of reconstructions


def train_autoencoder(config: ResolvedConfig, process: Process) -> Path:
    """Train an autoencoder, and return the path of its best checkpoint."""
    config, pictures, settings = prepare(config)
    held_out, training = pictures.split_off(config.val_share, config.seed)
    set_epoch_length(training, config)
    if config.sparsity:
        settings["sparse"] = True
    model: Autoencoder = build(config.arch, **settings)
    network = process.wrap(model)
    run = Run(config, process, model, Header("gan-sample", config.arch, settings, []))
    save_ledgers(run.folder, pictures.ledger)
    optimizer = build_optimizer(run, model)
    batches = run.loader(training, identity_collate, workers=0)
    variational = isinstance(model, VariationalAutoencoder)
    losses = vae_losses if variational else autoencoder_losses
    evaluator = fid_evaluator(config, training, [], process) if variational else None

    best: BestMetric | None = None
    if variational:
        best = BestMetric(config.best_metric, lower=True)
    elif len(held_out):
        best = BestMetric("val_loss", lower=True)
    for epoch in run.epochs(best):
        for pixels, _ in run.batches(batches):
            images = random_flip(from_uint8(pixels), config.flip)
            with run.autocast():
                outputs = network(corrupt(images, config.noise, config.masking))
            terms = losses(config, images, *(output.float() for output in outputs))
            run.step(torch.stack([*terms.values()]).sum(), optimizer)

        stop_if_diverged(run)
        trained = cast(Autoencoder, run.eval_model.eval())
        scores = validate(run, losses, held_out, config, process)
        if evaluator is None:
            trained.fit(
                torch.cat(list(encode_in_batches(trained, training.pixels[:CODES_TO_FIT], run)))
            )
        else:
            scores |= evaluator.scores(trained)
        if process.is_main:
            save_samples(trained, config, run.folder, epoch)
            shown = held_out if len(held_out) else training
            save_reconstructions(trained, shown, config, run, epoch)
        run.finish_epoch(**scores)
    return run.best


def corrupt(images: Tensor, noise: float, masking: float) -> Tensor:
    """Corrupt the inputs of a denoising autoencoder: Gaussian noise, and pixels set to gray."""
    if noise:
        images = images + noise * torch.randn_like(images)
    if masking:
        images = images * (torch.rand_like(images[:, :1]) >= masking)
    return images


@torch.no_grad()
def validate(
    run: Run,
    losses: Callable[..., dict[str, Tensor]],
    held_out: SquareImages,
    config: ResolvedConfig,
    process: Process,
) -> dict[str, float]:
    """The loss on the validation pictures and its terms; empty if there are none."""
    torch.manual_seed(config.seed)  # the same random codes after each epoch
    sums: list[dict[str, float]] = []
    for start in process.share(range(0, len(held_out), BATCH)):
        images = from_uint8(held_out.pixels[start : start + BATCH].to(process.device))
        with run.autocast():
            outputs = run.eval_model(images)
        terms = losses(config, images, *(output.float() for output in outputs))
        sums.append({k: len(images) * float(v) for k, v in terms.items()})
    gathered = list(process.gather(sums))
    if not gathered:
        return {}
    means = {f"val_{k}": sum(f[k] for f in gathered) / len(held_out) for k in gathered[0]}
    return {"val_loss": sum(means.values()), **means}


@torch.no_grad()
def encode_in_batches(model: Autoencoder, pixels: Tensor, run: Run) -> Iterator[Tensor]:
    """Yield codes (B, Z) of uint8 pictures, in batches."""
    for part in pixels.split(BATCH):
        with run.autocast():
            yield model.encode(from_uint8(part.to(run.process.device))).float()


@torch.no_grad()
def save_reconstructions(
    model: Autoencoder, pictures: SquareImages, config: ResolvedConfig, run: Run, epoch: int
) -> None:
    """Write samples/epoch-0001-reconstructions.png: pictures above their reconstructions."""
    columns = min(8, len(pictures.pixels))
    pixels = pictures.pixels[: min(MAX_SHOWN, len(pictures.pixels) // columns * columns)]
    images = corrupt(from_uint8(pixels.to(run.process.device)), config.noise, config.masking)
    with run.autocast():
        outputs = to_uint8(model.reconstruct(images)).cpu()
    path = sample_path(run.folder, epoch)
    rows = zip(to_uint8(images).cpu().split(columns), outputs.split(columns), strict=True)
    cells = [cell for sources, results in rows for cell in (*sources, *results)]
    path = path.with_name(f"{path.stem}-reconstructions.png")
    save_grid(cells, path, columns, ["picture", "reconstruction"])
