"""From image files to label maps: `segment()`, and what evaluation and training share with it.

Shapes: B images of a batch, C classes; H x W are the pixels of an image as shown, h x w those that
the network sees. A label map holds the number of a class at each pixel.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io.files import FileNames, whole_file
from dlkit.core.parallel import device
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.core.vision.batches import WINDOW, next_window, of_one_shape
from dlkit.core.vision.drawing import Color
from dlkit.core.vision.images import Picture
from dlkit.core.vision.tile import in_tiles
from dlkit.segment import rle, torchvision_zoo
from dlkit.segment.config import DEFAULT_MODEL, PUBLISHED
from dlkit.segment.draw import index_picture, overlay, palette
from dlkit.segment.model import build

SCALES = (0.75, 1.0, 1.25)  # of the views that --tta averages, each as it is and mirrored
STRIP_PIXELS = 1_000_000  # of a large image whose classes are worked out together


@dataclass(frozen=True)
class Region:
    """All pixels of one class: their share of the image, the box around them, and the mask.

    The box is in pixels of the image as shown, x2 and y2 behind the last; `rle` is COCO's.
    """

    label: str
    fraction: float
    x1: int
    y1: int
    x2: int
    y2: int
    rle: dict[str, Any] | None = None


@dataclass(frozen=True)
class Segmentation:
    """The classes in one image, the largest first."""

    columns: ClassVar = ["path", "label", "fraction", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    segments: list[Region]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"path": self.path, **{k: v for k, v in vars(region).items() if k != "rle"}}
            for region in self.segments
        ]


@dataclass(frozen=True)
class LabelMap:
    """What is predicted for one image: labels (H, W), and if wanted probabilities (C, H, W)."""

    labels: np.ndarray  # uint8
    probabilities: np.ndarray | None = None  # float16


@dataclass(frozen=True)
class Method:
    """How images are computed.

    `image_size` is the longest side the network sees; None: as trained, and the image's own in
    tiles. `tile` is the side of tiles; None: the image as a whole. `tta` averages several views.
    """

    image_size: int | None = None
    tile: int | None = None
    tta: bool = False
    batch_size: int = 4
    workers: int = 2


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict, and what belongs to it."""

    network: Any  # a Segmenter, or a MaskRCNN, which finds objects
    labels: list[str]
    image_size: int | None
    device: torch.device
    colors: list[Color]
    autocast: str = "fp32"  # in training, whose weights stay fp32; prepared ones need none

    @property
    def finds_objects(self) -> bool:
        """Whether it finds objects one by one, and does not label pixels."""
        return bool(self.network.instances)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, C, h, w) of uint8 images (B, 3, h, w)."""
        return self.look(self.network.normalize(pixels.to(self.device)))

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor, tta: bool) -> Tensor:
        """Probabilities (B, C, h, w) of uint8 images (B, 3, h, w); with `tta` of several views."""
        inputs = self.network.normalize(pixels.to(self.device))
        if not tta:
            return self.look(inputs).softmax(dim=1)
        size = inputs.shape[-2:]
        total = torch.zeros((), device=self.device)
        for scale in SCALES:
            seen = tuple(max(images.SMALLEST_SIDE, round(scale * side)) for side in size)
            scaled = resized(inputs, seen)
            for view in (self.look(scaled), self.look(scaled.flip(3)).flip(3)):
                total = total + resized(view, size).softmax(dim=1)
        return total / (2 * len(SCALES))

    def look(self, inputs: Tensor) -> Tensor:
        with device.autocast(self.device, self.autocast):
            logits: Tensor = self.network(inputs)
        return logits


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, K, h, w) at another size, bilinear."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def load(
    model: str = DEFAULT_MODEL, device_name: str = "auto", precision: str = "auto"
) -> Predictor:
    """The segmenter of that name, file or URL, in its inference form on the device."""
    chosen = device.choose(device_name)
    device.tune_malloc()
    if model in PUBLISHED:
        path = torchvision_zoo.fetch(model)
    else:
        path = weights.find("segment", model, PUBLISHED)
    header, tensors = checkpoint.load(path, "segment")
    try:
        network = build(header.arch, len(header.labels), **header.settings)
        network.load_state_dict(tensors)
        image_size = header.config["image_size"]
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{model}: its weights or settings do not fit the architecture {header.arch};"
            f" it was made by dlkit {header.dlkit}"
        ) from error
    network.eval().to(chosen).to(memory_format=torch.channels_last)
    network.prepare(device.dtype(chosen, precision))
    return Predictor(network, header.labels, image_size, chosen, palette(len(header.labels)))


def segment(
    paths: Iterable[str],
    predictor: Predictor,
    method: Method = Method(),
    classes: Sequence[str] | None = None,
    masks: bool = False,
    save: Path | None = None,
    probabilities: Path | None = None,
    shard: Shard | None = None,
) -> Iterator[Segmentation | Failure]:
    """The classes in each image, in input order; a Failure for one that cannot be read.

    `classes` leaves out all others; `masks` adds run-length coded masks. Into the folder `save`
    go NAME.png, the label map with a palette, and NAME-overlay.jpg; into `probabilities` NAME.npz.
    Only the `shard` of the images is segmented; without one, the processes share them.
    """
    wanted = chosen_classes(predictor, classes)
    drawn = [label if k in wanted else "" for k, label in enumerate(predictor.labels)]

    def results(named: Iterator[tuple[str, Targets]]) -> Iterator[Segmentation | Failure]:
        targets: deque[Targets] = deque()

        def shared() -> Iterator[str]:
            for path, target in named:
                targets.append(target)
                yield path

        keep = probabilities is not None
        for path, picture, found in predict(predictor, track(shared(), "segmenting"), method, keep):
            target = targets.popleft()
            if isinstance(picture, Failure):
                yield picture
                continue
            assert found is not None
            if target.map is not None:
                try:
                    shown = full(path, picture)
                except DlkitError as error:  # a URL may fail the second time
                    yield Failure(path, str(error))
                    continue
                save_pictures(shown, found.labels, predictor.colors, drawn, target.map)
            if target.probabilities is not None and found.probabilities is not None:
                save_array(found.probabilities, predictor.labels, target.probabilities)
            regions = regions_of(found.labels, predictor.labels, wanted, masks)
            yield Segmentation(path, picture.width, picture.height, regions)

    # Named before they are shared, so that all processes agree on the names.
    named = with_targets(images.files(paths), save, probabilities)
    return map_shard(results, named, str(predictor.device), shard)


@dataclass(frozen=True)
class Targets:
    """The files that are written for one image."""

    map: Path | None
    probabilities: Path | None


def with_targets(
    paths: Iterable[str], save: Path | None, probabilities: Path | None
) -> Iterator[tuple[str, Targets]]:
    """Each path with the files to write for it."""
    maps = None if save is None else FileNames(save)
    arrays = None if probabilities is None else FileNames(probabilities)
    for path in paths:
        yield (
            path,
            Targets(
                None if maps is None else maps.path_for(path, ".png"),
                None if arrays is None else arrays.path_for(path, ".npz"),
            ),
        )


def chosen_classes(predictor: Predictor, classes: Sequence[str] | None) -> set[int]:
    if classes is None:
        return set(range(len(predictor.labels)))
    unknown = [name for name in classes if name not in predictor.labels]
    if unknown:
        raise DlkitError(
            f"the model knows no {', '.join(unknown)}: its classes are"
            f" {', '.join(predictor.labels)}"
        )
    return {predictor.labels.index(name) for name in classes}


def regions_of(
    labels: np.ndarray, names: Sequence[str], wanted: set[int], masks: bool
) -> list[Region]:
    """The classes in a label map, the largest first."""
    counts = np.bincount(labels.reshape(-1), minlength=len(names))
    regions = []
    for k in np.argsort(-counts, kind="stable").tolist():
        if counts[k] and k in wanted:
            mask = labels == k
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            regions.append(
                Region(
                    names[k],
                    round(float(counts[k]) / labels.size, 5),
                    int(columns[0]),
                    int(rows[0]),
                    int(columns[-1]) + 1,
                    int(rows[-1]) + 1,
                    rle.encode(mask) if masks else None,
                )
            )
    return regions


def predict(
    predictor: Predictor,
    paths: Iterable[str],
    method: Method = Method(),
    probabilities: bool = False,
) -> Iterator[tuple[str, Picture | Failure, LabelMap | None]]:
    """Each path with its picture (or Failure) and its label map, in order.

    Images are decoded ahead in threads, and run in batches of equal shape; in tiles one by one.
    """
    side = method.image_size or (predictor.image_size if method.tile is None else None)
    workers = 0 if method.tile is not None else method.workers
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := next_window(pictures, 1 if method.tile else WINDOW * method.batch_size):
        found: dict[int, LabelMap] = {}
        for members in of_one_shape(window, method.batch_size):
            batch = [window[index][1] for index in members]  # type: ignore[index]
            maps = predict_batch(predictor, batch, method, probabilities)
            found.update(zip(members, maps, strict=True))
        for index, entry in enumerate(window):
            if isinstance(entry, Failure):
                yield entry.path, entry, None
            else:
                yield *entry, found.pop(index)


def predict_batch(
    predictor: Predictor, pictures: Sequence[Picture], method: Method, probabilities: bool
) -> list[LabelMap]:
    """The label maps of pictures of one shape, each at its own size."""
    if method.tile is not None:
        (picture,) = pictures
        strips = in_tiles(
            lambda part: predictor.probabilities(part, method.tta),
            picture.pixels,
            method.tile,
            predictor.network.stride,
        )
        if picture.pixels.shape[1:] != (picture.height, picture.width):
            strips = enlarged(torch.cat(list(strips), dim=1), picture.height, picture.width)
        return [label_map(strips, picture, probabilities)]
    batch = torch.stack([picture.pixels for picture in pictures])
    if probabilities or method.tta:
        scores = predictor.probabilities(batch, method.tta)
    else:
        scores = predictor.logits(batch)
    return [
        label_map(enlarged(own, picture.height, picture.width), picture, probabilities)
        for own, picture in zip(scores, pictures, strict=True)
    ]


@torch.inference_mode()
def label_map(strips: Iterator[Tensor], picture: Picture, probabilities: bool) -> LabelMap:
    """The class that scores best at each pixel, from strips (C, rows, W) from the top down."""
    labels = np.empty((picture.height, picture.width), np.uint8)
    kept: np.ndarray | None = None
    top = 0
    for strip in strips:
        below = top + strip.shape[1]
        # max is several times as fast as argmax over the first dimension.
        labels[top:below] = strip.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        if probabilities:
            if kept is None:
                kept = np.empty((len(strip), *labels.shape), np.float16)
            kept[:, top:below] = strip.half().cpu().numpy()
        top = below
    return LabelMap(labels, kept)


@torch.inference_mode()
def enlarged(scores: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Scores (C, h, w) at another size, bilinear, in strips (C, rows, width) from the top down."""
    if scores.shape[1:] == (height, width):
        yield scores
        return
    last = scores.shape[1] - 1
    places = ((torch.arange(height) + 0.5) * (last + 1) / height - 0.5).clamp(0, last)
    places = places.to(scores.device)
    above = places.long()
    share = (places - above)[:, None]
    for rows in torch.arange(height, device=scores.device).split(max(1, STRIP_PIXELS // width)):
        upper, lower = scores[:, above[rows]], scores[:, (above[rows] + 1).clamp(max=last)]
        strip = torch.lerp(upper, lower, share[rows])
        yield resized(strip[None], (len(rows), width))[0]


def full(path: str, picture: Picture) -> Picture:
    """The picture at the image's own size, read again unless it is."""
    if picture.pixels.shape[1:] == (picture.height, picture.width):
        return picture
    return images.read(path)


def save_pictures(
    picture: Picture,
    labels: np.ndarray,
    colors: Sequence[Color],
    names: Sequence[str],
    target: Path,
) -> None:
    """Write the label map to `target`, and beside it the overlay with the classes in `names`."""
    images.save(index_picture(labels, colors), target)
    shown = overlay(images.as_pillow(picture), labels, colors, names)
    images.save(shown, overlay_path(target))


def overlay_path(target: Path) -> Path:
    """Where the overlay of a label map lies."""
    return target.with_name(f"{target.stem}-overlay.jpg")


def save_array(probabilities: np.ndarray, names: Sequence[str], target: Path) -> None:
    """Write `probabilities` (C, H, W) in float16, and `labels`, the classes' names."""
    with whole_file(target) as partial, partial.open("wb") as file:
        np.savez(file, probabilities=probabilities, labels=np.array(names))
