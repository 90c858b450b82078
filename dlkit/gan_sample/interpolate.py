"""From one picture to another on the sphere that latent vectors lie on.

Shapes: P points on the way, Z numbers of a latent vector, N pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.vision import images
from dlkit.gan_sample import latents
from dlkit.gan_sample.grid import Sheet, save_animation, square
from dlkit.gan_sample.infer import Drawn, Sampler

MILLISECONDS = 60  # of a GIF's frame


def points_of(sampler: Sampler, names: Sequence[str], truncation: float | None) -> Tensor:
    """Vectors (P, Z) of pictures named SEED, or SEED:NUMBER for those after its first, 0."""
    rows = []
    for name in names:
        seed, _, number = name.partition(":")
        if not (seed.isdecimal() and (number.isdecimal() or seed == name)):
            raise DlkitError(f"{name!r}: a picture is SEED, such as 7, or SEED:NUMBER, such as 0:3")
        rows.append(latents.draw(int(seed), [int(number or 0)], sampler.network.latent, truncation))
    return torch.cat(rows)


def interpolate(
    sampler: Sampler, points: Tensor, steps: int, classes: Sequence[int], output: Path
) -> Drawn:
    """Pictures from each of the points (P, Z) to the next, `steps` of them with both ends.

    In a strip each way is a row, or with classes a row for each of them; in a GIF each picture is
    a frame, with the classes side by side.
    """
    if len(points) < 2:
        raise DlkitError("one point is no way to go: give two seeds or more")
    shares = torch.linspace(0, 1, steps)
    pairs = zip(points[:-1], points[1:], strict=True)
    ways = [latents.slerp(start, end, shares) for start, end in pairs]
    network = sampler.network
    moving = output.suffix.lower() == ".gif"
    kinds: Sequence[int | None] = classes or [None]
    if moving:
        # A way's end is the next one's start.
        frames = torch.cat([*(way[:-1] for way in ways), points[-1:]])
        rows, columns = [(frames, kind) for kind in kinds], square(len(kinds))
        sheets = [Sheet(len(kinds), columns, network.image_size, network.channels) for _ in frames]
    else:
        rows = [(way, kind) for way in ways for kind in kinds]
        sheets = [Sheet(len(rows) * steps, steps, network.image_size, network.channels)]
    for row, (z, kind) in enumerate(rows):
        labels = None if kind is None else torch.full((len(z),), kind)
        for step, picture in enumerate(sampler.pictures(z, labels)):
            sheets[step if moving else 0].put(row if moving else row * steps + step, picture)
    if moving:
        save_animation([sheet.image() for sheet in sheets], output, MILLISECONDS)
    else:
        images.save(sheets[0].image(), output)
    label = sampler.labels[classes[0]] if len(classes) == 1 else None
    return Drawn(str(output), 0, sum(len(z) for z, _ in rows), label)
