"""Scores of a model: distances between generated and real pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlkit.core.config import allowed_share
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.io.scores import Score, rounded
from dlkit.gan_sample import features
from dlkit.gan_sample.data import ImageList, Shape, SquareImages, from_uint8, list_pictures
from dlkit.gan_sample.features import FeatureExtractor
from dlkit.gan_sample.generate import BATCH
from dlkit.gan_sample.infer import (
    Sampler,
    Translator,
    class_indices,
    generate_batches,
    load_any,
    seeded_vectors,
)
from dlkit.gan_sample.metrics import DEFINITIONS, distances
from dlkit.gan_sample.model import Autoencoder
from dlkit.gan_sample.reconstruct import encode_vectors
from dlkit.gan_sample.translate_images import translate_batch

SAMPLES = 10_000  # pictures to compare, at most


def evaluate_checkpoint(
    data: Sequence[str],
    split: str,
    model: str,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "fp32",
    *,
    samples: int | None = None,
    network: str = "auto",
    seed: int = 0,
    allow_skipped: float | None = None,
) -> Iterator[Score]:
    """The scores of a model against the pictures of a split of one folder.

    At most `samples` real pictures (None: SAMPLES) and as many generated ones are compared in the
    features of the classifier `network`. `save` and `workers` have no effect. Raises DlkitError
    where more than the share `allow_skipped` of the real ones cannot be used.
    """
    (folder,) = map(Path, data)
    allowed = allowed_share(allow_skipped)
    loaded = load_any(model, device, precision)
    shape = Shape(loaded.network.image_size, loaded.network.channels)
    extractor = features.load(network, shape.image_size, shape.channels, device)
    if isinstance(loaded, Translator):
        yield from translation_scores(loaded, folder, split, shape, samples, extractor, allowed)
        return
    sampler = loaded
    real = read_split(folder, split, shape, samples, allowed)
    count = samples or len(real)
    classes, vectors = class_indices(sampler, None), seeded_vectors(sampler, seed, None)
    generated = [pixels for _, _, pixels in generate_batches(sampler, count, vectors, classes)]
    descriptors, predicted = extractor.describe(torch.cat(generated))
    reference, _ = extractor.describe(real)
    yield from distance_scores(extractor, reference.numpy(), descriptors.numpy(), "all")
    yield from class_accuracy_scores(sampler.labels, extractor, predicted)
    if isinstance(sampler.network, Autoencoder):
        yield from reconstruction_scores(sampler, sampler.network, real)


def read_split(data: Path, split: str, shape: Shape, samples: int | None, allowed: float) -> Tensor:
    """uint8 pictures (N, C, S, S) of a split, at most `samples`, evenly spaced."""
    listed = list_pictures(data, split)
    paths = listed.paths
    most = min(samples or SAMPLES, len(paths))
    chosen = [paths[index * len(paths) // most] for index in range(most)]
    pictures = SquareImages(ImageList(chosen, [0] * most, [], listed.ledger), shape)
    pictures.report(data, allowed, "compare with")
    return pictures.pixels


def distance_scores(
    network: FeatureExtractor, real: np.ndarray, generated: np.ndarray, label: str
) -> Iterator[Score]:
    """Distances between descriptors of real pictures (N, D) and generated ones (M, D)."""
    where = (
        f"{len(generated)} pictures and {len(real)} real ones, in the features of {network.name}"
    )
    for name, value in distances(real, generated).items():
        yield Score(name, label, rounded(value), f"{DEFINITIONS[name]} Of {where}.")


def class_accuracy_scores(
    labels: list[str], network: FeatureExtractor, predicted: Tensor
) -> Iterator[Score]:
    """The accuracy of the extractor's classifier on generated pictures: overall and per class.

    Picture i was generated as class i modulo the number of classes; `predicted` (N,) are the
    classifier's labels. No scores for models without classes or with other classes.
    """
    if not labels or not set(labels) <= set(network.labels):
        return
    requested = torch.arange(len(predicted)) % len(labels)
    expected = torch.tensor([network.labels.index(label) for label in labels])[requested]
    correct = (predicted == expected).double()
    where = f"{len(predicted)} pictures, by the classifier {network.name}"
    definition = f"{DEFINITIONS['class_accuracy']} Of {where}."
    yield Score("class_accuracy", "all", rounded(float(correct.mean())), definition)
    for index, label in enumerate(labels):
        value = rounded(float(correct[requested == index].mean()))
        yield Score("class_accuracy", label, value, definition)


@torch.inference_mode()
def reconstruction_scores(sampler: Sampler, network: Autoencoder, real: Tensor) -> Iterator[Score]:
    """Reconstruction error of uint8 pictures (N, C, S, S), as MSE and PSNR."""
    errors = []
    for part in real.split(BATCH):
        output = sampler.generate(encode_vectors(network, from_uint8(part.to(sampler.device))))
        errors.append(((part.double() - output.double()) / 255).square().flatten(1).mean(dim=1))
    mse = torch.cat(errors)
    # The PSNR of an exact reconstruction is infinite; it is clamped to half an 8-bit step.
    psnr = -10 * mse.clamp(min=(0.5 / 255) ** 2).log10()
    definitions = {
        "reconstruction_mse": "Mean squared error of reconstructed pixels, of values from 0 to 1.",
        "reconstruction_psnr": "PSNR: mean over pictures of -10 log10 of it, in dB.",
    }
    for (name, definition), value in zip(definitions.items(), (mse, psnr), strict=True):
        yield Score(name, "all", rounded(float(value.mean())), f"{definition} Of {len(real)}.")


def translation_scores(
    translator: Translator,
    data: Path,
    split: str,
    shape: Shape,
    samples: int | None,
    network: FeatureExtractor,
    allowed: float,
) -> Iterator[Score]:
    """Distances between translated pictures and the real ones of the target domain."""
    domains = []
    for domain in "AB":
        folder = data / f"{split}{domain}"
        if not is_dir(folder):
            raise DlkitError(
                f"no such folder; a cyclegan is evaluated on {split}A and {split}B", folder
            )
        domains.append(read_split(folder, split, shape, samples, allowed))
    for back, label in enumerate(("a-to-b", "b-to-a")):
        source, real = domains[back], domains[1 - back]
        parts = [translate_batch(translator, part, bool(back)) for part in source.split(BATCH)]
        translated = torch.cat(parts)
        descriptors, reference = (network.describe(p)[0].numpy() for p in (translated, real))
        yield from distance_scores(network, reference, descriptors, label)
