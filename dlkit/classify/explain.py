"""Visual explanation: class activation maps, Grad-CAM, and boxes around their regions.

Shapes: B images of a batch, K maps of h x w places, L labels, S x S pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.infer import Classifier
from dlkit.classify.models.network import Network, PooledHead
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io import image_files
from dlkit.core.io.files import FileNames, note_saved, picture_suffix
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.core.vision.images import Fit, Picture

MapMethod = Literal["auto", "cam", "grad-cam"]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2

REGION_THRESHOLD = 0.2  # as a share of a map's maximum (Zhou et al. 2016, section 3.2)
GRID = 224  # side to which maps are upsampled before thresholding
MIN_PICTURE_SIDE, MAX_PICTURE_SIDE = 256, 1280  # pixels of a saved picture's longest side
# Red, green and blue of the heat map from cold to hot, and its opacity over the image.
COLORS = np.array([(20, 20, 130), (20, 140, 255), (120, 230, 120), (255, 210, 0), (220, 0, 0)])
OPACITY = 0.5
DIMMED = 0.35  # brightness of the part of an image that the network does not see


@dataclass(frozen=True)
class Explanation:
    """The most probable label of an image, or the requested one, with its probability."""

    path: str
    label: str
    score: float


@dataclass(frozen=True)
class Region:
    """The box around a region of the map, in pixels of the upright image."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Localization(Explanation):
    """An explanation with the regions of evidence for the label, largest first.

    Rows (text, csv) contain only the largest region, the predicted location of the object.
    """

    noun: ClassVar = "image"
    units: ClassVar = {"x1": "px", "y1": "px", "x2": "px", "y2": "px"}
    columns: ClassVar = ["path", "label", "score", "x1", "y1", "x2", "y2"]

    regions: list[Region]

    def rows(self) -> list[dict[str, Any]]:
        about = {"path": self.path, "label": self.label, "score": self.score}
        corners = vars(self.regions[0]) if self.regions else dict.fromkeys(("x1", "y1", "x2", "y2"))
        return [about | corners]


@dataclass(frozen=True)
class HeatMap:
    """The evidence for the label at each position (h, w) of the part that the network sees.

    `picture` is the image as the network sees it, with the upright image's width and height.
    """

    path: str
    picture: Picture
    label: str
    score: float
    heat: Tensor


def explain(
    paths: Iterable[str],
    classifier: Classifier,
    method: MapMethod = "auto",
    label: str | None = None,
    boxes: bool = False,
    threshold: float = REGION_THRESHOLD,
    names: FileNames | None = None,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Explanation | Failure]:
    """Yield an explanation of each image, in input order; a Failure for an unreadable one.

    Explains the most probable label, or `label`. With `boxes` the results are Localizations of the
    regions above `threshold`, a share of the map's maximum. Overlays of the maps are saved to files
    named by `names`. Only the images of `shard` are explained; without one, the processes under
    torchrun share them.
    """
    chosen = choose_method(classifier, method)
    index = None if label is None else label_index(classifier, label)

    def maps(shared: Iterator[str]) -> Iterator[HeatMap | Failure]:
        shared = track(shared, "explaining")
        return heat_maps(shared, classifier, chosen, index, batch_size, workers)

    def results() -> Iterator[Explanation | Failure]:
        fit = classifier.preprocessing.fit
        for found in map_shard(maps, image_files.files(paths), str(classifier.device), shard):
            if isinstance(found, Failure):
                yield found
                continue
            regions = find_regions(found, fit, threshold) if boxes else []
            if names is not None and is_main_process():
                try:
                    save_picture(found, fit, regions, names)
                except DlkitError as error:  # the file may have changed meanwhile
                    yield Failure(found.path, error.reason_for(found.path))
                    continue
            about = (found.path, found.label, round(found.score, 4))
            yield Localization(*about, regions) if boxes else Explanation(*about)

    return results()


def choose_method(classifier: Classifier, method: MapMethod) -> Literal["cam", "grad-cam"]:
    """Resolve `auto`. Raises DlkitError for networks that cannot be explained."""
    network = classifier.network
    if classifier.descriptor:
        raise DlkitError("the model predicts descriptors, not labels; use it with search")
    if not isinstance(network, Network) or isinstance(network.features, nn.Identity):
        raise DlkitError(
            "the network sees an image as flat pixels; only convolutional networks can be explained"
        )
    pooled = isinstance(network.head, PooledHead)
    if method == "cam" and not pooled:
        raise DlkitError(
            "--method cam: needs a network with global average pooling and one linear layer;"
            " use grad-cam"
        )
    return "cam" if pooled and method != "grad-cam" else "grad-cam"


