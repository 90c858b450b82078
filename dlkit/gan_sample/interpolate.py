"""Interpolation between pictures, on the sphere of the latent vectors.

Shapes: P points, Z numbers of a latent vector, N pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import note_saved
from dlkit.core.vision import images
from dlkit.gan_sample import latents
from dlkit.gan_sample.grid import ImageGrid, square_columns
from dlkit.gan_sample.infer import SampleFile, Sampler

MILLISECONDS = 60  # of a GIF's frame


def parse_points(sampler: Sampler, names: Sequence[str], truncation: float | None) -> Tensor:
    """Vectors (P, Z) of pictures named SEED or SEED:NUMBER; NUMBER is 0 by default."""
    rows = []
    for name in names:
        seed, _, number = name.partition(":")
        if not (seed.isdecimal() and (number.isdecimal() or seed == name)):
            raise DlkitError(
                f"{name!r}: not a picture; give SEED, such as 7, or SEED:NUMBER, such as 0:3"
            )
        rows.append(latents.draw(int(seed), [int(number or 0)], sampler.network.latent, truncation))
    return torch.cat(rows)


def interpolate(
    sampler: Sampler,
    points: Tensor,
    steps: int,
    classes: Sequence[int],
    output: Path,
    scale: int = 1,
) -> SampleFile:
    """Draw `steps` pictures from each of the points (P, Z) to the next, both ends included.

    In a strip, each pair of points is a row, or with classes a row per class; in a GIF, each step
    is a frame with the classes side by side. Each pixel is repeated `scale` times.
    """
    if len(points) < 2:
        raise DlkitError("SEEDS: one point has no neighbor; give two seeds or more")
    shares = torch.linspace(0, 1, steps)
    pairs = zip(points[:-1], points[1:], strict=True)
    arcs = [latents.slerp(start, end, shares) for start, end in pairs]
    network = sampler.network
    animated = output.suffix.lower() == ".gif"
    class_indices: Sequence[int | None] = classes or [None]
    if animated:
        # The end of an arc is the start of the next.
        frames = torch.cat([*(arc[:-1] for arc in arcs), points[-1:]])
        rows, columns = (
            [(frames, class_index) for class_index in class_indices],
            square_columns(len(class_indices)),
        )
        grids = [
            ImageGrid(len(class_indices), columns, network.image_size, network.channels, scale)
            for _ in frames
        ]
    else:
        rows = [(arc, class_index) for arc in arcs for class_index in class_indices]
        grids = [ImageGrid(len(rows) * steps, steps, network.image_size, network.channels, scale)]
    for row, (z, class_index) in enumerate(rows):
        labels = None if class_index is None else torch.full((len(z),), class_index)
        for step, picture in enumerate(sampler.generate(z, labels)):
            grids[step if animated else 0].place(row if animated else row * steps + step, picture)
    if animated:
        images.save_gif([grid.image() for grid in grids], output, MILLISECONDS)
    else:
        images.save(grids[0].image(), output)
    note_saved(output)
    label = sampler.labels[classes[0]] if len(classes) == 1 else None
    return SampleFile(str(output), 0, sum(len(z) for z, _ in rows), label)
