"""Features of a frozen encoder, computed once for all epochs and kept in a file.

The file is a safetensors file like a model's. Its header describes the encoder and lists the
images; the feature maps are stored in half precision.

Shapes: N images, F = 2 (as they are, and mirrored), P locations of C channels, B of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from dlkit.caption.models.captioner import Captioner
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io.files import exists
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header, digest, read_header
from dlkit.core.store.mapped import map_arrays, write_arrays
from dlkit.core.vision.images import Fit

TASK, ARCH = "caption", "features"  # of the file's header
BATCH = 32  # images that are encoded together


class EncoderSettings(TypedDict):
    """The part of the header that must match for a file of features to be used."""

    encoder: str  # its name
    weights: str  # their digest, empty without an encoder
    image_size: int
    fit: Fit
    grid: list[int]  # rows and columns of locations


class FeaturesSettings(EncoderSettings):
    """The settings in the header of a file of features."""

    images: list[str]  # the keys of the images, by rows
    unreadable: dict[str, str]  # the keys of the images that could not be read, and why


def features_settings(header: Header) -> FeaturesSettings:
    """The settings of the header of a file of features."""
    settings: FeaturesSettings = schema.fit(FeaturesSettings, header.settings)
    return settings


@dataclass(frozen=True)
class Features:
    """The memories of images: `maps` float16 (N, F, P, C), and the row of each image's path.

    `unreadable` has the images that could not be read, with the reasons.
    """

    rows: dict[str, int]
    maps: np.ndarray
    unreadable: dict[str, str]

    def memories(self, paths: Sequence[str], mirrored: np.ndarray | None = None) -> Tensor:
        """The memories (B, P, C) of these images, mirrored where `mirrored` (B) is true."""
        rows = [self.rows[path] for path in paths]
        sides = 0 if mirrored is None else mirrored.astype(int)
        return torch.from_numpy(self.maps[rows, sides].astype(np.float32))


def load_features(
    file: Path, model: Captioner, name: str, paths: Sequence[str], process: Process, workers: int
) -> Features:
    """The features of these images by the model's encoder, called `name`.

    The main process computes and stores them where the file does not hold them all. Raises
    DlkitError for a file of another encoder, or of another kind.
    """
    about = describe_encoder(model, name)
    if process.is_main:
        stored = stored_images(file, about) if exists(file) else set()
        if not stored >= {image_key(path) for path in paths}:
            write_features(file, model, about, paths, process.device, workers)
    process.barrier()
    header, arrays = map_arrays(file, TASK)
    named = {image_key(path): path for path in paths}
    settings = features_settings(header)
    rows = {named[k]: row for row, k in enumerate(settings["images"]) if k in named}
    bad = {named[k]: why for k, why in settings["unreadable"].items() if k in named}
    return Features(rows, arrays["maps"], bad)


def describe_encoder(model: Captioner, name: str) -> EncoderSettings:
    """The settings of the model's encoder, called `name`."""
    return {
        "encoder": name,
        "weights": digest("", model.encoder.state_dict()) if model.encoder else "",
        "image_size": model.preprocessing.image_size,
        "fit": model.preprocessing.fit,
        "grid": list(model.grid),
    }


def image_key(path: str) -> str:
    """The identity of an image in the file: its name and folder, and its size in bytes."""
    file = Path(path)
    return f"{file.parent.name}/{file.name}:{file.stat().st_size}"


def stored_images(file: Path, about: EncoderSettings) -> set[str]:
    """The keys of the images that were read, or could not be, when the file was written.

    Raises DlkitError if the file is not of the encoder described by `about`.
    """
    header = read_header(file, TASK)
    if header.arch != ARCH:
        raise DlkitError("a captioner, not a file of features; give another --features", file)
    stored = features_settings(header)
    if {name: header.settings[name] for name in about} == about:
        return {*stored["images"], *stored["unreadable"]}
    raise DlkitError(
        f"made by the encoder {format_encoder(stored)}, not by {format_encoder(about)}; remove it,"
        " or give another --features",
        file,
    )


def format_encoder(about: EncoderSettings) -> str:
    rows, columns = about["grid"] or (0, 0)
    weights = f" {about['weights'][:8]}" if about["weights"] else ""
    size = f"{about['image_size']} pixels, {about['fit']}, {rows} x {columns} locations"
    return f"{about['encoder']}{weights} ({size})"


def write_features(
    file: Path,
    model: Captioner,
    about: EncoderSettings,
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
        unreadable |= {
            image_key(path): read.error for path, read in batch if isinstance(read, Failure)
        }
        good = [(path, read) for path, read in batch if not isinstance(read, Failure)]
        if good:
            start = len(images)
            images += [image_key(path) for path, _ in good]
            pixels = torch.stack([read for _, read in good])
            for side, memory in enumerate(encode_both_sides(model, pixels.to(device))):
                maps[start : len(images), side] = memory.float().cpu().numpy()
    if not images:
        raise DlkitError(f"none of the {len(paths)} images can be read")
    settings: FeaturesSettings = {**about, "images": images, "unreadable": unreadable}
    write_arrays(file, {"maps": maps[: len(images)]}, Header(TASK, ARCH, settings, []))
    log(f"{file}: {len(images)} images, {file.stat().st_size / 1e6:.0f} MB of features")


@torch.inference_mode()
def encode_both_sides(model: Captioner, pixels: Tensor) -> Iterator[Tensor]:
    """The memories (B, P, C) of images of values to 255, as they are, then mirrored."""
    images = model.preprocessing.normalize(pixels)
    yield model.encode(images)
    yield model.encode(images.flip(-1))
