"""Generated pictures in memory, as Python gets them.

Shapes: N pictures, C channels, S x S pixels, Z numbers of a latent vector.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.io.files import SAVED_SUFFIXES, safe_name
from dlkit.core.io.results import Result, unknown_suffix
from dlkit.core.vision import images
from dlkit.core.vision.results import html_picture
from dlkit.gan_sample.grid import to_pillow
from dlkit.gan_sample.infer import Sampler, VectorSource, empty_grid, generate_batches

SHOWN_SIDE = 64  # least side of a picture in a notebook, in pixels


@dataclass(frozen=True, eq=False)
class Samples(Result):
    """Pictures that a model generated: a sequence, shown as a grid.

    `labels` has the class of each picture, None for a model without classes; `latents` (N, Z) are
    the vectors that they were generated from, `pixels` (N, C, S, S) the pictures as uint8.
    """

    sampler: Sampler = field(repr=False)
    classes: list[int] = field(repr=False)
    labels: list[str | None]
    latents: np.ndarray = field(repr=False)
    pixels: Tensor = field(repr=False)

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures as PIL images."""
        return [to_pillow(picture) for picture in self.pixels]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, number: int) -> Image.Image:
        return to_pillow(self.pixels[number])

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.pictures)

    def __repr__(self) -> str:
        side = self.sampler.network.image_size
        return f"<{len(self)} pictures of {self.sampler.name}, {side} x {side} pixels>"

    def grid(self, scale: int = 1) -> Image.Image:
        """All pictures in a grid, each pixel repeated `scale` times."""
        cells = empty_grid(self.sampler, len(self), self.classes, scale)
        for number, picture in enumerate(self.pixels):
            cells.place(number, picture)
        return cells.image()

    def rows(self) -> list[dict[str, Any]]:
        """The number and the class of each picture."""
        return [{"number": n, "label": label} for n, label in enumerate(self.labels)]

    def save(self, path: "str | os.PathLike[str]", scale: int = 1) -> Path:
        """Write the grid to an image file, or, if `path` has no suffix, each picture to a folder.

        The folder has files NUMBER.png, or LABEL/NUMBER.png for a model with classes. Each pixel is
        repeated `scale` times. Returns the path. Raises DlkitError for another suffix.
        """
        target = Path(path)
        if not target.suffix:
            for number, label in enumerate(self.labels):
                picture = to_pillow(self.pixels[number], scale)
                images.save(
                    picture,
                    target / (safe_name(label) if label is not None else "") / f"{number:06}.png",
                )
        elif target.suffix.lower() in SAVED_SUFFIXES:
            images.save(self.grid(scale), target)
        else:
            raise unknown_suffix(target, sorted(SAVED_SUFFIXES))
        return target

    def _repr_html_(self) -> str:
        return html_picture(self.grid(-(-SHOWN_SIDE // self.sampler.network.image_size)))


def draw_samples(
    sampler: Sampler, count: int, vectors: VectorSource, classes: Sequence[int]
) -> Samples:
    """Generate `count` pictures, cycling through `classes`."""
    drawn = list(generate_batches(sampler, count, vectors, classes))
    labels = [sampler.labels[classes[n % len(classes)]] if classes else None for n in range(count)]
    return Samples(
        sampler,
        list(classes),
        labels,
        torch.cat([z for _, z, _ in drawn]).numpy(),
        torch.cat([pixels for _, _, pixels in drawn]),
    )
