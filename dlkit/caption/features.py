"""What a frozen encoder makes of images, kept in a file: it is computed once for all epochs.

The file is a safetensors file like a model's. Its header says which encoder made it, and of which
images; maps are in half precision.

Shapes: N images, F = 2 as they are and mirrored, P places of C numbers, B of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.caption.model import Captioner
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.store.checkpoint import Header, digest, read_header
from dlkit.core.store.mapped import map_arrays, write_arrays

TASK, ARCH = "caption", "features"  # what the header says in place of a model's
BATCH = 32  # images that are encoded at once


@dataclass(frozen=True)
class Features:
    """The memories of images: `maps` float16 (N, F, P, C), and the row of each image's path.

    `unreadable` are the images that were asked for and could not be read, and why.
    """

    rows: dict[str, int]
    maps: np.ndarray
    unreadable: dict[str, str]

    def of(self, paths: Sequence[str], mirrored: np.ndarray | None = None) -> Tensor:
        """The memories (B, P, C) of these images, of some of them `mirrored` (B)."""
        rows = [self.rows[path] for path in paths]
        sides = 0 if mirrored is None else mirrored.astype(int)
        return torch.from_numpy(self.maps[rows, sides].astype(np.float32))


def features(
    file: Path, model: Captioner, name: str, paths: Sequence[str], process: Process, workers: int
) -> Features:
    """The features of these images by the model's encoder, called `name`; from the file if it can.

    Raises DlkitError for a file that another encoder made, or that is something else.
    """
    about = description(model, name)
    if process.is_main:
        held = known(file, about) if file.exists() else set()
        if not held >= {key(path) for path in paths}:
            make(file, model, about, paths, process.device, workers)
    process.barrier()
    header, arrays = map_arrays(file, TASK)
    named = {key(path): path for path in paths}
    rows = {named[k]: row for row, k in enumerate(header.settings["images"]) if k in named}
    bad = {named[k]: why for k, why in header.settings["unreadable"].items() if k in named}
    return Features(rows, arrays["maps"], bad)


def description(model: Captioner, name: str) -> dict[str, Any]:
    """What a file of features has to agree in."""
    return {
        "encoder": name,
        "weights": digest("", model.encoder.state_dict()) if model.encoder else "",
        "image_size": model.preprocessing.image_size,
        "fit": model.preprocessing.fit,
        "grid": list(model.grid),
    }


def key(path: str) -> str:
    """What an image is known by: its name and folder, and its size in bytes."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}:{file.stat().st_size}"


def known(file: Path, about: dict[str, Any]) -> set[str]:
    """The images that the file has, or could not have; a DlkitError if it is of another encoder."""
    header = read_header(file, TASK)
    if header.arch != ARCH:
        raise DlkitError(f"{file} is a captioner, not a file of features: give another --features")
    theirs = {name: header.settings.get(name) for name in about}
    if theirs == about:
        return {*header.settings["images"], *header.settings["unreadable"]}
    raise DlkitError(
        f"{file} was made by the encoder {told(theirs)}, not by {told(about)}:"
        " remove it, or give another --features"
    )


def told(about: dict[str, Any]) -> str:
    rows, columns = about["grid"] or (0, 0)
    weights = f" {about['weights'][:8]}" if about["weights"] else ""
    size = f"{about['image_size']} pixels, {about['fit']}, {rows} x {columns} places"
    return f"{about['encoder']}{weights} ({size})"


def make(
    file: Path,
    model: Captioner,
    about: dict[str, Any],
    paths: Sequence[str],
    device: torch.device,
    workers: int,
) -> None:
    """Encode the images, and write the file."""
    rows, columns = model.grid
    maps = np.empty((len(paths), 2, rows * columns, model.channels), np.float16)
    images: list[str] = []
    unreadable: dict[str, str] = {}
    read = each(model.preprocessing.read, paths, workers)
    pairs = zip(paths, track(read, "encoding", len(paths)), strict=True)
    while batch := list(islice(pairs, BATCH)):
        unreadable |= {key(path): read.error for path, read in batch if isinstance(read, Failure)}
        good = [(path, read) for path, read in batch if not isinstance(read, Failure)]
        if good:
            start = len(images)
            images += [key(path) for path, _ in good]
            pixels = torch.stack([read for _, read in good])
            for side, memory in enumerate(both_sides(model, pixels.to(device))):
                maps[start : len(images), side] = memory.float().cpu().numpy()
    if not images:
        raise DlkitError(f"none of the {len(paths)} images can be read")
    settings = {**about, "images": images, "unreadable": unreadable}
    write_arrays(file, {"maps": maps[: len(images)]}, Header(TASK, ARCH, settings, []))
    log(f"{file}: {len(images)} images, {file.stat().st_size / 1e6:.0f} MB of features")


@torch.inference_mode()
def both_sides(model: Captioner, pixels: Tensor) -> Iterator[Tensor]:
    """The memories (B, P, C) of images of values to 255, as they are and mirrored."""
    images = model.preprocessing.normalize(pixels)
    yield model.encode(images)
    yield model.encode(images.flip(-1))
