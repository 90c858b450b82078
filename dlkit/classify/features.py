"""What the layers of a network say of images, as descriptors for other tools and for search.

Shapes: N images, B of a batch, D numbers of a descriptor, d of a reduced one.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlkit.classify.infer import Classifier, predict
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import whole_file
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import log, track
from dlkit.core.vision import images


@dataclass(frozen=True)
class Layer:
    """A layer that images can be described by, and how many numbers that makes."""

    name: str
    kind: str
    numbers: int


@dataclass(frozen=True)
class Description:
    """An image and its descriptor (D,), in fp32 on the CPU."""

    path: str
    descriptor: Tensor


@dataclass(frozen=True)
class Features:
    """A description as it is printed."""

    path: str
    descriptor: list[float]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **{str(i): value for i, value in enumerate(self.descriptor)}}]


@dataclass(frozen=True)
class Stored:
    """A file of descriptors (`images` rows of `numbers`)."""

    path: str
    images: int
    numbers: int


@dataclass(frozen=True)
class Projection:
    """Principal components: `components` (d, D) of unit length, `variance` (d,) along each.

    The signs are such that each component's largest number is positive.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor

    def __call__(self, descriptors: Tensor) -> Tensor:
        """Descriptors (N, D) as (N, d)."""
        return (descriptors - self.mean) @ self.components.T


class Describer(nn.Module):
    """A network that answers with what one of its layers makes of images: descriptors (B, D).

    `layer` is a module's name and means its output; without one it is the input of the head's last
    linear layer. Maps (B, D, h, w) are averaged over places.
    """

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.whole = not layer
        if layer:
            modules = dict(network.named_modules())
            if layer not in modules:
                close = difflib.get_close_matches(layer, modules, n=5, cutoff=0) or list(modules)
                raise DlkitError(
                    f"no layer is called {layer!r}: there is {', '.join(filter(None, close))}, ..."
                    " (features --layer list shows all)"
                )
            self.source = modules[layer]
            return
        head = getattr(network, "head", network)
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise DlkitError("this network has no linear layer at its end: choose a --layer")
        self.source = linear[-1]

    def forward(self, inputs: Tensor) -> Tensor:
        kept: list[Any] = []

        def keep(module: nn.Module, given: tuple[Any, ...], output: Any = None) -> None:
            kept.append(averaged(given[0] if self.whole else output))

        register = "register_forward_pre_hook" if self.whole else "register_forward_hook"
        hook = getattr(self.source, register)(keep)
        try:
            self.network(inputs)
        finally:
            hook.remove()
        if not kept or kept[-1] is None:
            raise DlkitError("this layer does not describe images: choose another --layer")
        descriptors: Tensor = kept[-1]
        return descriptors


def averaged(output: Any) -> Tensor | None:
    """A layer's output as descriptors (B, D) in fp32; None for what is no batch of numbers.

    A copy: the next layer may write over its input.
    """
    if not isinstance(output, Tensor) or output.dim() < 2:
        return None
    return output.float().flatten(2).mean(dim=2) if output.dim() > 2 else output.float().clone()


def describer(classifier: Classifier, layer: str | None = None) -> Classifier:
    """The classifier, its outputs now descriptors (B, D) of that layer.

    By default that is what the network was trained to describe images by, if it was (metric
    learning), or else the input of its last linear layer.
    """
    if layer is None and classifier.descriptor:
        return classifier
    return replace(classifier, network=Describer(classifier.network, layer))


