"""Pictures through a model and back: an autoencoder's codes, or a search for latent vectors.

Shapes: B pictures, C channels, S x S pixels, Z numbers of a latent vector, L classes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io.files import FileNames, whole_file
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import remaining_jobs
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.gan_sample import latents
from dlkit.gan_sample.data import Shape, from_bytes
from dlkit.gan_sample.grid import Sheet, as_image
from dlkit.gan_sample.infer import Sampler

BATCH = 16
CANDIDATES = 64  # vectors, of each class, among which a search begins
STARTS = 4  # the nearest of them, from each of which it goes down
RATE = 0.1  # of Adam, at first
COLUMNS = 16


@dataclass(frozen=True)
class Reconstruction:
    """How close a picture came back: mean squared error of values from 0 to 1, and in decibels.

    `label` is the class that the search found it in, where there are classes.
    """

    path: str
    mse: float
    psnr: float | None
    label: str | None
    output: str | None


@dataclass(frozen=True)
class Made:
    """A picture (C, S, S) as it was given and as it was found, of vector z (Z,).

    `cut` says that the middle was taken.
    """

    about: Reconstruction
    z: Tensor
    given: Tensor
    found: Tensor
    cut: bool


def reconstruct(
    paths: Iterable[str],
    sampler: Sampler,
    classes: Sequence[int],
    steps: int,
    seed: int,
    sheet: Path | None = None,
    separate: Path | None = None,
    save_latents: Path | None = None,
    workers: int = 2,
    shard: str | None = None,
    resume: bool = False,
) -> Iterator[Reconstruction | Failure]:
    """Each picture as the model makes it again, in input order; Failures where one is unreadable.

    `sheet` is a file for the pictures, each with its reconstruction below, `separate` a folder for
    these alone, and `save_latents` a file for the vectors that `sample` makes them of. Of the
    pictures only those of a `shard` are taken, and with `resume` those that `separate` lacks. Under
    torchrun the processes share them.
    """
    network = sampler.network
    shape = Shape(network.image_size, network.channels)
    names = None if separate is None else FileNames(separate)
    jobs = [
        (source, None if names is None else names.path_for(source, ".png"))
        for source in images.files(paths)
    ]
    if sheet is not None and sheet.resolve() in {Path(source).resolve() for source, _ in jobs}:
        raise DlkitError(f"{sheet} is an input, which stays as it is: choose another name")
    columns = min(COLUMNS, len(jobs)) or 1
    cells = 2 * columns * -(-len(jobs) // columns)
    shown = None if sheet is None else Sheet(cells, columns, shape.image_size, shape.channels)

    def is_made(job: tuple[str, Path | None]) -> bool:
        return job[1] is not None and job[1].exists()

    def made(process: Process) -> Iterator[Made | Failure]:
        left = list(process.share(remaining_jobs(jobs, shard, resume, is_made)))
        sources = track([source for source, _ in left], "reconstructing")
        entries = zip(each(shape.read, sources, workers), left, strict=True)
        while batch := list(islice(entries, BATCH)):
            good = [entry[0] for entry, _ in batch if not isinstance(entry, Failure)]
            results: Iterator[tuple[Tensor, Tensor, int | None]] = iter(())
            if good:
                results = zip(*back(sampler, torch.stack(good), classes, steps, seed), strict=True)
            for entry, (path, target) in batch:
                if isinstance(entry, Failure):
                    yield entry
                    continue
                given, cut = entry
                z, found, kind = next(results)
                if target is not None:
                    images.save(as_image(found), target)
                about = described(path, given, found, sampler.labels, kind, target)
                yield Made(about, z, given, found, cut)

    def gathered() -> Iterator[Reconstruction | Failure]:
        vectors: list[Tensor] = []
        done = cropped = 0
        with distributed.launch(str(sampler.device)) as process:
            for number, one in enumerate(process.gather(made(process), BATCH)):
                if isinstance(one, Failure):
                    yield one
                    continue
                done, cropped = done + 1, cropped + one.cut
                if shown is not None:
                    row, column = divmod(number, columns)
                    shown.put(2 * row * columns + column, one.given)
                    shown.put((2 * row + 1) * columns + column, one.found)
                if save_latents is not None:
                    vectors.append(one.z)
                yield one.about
            if cropped:
                log(f"{cropped} pictures are not square: their middle is used")
            if done and process.is_main:
                if shown is not None and sheet is not None:
                    images.save(shown.image(), sheet)
                    log(f"saved {sheet}")
                if save_latents is not None:
                    with whole_file(save_latents) as partial, partial.open("wb") as file:
                        np.save(file, torch.stack(vectors).numpy())
                    log(f"saved {save_latents}")

    return gathered()


def described(
    path: str,
    given: Tensor,
    found: Tensor,
    names: Sequence[str],
    kind: int | None,
    target: Path | None,
) -> Reconstruction:
    mse = float(((given.double() - found.double()) / 255).square().mean())
    psnr = round(-10 * math.log10(mse), 2) if mse else None
    label = None if kind is None else names[kind]
    return Reconstruction(path, round(mse, 6), psnr, label, None if target is None else str(target))


def back(
    sampler: Sampler, pixels: Tensor, classes: Sequence[int], steps: int, seed: int
) -> tuple[Tensor, Tensor, list[int | None]]:
    """Vectors (B, Z), pictures (B, C, S, S) and classes of what comes back of uint8 pictures."""
    targets = from_bytes(pixels.to(sampler.device))
    if sampler.has_encoder:
        with torch.inference_mode():
            z = codes_of(sampler.network, targets)
        return z, sampler.pictures(z), [None] * len(pixels)
    z, labels = search(sampler, targets, classes, steps, seed)
    kinds: list[int | None] = [None] * len(pixels) if labels is None else list(labels.tolist())
    return z, sampler.pictures(z, labels), kinds


def codes_of(network: Any, targets: Tensor) -> Tensor:
    """The vectors (B, Z) from which `sample` decodes the codes of pictures from -1 to 1."""
    codes = network.encode(targets)
    if isinstance(codes, tuple):
        codes = codes[0]  # mean and log variance
    z: Tensor = (codes - network.code_mean) / network.code_deviation
    return z.float().cpu()


def search(
    sampler: Sampler, targets: Tensor, classes: Sequence[int], steps: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Vectors (B, Z), and with classes labels (B,), whose pictures come near the targets.

    Down the gradient of the squared error of pixels (Lipton and Tripathi 2017, "Precise recovery
    of latent vectors"), from the best of some random ones, each picture for itself.
    """
    network = sampler.network.requires_grad_(False)
    kinds = torch.tensor(classes).repeat_interleave(CANDIDATES) if classes else None
    candidates = latents.draw(seed, range(CANDIDATES), network.latent)
    candidates = candidates.repeat(max(len(classes), 1), 1)
    drawn = from_bytes(sampler.pictures(candidates, kinds).to(sampler.device)).flatten(1)
    nearest = torch.cdist(targets.flatten(1), drawn).topk(STARTS, largest=False).indices.cpu()
    chosen = nearest.flatten()  # STARTS rows for each target
    z = candidates[chosen].to(sampler.device).requires_grad_()
    labels = None if kinds is None else kinds[chosen].to(sampler.device)
    goals = targets.repeat_interleave(STARTS, dim=0)
    optimizer = torch.optim.Adam([z], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        # Summed over pictures, whose gradients have nothing to do with each other.
        loss = (network.sample(z, labels) - goals).square().flatten(1).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (network.sample(z, labels) - goals).square().flatten(1).mean(dim=1)
    best = errors.view(-1, STARTS).argmin(dim=1) + STARTS * torch.arange(
        len(targets), device=errors.device
    )
    found = z.detach()[best].cpu()
    return found, None if labels is None else labels[best].cpu()