def label_index(classifier: Classifier, label: str) -> int:
    """Return the index of a label. Raises DlkitError for an unknown one."""
    if label not in classifier.labels:
        some = ", ".join(classifier.labels[:20]) + (", ..." if len(classifier.labels) > 20 else "")
        raise DlkitError(f"--label {label}: unknown to the model; choose from {some}")
    return classifier.labels.index(label)


def heat_maps(
    paths: Iterable[str],
    classifier: Classifier,
    method: Literal["cam", "grad-cam"],
    label: int | None = None,
    batch_size: int = 64,
    workers: int = 2,
) -> Iterator[HeatMap | Failure]:
    """Yield the map of each image for its most probable label, or for `label`, in order.

    Images are decoded ahead in threads.
    """
    inputs = classifier.preprocessing
    decoded = each(lambda path: (path, inputs.picture(path)), paths, workers)
    while window := next_window(decoded, batch_size):
        pixels = [entry[1].pixels for entry in window if not isinstance(entry, Failure)]
        found = iter(batch_maps(classifier, torch.stack(pixels), method, label) if pixels else [])
        for entry in window:
            if isinstance(entry, Failure):
                yield entry
            else:
                (path, picture), (index, score, heat) = entry, next(found)
                name = classifier.labels[index]
                yield HeatMap(path, picture, name, score, heat)


def batch_maps(
    classifier: Classifier, pixels: Tensor, method: Literal["cam", "grad-cam"], label: int | None
) -> list[tuple[int, float, Tensor]]:
    """Return label, probability and map (h, w) on the CPU for uint8 images (B, C, S, S)."""
    network = classifier.network
    assert isinstance(network, Network)
    dtype = next(network.parameters()).dtype
    inputs = classifier.preprocessing.normalize(pixels.to(classifier.device)).to(dtype)
    with torch.no_grad():
        features = network.features(inputs)
        logits = network.head(features.clone()).float()
    if features.dim() != 4 or features.shape[-2:] == (1, 1):
        raise DlkitError(
            "the network's last feature map is 1 x 1 and shows no location; use a model for larger"
            " images"
        )
    labels = logits.argmax(dim=1) if label is None else torch.full_like(logits[:, 0], label).long()
    maps = (class_activation_maps if method == "cam" else grad_cam)(network.head, features, labels)
    scores = classifier.probabilities(logits.cpu()).gather(1, labels.cpu()[:, None])[:, 0]
    return list(zip(labels.tolist(), scores.tolist(), maps.cpu(), strict=True))


def class_activation_maps(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """Weight feature maps (B, K, h, w) by the linear layer of labels (B,) to maps (B, h, w).

    Their spatial mean is the label's logit without the bias (Zhou et al. 2016, equation 2).
    """
    assert isinstance(head, PooledHead)
    weights = head.fc.weight.detach()[labels]
    return torch.einsum("bk,bkhw->bhw", weights.float(), features.float())


def grad_cam(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of labels (B,): maps (B, h, w).

    The weight of a feature map of `features` (B, K, h, w) is the spatial mean of the gradient of
    the label's logit; only the positive part of the weighted sum counts.
    """
    with torch.enable_grad():
        maps = features.detach().requires_grad_()
        # Some heads begin with an in-place layer, so they get a copy.
        logits = head(maps.clone())
        (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), maps)
    weights = gradient.float().mean(dim=(2, 3))
    return torch.einsum("bk,bkhw->bhw", weights, features.float()).relu()


def visible_part(width: int, height: int, fit: Fit) -> Box:
    """Return the part of an image that the network sees, as x1, y1, x2, y2 in its pixels."""
    if fit == "squash":
        return 0, 0, width, height
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def find_regions(found: HeatMap, fit: Fit, share: float) -> list[Region]:
    """Find the regions of the map above `share` of its maximum, largest first.

    Returns none if the map has no positive evidence for the label.
    """
    fine = F.interpolate(found.heat[None, None], (GRID, GRID), mode="bilinear")[0, 0].numpy()
    if fine.max() <= 0:
        return []
    left, top, right, bottom = visible_part(found.picture.width, found.picture.height, fit)
    across, down = (right - left) / GRID, (bottom - top) / GRID
    return [
        Region(
            round(left + x1 * across, 1),
            round(top + y1 * down, 1),
            round(left + x2 * across, 1),
            round(top + y2 * down, 1),
        )
        for x1, y1, x2, y2 in connected_boxes(fine > share * fine.max())
    ]


def connected_boxes(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return boxes x1, y1, x2, y2 of the 8-connected regions of a mask (h, w), largest first.

    Works on runs: (y, start, end) of true elements in a row.
    """
    runs: list[tuple[int, int, int]] = []
    regions: list[int] = []  # for each run, another run of its region, or itself (union-find)

    def root(run: int) -> int:
        while regions[run] != run:
            run = regions[run]
        return run

    above = range(0)  # the runs of the previous row
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0))
        first = len(runs)
        for start, end in edges.reshape(-1, 2).tolist():
            regions.append(len(runs))
            for other in above:
                if runs[other][1] <= end and start <= runs[other][2]:
                    regions[root(other)] = root(len(runs))
            runs.append((y, start, end))
        above = range(first, len(runs))

    members: dict[int, list[tuple[int, int, int]]] = {}
    for number, run in enumerate(runs):
        members.setdefault(root(number), []).append(run)
    largest_first = sorted(members.values(), key=lambda m: -sum(end - start for _, start, end in m))
    return [
        (min(r[1] for r in m), m[0][0], max(r[2] for r in m), m[-1][0] + 1) for m in largest_first
    ]


