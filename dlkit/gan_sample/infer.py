"""Loading models, and sampling pictures from noise: `load()` and `sample()`.

Shapes: N pictures, B of a batch, C channels, S x S pixels, Z numbers of a latent vector.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import check_free, is_dir, keeps_existing, note_saved, safe_name
from dlkit.core.parallel import device as devices
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.gan_sample import latents, vector_files
from dlkit.gan_sample.config import DEFAULT_MODEL
from dlkit.gan_sample.generate import BATCH, generate
from dlkit.gan_sample.grid import ImageGrid, square_columns, to_pillow
from dlkit.gan_sample.model import CycleGan, LatentModel, restore

MAX_COLUMNS = 20  # of a grid with one column per class
MAX_PENDING = 2 * BATCH  # pictures pending to be written while the next are drawn

VectorSource = Callable[[range], Tensor]  # maps picture numbers to latent vectors (N, Z)


@dataclass(frozen=True)
class SampleFile:
    """A file of `pictures` pictures, from picture `number` on; `label` is their class, if any."""

    path: str
    number: int
    pictures: int
    label: str | None


@dataclass(frozen=True)
class Sampler:
    """A loaded model that generates pictures from noise, its labels, device and precision."""

    name: str
    network: LatentModel
    labels: list[str]
    device: torch.device
    precision: str

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate uint8 pictures (N, C, S, S) from vectors (N, Z) and class labels (N,)."""
        return torch.cat(list(generate(self.network, z, labels, self.precision)))


@dataclass(frozen=True)
class Translator:
    """A loaded model that translates pictures between two domains, its device and precision."""

    name: str
    network: CycleGan
    device: torch.device
    precision: str


