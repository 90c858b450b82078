"""Translation of pictures from one domain to the other, by a CycleGAN.

Shapes: B pictures, C channels, H x W pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io import image_files
from dlkit.core.io.files import FileNames, check_free, keeps_existing, note_saved
from dlkit.core.parallel import device
from dlkit.core.parallel.sharding import map_shard, remaining_jobs
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.gan_sample.data import from_uint8, to_gray, to_uint8
from dlkit.gan_sample.grid import to_pillow
from dlkit.gan_sample.infer import Translator

MULTIPLE = 4  # of the sides, which are halved twice
MIN_SIDE = 8  # in pixels


@dataclass(frozen=True)
class TranslatedImage:
    """A picture, and the file and size of its translation."""

    noun: ClassVar = "picture"
    units: ClassVar = {"width": "px", "height": "px"}

    path: str
    output: str
    width: int
    height: int


def translate_images(
    paths: Iterable[str],
    translator: Translator,
    folder: Path,
    back: bool = False,
    image_size: int | None = None,
    workers: int = 2,
    shard: str | None = None,
    resume: bool = False,
) -> Iterator[TranslatedImage | Failure]:
    """Translate each picture to domain B, or `back` to A, as `folder`/NAME.png, in input order.

    `image_size` is the longest side of the result; None: the training size. `shard` selects a part
    of the pictures, `resume` those without a result; processes of torchrun share them.
    """
    side = image_size or translator.network.image_size

    def read(path: str) -> Tensor:
        pixels = images.read(path, side).pixels
        return to_gray(pixels) if translator.network.channels == 1 else pixels

    def results(remaining: Iterator[tuple[str, Path]]) -> Iterator[TranslatedImage | Failure]:
        ahead, remaining = tee(remaining)
        sources = track((path for path, _ in ahead), "translating")
        for entry, (path, target) in zip(each(read, sources, workers), remaining, strict=True):
            if isinstance(entry, Failure):
                yield entry
                continue
            (output,) = translate_batch(translator, entry[None], back)
            try:
                images.save(to_pillow(output), target)
            except DlkitError as error:
                yield Failure(path, error.reason_for(path))
                continue
            note_saved(target)
            yield TranslatedImage(path, str(target), output.shape[2], output.shape[1])

    def jobs() -> Iterator[tuple[str, Path]]:
        names = FileNames(folder)
        return ((path, names.reserve(path, ".png")) for path in image_files.files(paths))

    if keeps_existing():
        for _, target in remaining_jobs(jobs(), shard, False, lambda _: False):
            check_free(target)
    remaining = remaining_jobs(jobs(), shard, resume, lambda job: job[1].exists())
    return map_shard(results, remaining, str(translator.device))


@torch.inference_mode()
def translate_batch(translator: Translator, pixels: Tensor, back: bool) -> Tensor:
    """Translate uint8 pictures (B, C, H, W) to the other domain, at the same size."""
    height, width = pixels.shape[2:]
    # Replicate the edge until sides are multiples of 4 and large enough for reflection padding.
    right, down = (
        max(-(-side // MULTIPLE) * MULTIPLE, MIN_SIDE) - side for side in (width, height)
    )
    padding = (0, right, 0, down)
    padded = F.pad(from_uint8(pixels.to(translator.device)), padding, mode="replicate")
    with device.autocast(translator.device, translator.precision):
        output = translator.network.translate(padded, back)
    return to_uint8(output[:, :, :height, :width]).cpu()
