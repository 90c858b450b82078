"""Reconstruction of pictures, by an autoencoder or by a search for latent vectors.

Shapes: B pictures, C channels, S x S pixels, Z numbers of a latent vector, L classes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io import image_files
from dlkit.core.io.files import (
    FileNames,
    check_free,
    keeps_existing,
    note_saved,
    resolved,
    whole_file,
)
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import remaining_jobs
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.gan_sample import latents
from dlkit.gan_sample.data import Shape, from_uint8
from dlkit.gan_sample.grid import ImageGrid, to_pillow
from dlkit.gan_sample.infer import Sampler
from dlkit.gan_sample.model import Autoencoder

BATCH = 16
CANDIDATES = 64  # random vectors per class, from which a search selects its starts
STARTS = 4  # nearest candidates, each of which is optimized
LEARNING_RATE = 0.1  # initial, of Adam
COLUMNS = 16


@dataclass(frozen=True)
class Reconstruction:
    """The error of a reconstruction: MSE of values from 0 to 1, and PSNR in dB.

    `label` is the class that the search found, for models with classes.
    """

    noun: ClassVar = "picture"
    units: ClassVar = {"psnr": "dB"}

    path: str
    mse: float
    psnr: float | None
    label: str | None
    output: str | None


@dataclass(frozen=True)
class ImagePair:
    """A picture (C, S, S) and its reconstruction from vector z (Z,); `cropped` if not square."""

    result: Reconstruction
    z: Tensor
    source: Tensor
    output: Tensor
    cropped: bool


def reconstruct(
    paths: Iterable[str],
    sampler: Sampler,
    classes: Sequence[int],
    steps: int,
    seed: int,
    grid: Path | None = None,
    separate: Path | None = None,
    save_latents: Path | None = None,
    workers: int = 2,
    shard: str | None = None,
    resume: bool = False,
    scale: int = 1,
) -> Iterator[Reconstruction | Failure]:
    """Reconstruct each picture, in input order; a Failure for an unreadable one.

    `grid` is a file for all pictures, each above its reconstruction, `separate` a folder for the
    reconstructions, and `save_latents` a file for their latent vectors. `shard` selects a part of
    the pictures, `resume` those without a file in `separate`; processes of torchrun share them.
    Each pixel is repeated `scale` times.
    """
    network = sampler.network
    shape = Shape(network.image_size, network.channels)
    names = None if separate is None else FileNames(separate)
    jobs = [
        (source, None if names is None else names.reserve(source, ".png"))
        for source in image_files.files(paths)
    ]
    if grid is not None and resolved(grid) in {resolved(source) for source, _ in jobs}:
        raise DlkitError(
            f"--output {grid}: an input, which must not be overwritten; choose another name"
        )
    columns = min(COLUMNS, len(jobs)) or 1
    cells = 2 * columns * -(-len(jobs) // columns)
    image_grid = (
        None if grid is None else ImageGrid(cells, columns, shape.image_size, shape.channels, scale)
    )

    def is_made(job: tuple[str, Path | None]) -> bool:
        return job[1] is not None and job[1].exists()

    if keeps_existing():
        for _, target in remaining_jobs(jobs, shard, False, is_made):
            if target is not None:
                check_free(target)

    def pairs(process: Process) -> Iterator[ImagePair | Failure]:
        left = list(process.share(remaining_jobs(jobs, shard, resume, is_made)))
        sources = track([source for source, _ in left], "reconstructing")
        entries = zip(each(shape.read, sources, workers), left, strict=True)
        while batch := list(islice(entries, BATCH)):
            good = [entry[0] for entry, _ in batch if not isinstance(entry, Failure)]
            results: Iterator[tuple[Tensor, Tensor, int | None]] = iter(())
            if good:
                results = zip(
                    *reconstruct_batch(sampler, torch.stack(good), classes, steps, seed),
                    strict=True,
                )
            for entry, (path, target) in batch:
                if isinstance(entry, Failure):
                    yield entry
                    continue
                source, cropped = entry
                z, output, class_index = next(results)
                if target is not None:
                    try:
                        images.save(to_pillow(output, scale), target)
                    except DlkitError as error:
                        yield Failure(path, error.reason_for(path))
                        continue
                    note_saved(target)
                result = measure_error(path, source, output, sampler.labels, class_index, target)
                yield ImagePair(result, z, source, output, cropped)

    def gathered() -> Iterator[Reconstruction | Failure]:
        vectors: list[Tensor] = []
        done = cropped = 0
        with distributed.launch(str(sampler.device)) as process:
            for number, pair in enumerate(process.gather(pairs(process), BATCH)):
                if isinstance(pair, Failure):
                    yield pair
                    continue
                done, cropped = done + 1, cropped + pair.cropped
                if image_grid is not None:
                    row, column = divmod(number, columns)
                    image_grid.place(2 * row * columns + column, pair.source)
                    image_grid.place((2 * row + 1) * columns + column, pair.output)
                if save_latents is not None:
                    vectors.append(pair.z)
                yield pair.result
            if cropped:
                log(f"pictures center-cropped, since they are not square: {cropped}")
            if done and process.is_main:
                if image_grid is not None and grid is not None:
                    images.save(image_grid.image(), grid)
                    note_saved(grid)
                if save_latents is not None:
                    with whole_file(save_latents) as partial, partial.open("wb") as file:
                        np.save(file, torch.stack(vectors).numpy())
                    note_saved(save_latents)

    return gathered()


def measure_error(
    path: str,
    source: Tensor,
    output: Tensor,
    names: Sequence[str],
    class_index: int | None,
    target: Path | None,
) -> Reconstruction:
    """The error of one reconstruction."""
    mse = float(((source.double() - output.double()) / 255).square().mean())
    psnr = round(-10 * math.log10(mse), 2) if mse else None
    label = None if class_index is None else names[class_index]
    return Reconstruction(path, round(mse, 6), psnr, label, None if target is None else str(target))


def reconstruct_batch(
    sampler: Sampler, pixels: Tensor, classes: Sequence[int], steps: int, seed: int
) -> tuple[Tensor, Tensor, list[int | None]]:
    """Vectors (B, Z), reconstructions (B, C, S, S) and classes of uint8 pictures."""
    targets = from_uint8(pixels.to(sampler.device))
    if isinstance(sampler.network, Autoencoder):
        with torch.inference_mode():
            z = encode_vectors(sampler.network, targets)
        return z, sampler.generate(z), [None] * len(pixels)
    z, labels = search_vectors(sampler, targets, classes, steps, seed)
    indices: list[int | None] = [None] * len(pixels) if labels is None else list(labels.tolist())
    return z, sampler.generate(z, labels), indices


def encode_vectors(network: Autoencoder, targets: Tensor) -> Tensor:
    """The standardized codes (B, Z) of pictures from -1 to 1, the inputs of `sample`."""
    codes = network.encode(targets)
    if isinstance(codes, tuple):
        codes = codes[0]  # the mean, without the log variance
    z: Tensor = (codes - network.code_mean) / network.code_deviation
    return z.float().cpu()


def search_vectors(
    sampler: Sampler, targets: Tensor, classes: Sequence[int], steps: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Search for vectors (B, Z), and with classes labels (B,), whose pictures match the targets.

    Gradient descent on the squared error of pixels (Lipton and Tripathi 2017, "Precise recovery of
    latent vectors"), from the best of some random vectors, independently for each picture.
    """
    network = sampler.network.requires_grad_(False)
    candidate_labels = torch.tensor(classes).repeat_interleave(CANDIDATES) if classes else None
    candidates = latents.draw(seed, range(CANDIDATES), network.latent)
    candidates = candidates.repeat(max(len(classes), 1), 1)
    drawn = from_uint8(sampler.generate(candidates, candidate_labels).to(sampler.device)).flatten(1)
    nearest = torch.cdist(targets.flatten(1), drawn).topk(STARTS, largest=False).indices.cpu()
    chosen = nearest.flatten()  # STARTS rows for each target
    z = candidates[chosen].to(sampler.device).requires_grad_()
    labels = None if candidate_labels is None else candidate_labels[chosen].to(sampler.device)
    repeated = targets.repeat_interleave(STARTS, dim=0)
    optimizer = torch.optim.Adam([z], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        # A sum over pictures, whose gradients are independent.
        loss = (network.sample(z, labels) - repeated).square().flatten(1).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (network.sample(z, labels) - repeated).square().flatten(1).mean(dim=1)
    best = errors.view(-1, STARTS).argmin(dim=1) + STARTS * torch.arange(
        len(targets), device=errors.device
    )
    vectors = z.detach()[best].cpu()
    return vectors, None if labels is None else labels[best].cpu()
