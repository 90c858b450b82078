"""Scores of a model: how close what it makes comes to real pictures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.scores import Score, rounded
from dlkit.gan_sample import features
from dlkit.gan_sample.data import Listed, Pictures, Shape, from_bytes, list_pictures
from dlkit.gan_sample.features import FeatureNetwork
from dlkit.gan_sample.generate import BATCH
from dlkit.gan_sample.infer import Sampler, batches, chosen_classes, load, seeded
from dlkit.gan_sample.metrics import DEFINITIONS, distances
from dlkit.gan_sample.reconstruct import codes_of
from dlkit.gan_sample.translate_images import translated

SAMPLES = 10_000  # pictures that are compared, at most


def evaluate_checkpoint(
    data: Path,
    split: str,
    model: str,
    samples: int | None = None,
    network: str = "auto",
    seed: int = 0,
    device: str = "auto",
    precision: str = "fp32",
) -> Iterator[Score]:
    """The scores of a model against the pictures of one split.

    `samples` real pictures at most, and as many made by the model, are compared in the features
    of the classifier `network`; None: SAMPLES, or as many as there are real ones.
    """
    sampler = load(model, device, precision)
    shape = Shape(sampler.network.image_size, sampler.network.channels)
    describing = features.load(network, shape.image_size, shape.channels, device)
    if sampler.translates:
        yield from of_translations(sampler, data, split, shape, samples, describing)
        return
    real = read_pictures(data, split, shape, samples)
    count = samples or len(real)
    classes, vectors = chosen_classes(sampler, None), seeded(sampler, seed, None)
    made = [pixels for _, _, pixels in batches(sampler, count, vectors, classes)]
    found, said = describing.describe(torch.cat(made))
    there, _ = describing.describe(real)
    yield from compared(describing, there.numpy(), found.numpy(), "all")
    yield from class_accuracy(sampler.labels, describing, said)
    if sampler.has_encoder:
        yield from of_reconstructions(sampler, real)


def read_pictures(data: Path, split: str, shape: Shape, samples: int | None) -> Tensor:
    """uint8 pictures (N, C, S, S) of a split, at most so many, chosen evenly."""
    paths = list_pictures(data, split).paths
    most = min(samples or SAMPLES, len(paths))
    chosen = [paths[index * len(paths) // most] for index in range(most)]
    pictures = Pictures(Listed(chosen, [0] * most, []), shape)
    pictures.report("compare with")
    return pictures.pixels


def compared(
    network: FeatureNetwork, real: np.ndarray, made: np.ndarray, label: str
) -> Iterator[Score]:
    """How far descriptors of generated pictures (N, D) are from those of real ones (M, D)."""
    where = f"{len(made)} pictures and {len(real)} real ones, in the features of {network.name}"
    for name, value in distances(real, made).items():
        yield Score(name, label, rounded(value), f"{DEFINITIONS[name]} Of {where}.")


def class_accuracy(labels: list[str], network: FeatureNetwork, said: Tensor) -> Iterator[Score]:
    """The share of pictures (N,) that show the class asked for, of all and of each class.

    The classes took turns; `said` is what the network found. Nothing where it knows others, or the
    model none.
    """
    if not labels or not set(labels) <= set(network.labels):
        return
    asked = torch.arange(len(said)) % len(labels)
    expected = torch.tensor([network.labels.index(label) for label in labels])[asked]
    right = (said == expected).double()
    where = f"{len(said)} pictures, by the classifier {network.name}"
    definition = f"{DEFINITIONS['class_accuracy']} Of {where}."
    yield Score("class_accuracy", "all", rounded(float(right.mean())), definition)
    for index, label in enumerate(labels):
        value = rounded(float(right[asked == index].mean()))
        yield Score("class_accuracy", label, value, definition)


@torch.inference_mode()
def of_reconstructions(sampler: Sampler, real: Tensor) -> Iterator[Score]:
    """How close uint8 pictures (N, C, S, S) come back from their codes."""
    errors = []
    for part in real.split(BATCH):
        found = sampler.pictures(codes_of(sampler.network, from_bytes(part.to(sampler.device))))
        errors.append(((part.double() - found.double()) / 255).square().flatten(1).mean(dim=1))
    mse = torch.cat(errors)
    # A picture that comes back exactly has no decibels: half a step of 8 bits stands for it.
    psnr = -10 * mse.clamp(min=(0.5 / 255) ** 2).log10()
    definitions = {
        "reconstruction_mse": "Mean squared error of reconstructed pixels, of values from 0 to 1.",
        "reconstruction_psnr": "Mean over pictures of -10 log10 of it, in decibels.",
    }
    for (name, definition), value in zip(definitions.items(), (mse, psnr), strict=True):
        yield Score(name, "all", rounded(float(value.mean())), f"{definition} Of {len(real)}.")


def of_translations(
    sampler: Sampler,
    data: Path,
    split: str,
    shape: Shape,
    samples: int | None,
    network: FeatureNetwork,
) -> Iterator[Score]:
    """How far the translations of each domain's pictures are from the other's real ones."""
    domains = []
    for domain in "AB":
        folder = data / f"{split}{domain}"
        if not folder.is_dir():
            raise DlkitError(
                f"{folder}: no such folder; a cyclegan is evaluated on {split}A and {split}B"
            )
        domains.append(read_pictures(folder, split, shape, samples))
    for back, label in enumerate(("a-to-b", "b-to-a")):
        given, real = domains[back], domains[1 - back]
        made = torch.cat([translated(sampler, part, bool(back)) for part in given.split(BATCH)])
        found, there = (network.describe(pixels)[0].numpy() for pixels in (made, real))
        yield from compared(network, there, found, label)