def layers(classifier: Classifier) -> list[Layer]:
    """The layers whose outputs can be descriptors, in the order in which they compute."""
    inputs = classifier.preprocessing
    found: list[Layer] = []
    hooks = []
    for name, module in classifier.network.named_modules():

        def keep(module: nn.Module, given: Any, output: Any, name: str = name) -> None:
            descriptors = averaged(output)
            if name and descriptors is not None:
                found.append(Layer(name, type(module).__name__, descriptors.shape[1]))

        hooks.append(module.register_forward_hook(keep))
    side = inputs.image_size
    classifier.outputs(torch.zeros(1, inputs.channels, side, side, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return found


def describe(
    paths: Iterable[str],
    classifier: Classifier,
    layer: str | None = None,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Description | Failure]:
    """The descriptor of each image, in input order; a Failure for one that cannot be read.

    Only the `shard` of the images is described; without one, the processes share them.
    """
    chosen = describer(classifier, layer)

    def results(shared: Iterator[str]) -> Iterator[Description | Failure]:
        for path, found in predict(chosen, track(shared, "describing"), batch_size, workers):
            yield found if isinstance(found, Failure) else Description(path, found)

    return map_shard(results, images.files(paths), str(classifier.device), shard)


def principal_components(descriptors: Tensor, count: int) -> Projection:
    """The `count` directions in which descriptors (N, D) vary most."""
    samples, numbers = descriptors.shape
    if count > min(samples, numbers):
        raise DlkitError(
            f"--pca {count}: {samples} descriptors of {numbers} numbers have at most"
            f" {min(samples, numbers)} principal components"
        )
    mean = descriptors.mean(dim=0)
    centered = descriptors - mean
    if samples > numbers:
        # R of the QR decomposition has the same components, and is small.
        centered = torch.linalg.qr(centered, mode="r").R
    _, singular, components = torch.linalg.svd(centered, full_matrices=False)
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    variance = singular[:count].square() / max(1, samples - 1)
    return Projection(mean, components * largest.sign(), variance)


def reduced(
    results: Iterable[Description | Failure], count: int
) -> tuple[Projection, Iterator[Description | Failure]]:
    """The results with their `count` principal components in place of the descriptors.

    Worked out on all of them; says on stderr how much of the variance they hold.
    """
    results = list(results)
    described = [result for result in results if isinstance(result, Description)]
    if not described:
        raise DlkitError("none of the images could be read, so there are no components of them")
    descriptors = torch.stack([result.descriptor for result in described])
    projection = principal_components(descriptors, count)
    total = float(descriptors.var(dim=0, correction=1).sum()) if len(described) > 1 else 0.0
    if total > 0:
        held = float(projection.variance.sum()) / total
        log(f"{count} components hold {held:.1%} of the variance of {len(described)} descriptors")
    short = iter(projection(descriptors))
    return projection, (
        replace(result, descriptor=next(short)) if isinstance(result, Description) else result
        for result in results
    )


def printable(results: Iterable[Description | Failure]) -> Iterator[Features | Failure]:
    """The results as numbers to print, with the seven digits that fp32 has."""
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            numbers = [float(f"{value:.7g}") for value in result.descriptor.tolist()]
            yield Features(result.path, numbers)


def store(
    results: Iterable[Description | Failure], output: Path, projection: Projection | None = None
) -> Iterator[Stored | Failure]:
    """Write the descriptors to `output`, FILE.npy, fp32 (N, D); Failures pass through.

    FILE.paths.txt beside it names the image of each row, and FILE.pca.npz holds the projection's
    `mean`, `components` and `variance`. Each appears whole or not at all, FILE.npy last.
    """
    described = []
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            described.append(result)
    if not described:
        raise DlkitError(f"{output} is not written: none of the images could be read")
    descriptors = torch.stack([result.descriptor for result in described]).numpy()
    if is_main_process():
        lines = "".join(f"{result.path}\n" for result in described)
        with whole_file(output.with_suffix(".paths.txt")) as partial:
            partial.write_bytes(lines.encode(errors="surrogateescape"))
        if projection is not None:
            with whole_file(output.with_suffix(".pca.npz")) as partial, partial.open("wb") as file:
                np.savez(file, **{name: part.numpy() for name, part in vars(projection).items()})
        with whole_file(output) as partial, partial.open("wb") as file:
            np.save(file, descriptors)
    yield Stored(str(output), *descriptors.shape)