def load(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Sampler:
    """Load a model that samples from noise, by name, file or URL."""
    loaded = load_any(model, device, precision)
    if isinstance(loaded, Translator):
        raise DlkitError(
            f"--model {model}: a cyclegan, which does not sample from noise; use translate-images"
        )
    return loaded


def load_translator(model: str, device: str = "auto", precision: str = "auto") -> Translator:
    """Load a cyclegan, by name, file or URL."""
    loaded = load_any(model, device, precision)
    if isinstance(loaded, Sampler):
        raise DlkitError(f"--model {model}: not a cyclegan, which translate-images needs; give one")
    return loaded


def load_any(model: str, device: str, precision: str) -> Sampler | Translator:
    """Load a model of any architecture, by name, file or URL."""
    chosen = devices.choose(device)
    devices.dtype(chosen, precision)  # raises DlkitError if the device does not support it
    devices.tune_malloc()
    header, tensors = checkpoint.load(weights.find("gan-sample", model), "gan-sample")
    network = restore(model, header, tensors).to(chosen).to(memory_format=torch.channels_last)
    if isinstance(network, CycleGan):
        return Translator(model, network, chosen, precision)
    return Sampler(model, network, header.labels, chosen, precision)


def class_indices(sampler: Sampler, names: Sequence[str] | None) -> list[int]:
    """The indices of these classes, by default all; empty for models without classes."""
    if not names:
        return list(range(len(sampler.labels)))
    if not sampler.labels:
        raise DlkitError(f"--class {names[0]}: {sampler.name} has no classes; remove it")
    if unknown := [name for name in names if name not in sampler.labels]:
        raise DlkitError(
            f"--class {unknown[0]}: not a class of {sampler.name}; choose from"
            f" {', '.join(sampler.labels)}"
        )
    return [sampler.labels.index(name) for name in names]


def seeded_vectors(sampler: Sampler, seed: int, truncation: float | None) -> VectorSource:
    """Random vectors that depend only on the seed and the number of the picture."""
    return partial(latents.draw, seed, size=sampler.network.latent, truncation=truncation)


def stored_vectors(vectors: vector_files.VectorArray) -> VectorSource:
    """Vectors from a file, one row per picture."""
    return lambda numbers: torch.tensor(vectors[numbers.start : numbers.stop], dtype=torch.float32)


def generate_batches(
    sampler: Sampler, count: int, vectors: VectorSource, classes: Sequence[int]
) -> Iterator[tuple[range, Tensor, Tensor]]:
    """Yield numbers, vectors (B, Z) and uint8 pictures (B, C, S, S), cycling through classes."""
    for start in track(range(0, count, BATCH), "drawing"):
        numbers = range(start, min(start + BATCH, count))
        z = vectors(numbers)
        labels = torch.tensor([classes[n % len(classes)] for n in numbers]) if classes else None
        yield numbers, z, sampler.generate(z, labels)


def empty_grid(sampler: Sampler, count: int, classes: Sequence[int], scale: int = 1) -> ImageGrid:
    """The grid of `count` pictures: a column for each of a few classes, else square."""
    column_per_class = 2 <= len(classes) <= min(MAX_COLUMNS, count)
    columns = len(classes) if column_per_class else square_columns(count)
    names = [sampler.labels[k] for k in classes] if column_per_class and scale > 1 else []
    shape = sampler.network.image_size, sampler.network.channels
    return ImageGrid(count, columns, *shape, scale, names)


def sample(
    sampler: Sampler,
    count: int,
    vectors: VectorSource,
    classes: Sequence[int] = (),
    grid: Path | None = None,
    separate: Path | None = None,
    save_latents: Path | None = None,
    scale: int = 1,
) -> Iterator[SampleFile]:
    """Draw `count` pictures, cycling through `classes`.

    `grid` is a file for all pictures, `separate` a folder with a file NUMBER.png for each, or with
    classes LABEL/NUMBER.png, a layout that training and evaluation accept. Without a grid, memory
    does not grow with `count`. `save_latents` is a file for the vectors. Each pixel is repeated
    `scale` times; above the columns of an enlarged grid are the names of their classes.
    """
    network = sampler.network
    cells = empty_grid(sampler, count, classes, scale) if grid else None

    def label_of(number: int) -> str | None:
        return sampler.labels[classes[number % len(classes)]] if classes else None

    def path_of(folder: Path, number: int) -> Path:
        label = label_of(number)
        return folder / ("" if label is None else safe_name(label)) / f"{number:06}.png"

    def write_one(folder: Path, number: int, picture: Tensor) -> SampleFile:
        path = path_of(folder, number)
        images.save(to_pillow(picture, scale), path)
        return SampleFile(str(path), number, 1, label_of(number))

    if separate is not None and is_dir(separate) and keeps_existing():
        for number in range(count):
            check_free(path_of(separate, number))

    def saved(file: SampleFile) -> SampleFile:
        note_saved(Path(file.path))
        return file

    def results() -> Iterator[SampleFile]:
        latent_file: AbstractContextManager[np.ndarray | None] = nullcontext()
        if save_latents is not None:
            latent_file = vector_files.open_for_writing(save_latents, count, network.latent)
        pending: deque[Future[SampleFile]] = deque()
        with latent_file as stored, ThreadPoolExecutor() as pool:
            try:
                for numbers, z, pixels in generate_batches(sampler, count, vectors, classes):
                    if stored is not None:
                        stored[numbers.start : numbers.stop] = z.numpy()
                    for number, picture in zip(numbers, pixels, strict=True):
                        if cells is not None:
                            cells.place(number, picture)
                        if separate is not None:
                            pending.append(pool.submit(write_one, separate, number, picture))
                    while len(pending) > MAX_PENDING:
                        yield saved(pending.popleft().result())
                while pending:
                    yield saved(pending.popleft().result())
            finally:
                pool.shutdown(cancel_futures=True)
        if cells is not None and grid is not None:
            images.save(cells.image(), grid)
            label = sampler.labels[classes[0]] if len(classes) == 1 else None
            yield saved(SampleFile(str(grid), 0, count, label))
        if save_latents is not None:
            note_saved(save_latents)

    return results()