def save_picture(found: HeatMap, fit: Fit, regions: list[Region], names: FileNames) -> None:
    """Save the image with its map, label and regions; small images are enlarged."""
    path = names.path_for(found.path, picture_suffix(found.path))
    width, height = found.picture.width, found.picture.height
    side = min(max(width, height, MIN_PICTURE_SIDE), MAX_PICTURE_SIDE)
    picture = images.as_pillow(images.read_again(found.path, found.picture, side))
    scale = np.array([picture.width / width, picture.height / height] * 2)
    drawn = overlay(picture, found.heat, visible_part(picture.width, picture.height, fit))
    boxes = [np.array([r.x1, r.y1, r.x2, r.y2]) * scale for r in regions]
    draw_regions(drawn, [tuple(box.tolist()) for box in boxes])
    write_title(drawn, f"{found.label} {found.score:.2f}")
    images.save(drawn, path)
    note_saved(path)


def overlay(picture: Image.Image, heat: Tensor, part: Box) -> Image.Image:
    """Color the picture by the map (h, w) in the part the network sees, and dim the rest."""
    left, top, right, bottom = (round(edge) for edge in part)
    size = (right - left, bottom - top)
    positive = heat.float().clamp(min=0)
    shares = (positive / positive.max().clamp(min=1e-12)).numpy()
    fine = np.asarray(Image.fromarray(shares).resize(size, Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(COLORS))
    colors = np.stack([np.interp(fine, steps, channel) for channel in COLORS.T], axis=-1)
    pixels = np.asarray(picture, dtype=np.float32)
    # Gray, so that the image's own colors are not mistaken for the map's.
    covered = pixels[top:bottom, left:right].mean(axis=2, keepdims=True)
    result = pixels * DIMMED
    result[top:bottom, left:right] = covered * (1 - OPACITY) + colors * OPACITY
    return Image.fromarray(result.round().clip(0, 255).astype(np.uint8))


def draw_regions(picture: Image.Image, boxes: list[Any]) -> None:
    """Draw the boxes, the first one (the predicted location) with a thicker line."""
    canvas = ImageDraw.Draw(picture)
    line = max(2, max(picture.size) // 200)
    for index, (x1, y1, x2, y2) in reversed(list(enumerate(boxes))):
        width = line if index == 0 else max(1, line // 2)
        # A black and a white line together are visible on any background.
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=width + 2)
        canvas.rectangle((x1, y1, x2, y2), outline="white", width=width)


def write_title(picture: Image.Image, text: str) -> None:
    """Write a title in the upper left corner, white on black, in a font size that fits."""
    canvas = ImageDraw.Draw(picture)
    size = max(14, max(picture.size) // 24)
    font = ImageFont.load_default(size)
    while size > 8 and canvas.textlength(text, font) > picture.width - 8:
        size -= 1
        font = ImageFont.load_default(size)
    left, top, right, bottom = canvas.textbbox((4, 3), text, font)
    canvas.rectangle((0, 0, right + 4, bottom + 3), fill="black")
    canvas.text((4, 3), text, fill="white", font=font)
