"""Image descriptors: the outputs of layers, for other tools and for search.

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
from dlkit.core.io import image_files
from dlkit.core.io.files import check_free, note_saved, whole_file
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import log, track


@dataclass(frozen=True)
class Layer:
    """A layer and the dimension of its descriptors."""

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
    """A descriptor in the form that is printed."""

    path: str
    descriptor: list[float]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **{str(i): value for i, value in enumerate(self.descriptor)}}]


@dataclass(frozen=True)
class StoredFeatures:
    """A saved file of descriptors (`images` rows of `numbers` values)."""

    path: str
    images: int
    numbers: int


@dataclass(frozen=True)
class Projection:
    """Principal components: unit vectors `components` (d, D), and the `variance` (d,) along each.

    The sign makes the entry of largest magnitude of each component positive.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor

    def __call__(self, descriptors: Tensor) -> Tensor:
        """Project descriptors (N, D) to (N, d)."""
        return (descriptors - self.mean) @ self.components.T


class LayerDescriber(nn.Module):
    """A network whose output is that of one of its layers: descriptors (B, D).

    `layer` is a module's name; without one, the descriptor is the input of the head's last linear
    layer. Feature maps (B, D, h, w) are averaged over positions.
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
                    f"unknown layer {layer!r}; choose from {', '.join(filter(None, close))}, ..."
                    " (features --layer list prints all)"
                )
            self.source = modules[layer]
            return
        head = getattr(network, "head", network)
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise DlkitError("the network has no last linear layer; choose a --layer")
        self.source = linear[-1]

    def forward(self, inputs: Tensor) -> Tensor:
        kept: list[Any] = []

        def keep(module: nn.Module, given: tuple[Any, ...], output: Any = None) -> None:
            kept.append(average_over_places(given[0] if self.whole else output))

        register = "register_forward_pre_hook" if self.whole else "register_forward_hook"
        hook = getattr(self.source, register)(keep)
        try:
            self.network(inputs)
        finally:
            hook.remove()
        if not kept or kept[-1] is None:
            raise DlkitError("this layer's output is no descriptor; choose another --layer")
        descriptors: Tensor = kept[-1]
        return descriptors


def average_over_places(output: Any) -> Tensor | None:
    """Average a layer's output to descriptors (B, D) in fp32; None if it is no batch of tensors.

    The result is a copy, because the next layer may work in place.
    """
    if not isinstance(output, Tensor) or output.dim() < 2:
        return None
    return output.float().flatten(2).mean(dim=2) if output.dim() > 2 else output.float().clone()


def make_describer(classifier: Classifier, layer: str | None = None) -> Classifier:
    """Return the classifier with descriptors (B, D) of a layer as its outputs.

    Without `layer`, these are the outputs of a network trained with the triplet loss, or else the
    input of the last linear layer.
    """
    if layer is None and classifier.descriptor:
        return classifier
    return replace(classifier, network=LayerDescriber(classifier.network, layer))


def list_layers(classifier: Classifier) -> list[Layer]:
    """List the layers whose outputs can be descriptors, in order of execution."""
    inputs = classifier.preprocessing
    found: list[Layer] = []
    hooks = []
    for name, module in classifier.network.named_modules():

        def keep(module: nn.Module, given: Any, output: Any, name: str = name) -> None:
            descriptors = average_over_places(output)
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
    """Yield the descriptor of each image, in input order; a Failure for an unreadable one.

    Only the images of `shard` are described; without one, the processes under torchrun share them.
    """
    chosen = make_describer(classifier, layer)

    def results(shared: Iterator[str]) -> Iterator[Description | Failure]:
        for path, found in predict(chosen, track(shared, "describing"), batch_size, workers):
            yield found if isinstance(found, Failure) else Description(path, found)

    return map_shard(results, image_files.files(paths), str(classifier.device), shard)


def principal_components(descriptors: Tensor, count: int) -> Projection:
    """Compute the first `count` principal components of descriptors (N, D)."""
    samples, numbers = descriptors.shape
    if count > min(samples, numbers):
        raise DlkitError(
            f"--pca {count}: {samples} descriptors of {numbers} numbers have at most"
            f" {min(samples, numbers)} principal components; give fewer"
        )
    mean = descriptors.mean(dim=0)
    centered = descriptors - mean
    if samples > numbers:
        # R of the QR decomposition has the same components and is smaller.
        centered = torch.linalg.qr(centered, mode="r").R
    _, singular, components = torch.linalg.svd(centered, full_matrices=False)
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    variance = singular[:count].square() / max(1, samples - 1)
    return Projection(mean, components * largest.sign(), variance)


def reduce_descriptors(
    results: Iterable[Description | Failure], count: int
) -> tuple[Projection, Iterator[Description | Failure]]:
    """Reduce all descriptors to their first `count` principal components.

    Logs the explained variance. Also returns the projection.
    """
    results = list(results)
    described = [result for result in results if isinstance(result, Description)]
    if not described:
        raise DlkitError("--pca: none of the images is readable")
    descriptors = torch.stack([result.descriptor for result in described])
    projection = principal_components(descriptors, count)
    total = float(descriptors.var(dim=0, correction=1).sum()) if len(described) > 1 else 0.0
    if total > 0:
        held = float(projection.variance.sum()) / total
        log(
            f"{count} components explain {held:.1%} of the variance of {len(described)} descriptors"
        )
    short = iter(projection(descriptors))
    return projection, (
        replace(result, descriptor=next(short)) if isinstance(result, Description) else result
        for result in results
    )


def as_rows(results: Iterable[Description | Failure]) -> Iterator[Features | Failure]:
    """Round descriptors to the seven significant digits of fp32, for printing."""
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            numbers = [float(f"{value:.7g}") for value in result.descriptor.tolist()]
            yield Features(result.path, numbers)


def save_features(
    results: Iterable[Description | Failure], output: Path, projection: Projection | None = None
) -> Iterator[StoredFeatures | Failure]:
    """Save the descriptors to `output`, FILE.npy, fp32 (N, D); yield Failures.

    FILE.paths.txt names the image of each row; FILE.pca.npz contains the projection's `mean`,
    `components` and `variance`. Each file is written atomically, FILE.npy last.
    """
    paths, pca = output.with_suffix(".paths.txt"), output.with_suffix(".pca.npz")
    for path in [paths, *([pca] if projection else [])]:
        check_free(path)
    described = []
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            described.append(result)
    if not described:
        raise DlkitError("not written, because none of the images is readable", output)
    descriptors = torch.stack([result.descriptor for result in described]).numpy()
    if is_main_process():
        lines = "".join(f"{result.path}\n" for result in described)
        with whole_file(paths) as partial:
            partial.write_bytes(lines.encode(errors="surrogateescape"))
        if projection is not None:
            with whole_file(pca) as partial, partial.open("wb") as file:
                np.savez(file, **{name: part.numpy() for name, part in vars(projection).items()})
        with whole_file(output) as partial, partial.open("wb") as file:
            np.save(file, descriptors)
        for path in [output, paths, *([pca] if projection else [])]:
            note_saved(path)
    yield StoredFeatures(str(output), *descriptors.shape)
