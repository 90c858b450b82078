"""From noise to pictures: `sample()`, and the loaded models that all of its kin begin with.

Shapes: N pictures, B of a batch, C channels, S x S pixels, Z numbers of a latent vector.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.parallel import device
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.gan_sample import latents, vector_files
from dlkit.gan_sample.config import DEFAULT_MODEL
from dlkit.gan_sample.generate import BATCH, decoded
from dlkit.gan_sample.grid import Sheet, as_image, square
from dlkit.gan_sample.model import Autoencoder, CycleGan, restore

MOST_COLUMNS = 20  # classes that get a column each
MOST_WAITING = 2 * BATCH  # pictures to be written while the next are drawn

Vectors = Callable[[range], Tensor]  # numbers of pictures to their latent vectors (N, Z)


@dataclass(frozen=True)
class Drawn:
    """A file and what is in it: picture `number`, or from there on so many.

    `label` is the class, where there is one.
    """

    path: str
    number: int
    pictures: int
    label: str | None


@dataclass(frozen=True)
class Sampler:
    """A model ready to draw, and what belongs to it."""

    name: str
    network: Any  # a GanModel, an Autoencoder or a CycleGan
    labels: list[str]
    device: torch.device
    precision: str = "fp32"

    @property
    def has_encoder(self) -> bool:
        return isinstance(self.network, Autoencoder)

    @property
    def translates(self) -> bool:
        """Whether it makes pictures of pictures, not of noise."""
        return isinstance(self.network, CycleGan)

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """uint8 pictures (N, C, S, S) of vectors (N, Z) and, with classes, of labels (N,)."""
        return torch.cat(list(decoded(self.network, z, labels, self.precision)))


def load(model: str = DEFAULT_MODEL, device_name: str = "auto", precision: str = "fp32") -> Sampler:
    """The model of that name, file or URL on the device."""
    chosen = device.choose(device_name)
    device.dtype(chosen, precision)  # refuses what the device cannot do
    device.tune_malloc()
    header, tensors = checkpoint.load(weights.find("gan-sample", model), "gan-sample")
    try:
        network = restore(header.arch, header.settings, tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{model}: its weights or settings do not fit the architecture {header.arch};"
            f" it was made by dlkit {header.dlkit}"
        ) from error
    network.to(chosen).to(memory_format=torch.channels_last)
    return Sampler(model, network, header.labels, chosen, precision)


def load_to_sample(model: str, device_name: str, precision: str) -> Sampler:
    """A model that makes pictures of latent vectors."""
    sampler = load(model, device_name, precision)
    if sampler.translates:
        raise DlkitError(
            f"{model} makes pictures of pictures, not of noise: use translate-images with it"
        )
    return sampler


def chosen_classes(sampler: Sampler, names: Sequence[str] | None) -> list[int]:
    """The indices of these classes, or of all; none where the model knows no classes."""
    if not names:
        return list(range(len(sampler.labels)))
    if not sampler.labels:
        raise DlkitError(f"{sampler.name} was trained without classes: leave --class out")
    if unknown := [name for name in names if name not in sampler.labels]:
        raise DlkitError(
            f"{sampler.name} knows no class {unknown[0]!r}: there is {', '.join(sampler.labels)}"
        )
    return [sampler.labels.index(name) for name in names]


def seeded(sampler: Sampler, seed: int, truncation: float | None) -> Vectors:
    """Vectors that the seed and a picture's number decide."""
    return partial(latents.draw, seed, size=sampler.network.latent, truncation=truncation)


def stored(vectors: "vector_files.Stored") -> Vectors:
    """The rows of a file of vectors."""
    return lambda numbers: torch.tensor(vectors[numbers.start : numbers.stop], dtype=torch.float32)


def batches(
    sampler: Sampler, count: int, vectors: Vectors, classes: Sequence[int]
) -> Iterator[tuple[range, Tensor, Tensor]]:
    """Numbers, vectors (B, Z) and uint8 pictures (B, C, S, S); the classes take turns."""
    for start in track(range(0, count, BATCH), "drawing"):
        numbers = range(start, min(start + BATCH, count))
        z = vectors(numbers)
        asked = torch.tensor([classes[n % len(classes)] for n in numbers]) if classes else None
        yield numbers, z, sampler.pictures(z, asked)


def sample(
    sampler: Sampler,
    count: int,
    vectors: Vectors,
    classes: Sequence[int] = (),
    grid: Path | None = None,
    separate: Path | None = None,
    save_latents: Path | None = None,
) -> Iterator[Drawn]:
    """Draw `count` pictures: into one file `grid`, into files of a folder, or both.

    The classes take turns. In the folder a picture is NUMBER.png, or with classes
    LABEL/NUMBER.png, so that it can be trained on and evaluated. Without a grid, memory does not
    grow with `count`. `save_latents` is a file for the vectors.
    """
    network = sampler.network
    columns = len(classes) if 2 <= len(classes) <= min(MOST_COLUMNS, count) else square(count)
    sheet = Sheet(count, columns, network.image_size, network.channels) if grid else None

    def write_one(folder: Path, number: int, picture: Tensor) -> Drawn:
        label = sampler.labels[classes[number % len(classes)]] if classes else None
        path = (folder if label is None else folder / label) / f"{number:06}.png"
        images.save(as_image(picture), path)
        return Drawn(str(path), number, 1, label)

    def made() -> Iterator[Drawn]:
        keeping: AbstractContextManager[np.ndarray | None] = nullcontext()
        if save_latents is not None:
            keeping = vector_files.writing(save_latents, count, network.latent)
        waiting: deque[Future[Drawn]] = deque()
        with keeping as kept, ThreadPoolExecutor() as pool:
            try:
                for numbers, z, pixels in batches(sampler, count, vectors, classes):
                    if kept is not None:
                        kept[numbers.start : numbers.stop] = z.numpy()
                    for number, picture in zip(numbers, pixels, strict=True):
                        if sheet is not None:
                            sheet.put(number, picture)
                        if separate is not None:
                            waiting.append(pool.submit(write_one, separate, number, picture))
                    while len(waiting) > MOST_WAITING:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
        if sheet is not None and grid is not None:
            images.save(sheet.image(), grid)
            one = sampler.labels[classes[0]] if len(classes) == 1 else None
            yield Drawn(str(grid), 0, count, one)

    return made()
