"""Pictures of one domain as ones of the other, by a cyclegan.

Shapes: B pictures, C channels, H x W pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.failures import Failure, each
from dlkit.core.io.files import FileNames
from dlkit.core.parallel import device
from dlkit.core.parallel.sharding import map_shard, remaining_jobs
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.gan_sample.data import from_bytes, gray, to_bytes
from dlkit.gan_sample.grid import as_image
from dlkit.gan_sample.infer import Sampler

STEP = 4  # pixels of which sides are multiples: they are halved twice
LEAST = 8  # pixels a side


@dataclass(frozen=True)
class Translated:
    """A picture and the file of its translation."""

    path: str
    output: str
    width: int
    height: int


def translate_images(
    paths: Iterable[str],
    sampler: Sampler,
    folder: Path,
    back: bool = False,
    image_size: int | None = None,
    workers: int = 2,
    shard: str | None = None,
    resume: bool = False,
) -> Iterator[Translated | Failure]:
    """Each picture as one of domain B, or `back` of A, in `folder`/NAME.png, in input order.

    `image_size` is the longest side of the result; None: as trained. Of the pictures only those of
    a `shard` are translated, and with `resume` those that are not there yet. Under torchrun the
    processes share them.
    """
    side = image_size or sampler.network.image_size

    def read(path: str) -> Tensor:
        pixels = images.read(path, side).pixels
        return gray(pixels) if sampler.network.channels == 1 else pixels

    def made(left: Iterator[tuple[str, Path]]) -> Iterator[Translated | Failure]:
        ahead, left = tee(left)
        sources = track((path for path, _ in ahead), "translating")
        for entry, (path, target) in zip(each(read, sources, workers), left, strict=True):
            if isinstance(entry, Failure):
                yield entry
                continue
            (found,) = translated(sampler, entry[None], back)
            images.save(as_image(found), target)
            yield Translated(path, str(target), found.shape[2], found.shape[1])

    names = FileNames(folder)
    jobs = ((path, names.path_for(path, ".png")) for path in images.files(paths))
    left = remaining_jobs(jobs, shard, resume, lambda job: job[1].exists())
    return map_shard(made, left, str(sampler.device))


@torch.inference_mode()
def translated(sampler: Sampler, pixels: Tensor, back: bool) -> Tensor:
    """uint8 pictures (B, C, H, W) in the other domain, of the same size."""
    height, width = pixels.shape[2:]
    # The edge goes on to where sides are multiples of STEP, and maps wide enough to be reflected.
    right, down = (max(-(-side // STEP) * STEP, LEAST) - side for side in (width, height))
    padding = (0, right, 0, down)
    given = F.pad(from_bytes(pixels.to(sampler.device)), padding, mode="replicate")
    with device.autocast(sampler.device, sampler.precision):
        found = sampler.network.translate(given, back)
    return to_bytes(found[:, :, :height, :width]).cpu()
