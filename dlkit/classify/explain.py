"""Where in an image a classifier sees a label: class activation maps, Grad-CAM, boxes around both.

Shapes: B images of a batch, K maps of h x w places, L labels, S x S pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
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
from dlkit.core.failures import Failure, each
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.core.vision.images import Fit

Method = Literal["auto", "cam", "grad-cam"]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2

SHARE = 0.2  # of a map's maximum: regions are what is above (Zhou et al. 2016, section 3.2)
GRID = 224  # places a side to which maps are enlarged before regions are cut out
SMALLEST_SHOWN, LARGEST_SHOWN = 256, 1280  # pixels of a saved picture's longest side
# Red, green and blue from the coldest to the hottest places, and how much they cover the image.
COLORS = np.array([(20, 20, 130), (20, 140, 255), (120, 230, 120), (255, 210, 0), (220, 0, 0)])
OPACITY = 0.5
UNSEEN = 0.35  # of its brightness is left to what the network does not see


@dataclass(frozen=True)
class Explanation:
    """What an image was taken for, or how probable the label asked for is."""

    path: str
    label: str
    score: float


@dataclass(frozen=True)
class Region:
    """The box around a region of the map, in pixels of the image as shown."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Localization(Explanation):
    """An explanation with the regions that speak for the label, largest first.

    As rows (text, csv) it has the largest region only, which is where the object is taken to be.
    """

    columns: ClassVar = ["path", "label", "score", "x1", "y1", "x2", "y2"]

    regions: list[Region]

    def rows(self) -> list[dict[str, Any]]:
        about = {"path": self.path, "label": self.label, "score": self.score}
        corners = vars(self.regions[0]) if self.regions else dict.fromkeys(("x1", "y1", "x2", "y2"))
        return [about | corners]


@dataclass(frozen=True)
class HeatMap:
    """How much each place speaks for the label: `heat` (h, w) covers what the network sees.

    `width` and `height` are the image's as shown.
    """

    path: str
    width: int
    height: int
    label: str
    score: float
    heat: Tensor


def explain(
    paths: Iterable[str],
    classifier: Classifier,
    method: Method = "auto",
    label: str | None = None,
    boxes: bool = False,
    above: float = SHARE,
    names: FileNames | None = None,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Explanation | Failure]:
    """What each image was taken for, in input order; a Failure for one that cannot be read.

    `label` asks for the places that speak for this label, whatever the image was taken for.
    With `boxes` the results are Localizations, of the regions above that share of the map's
    maximum. Pictures of the maps over the images go to files of these `names`. Only the `shard` of
    the images is explained; without one, the processes under torchrun share them.
    """
    chosen = method_for(classifier, method)
    asked = None if label is None else index_of(classifier, label)

    def maps(shared: Iterator[str]) -> Iterator[HeatMap | Failure]:
        shared = track(shared, "explaining")
        return heat_maps(shared, classifier, chosen, asked, batch_size, workers)

    def results() -> Iterator[Explanation | Failure]:
        fit = classifier.preprocessing.fit
        for found in map_shard(maps, images.files(paths), str(classifier.device), shard):
            if isinstance(found, Failure):
                yield found
                continue
            regions = regions_of(found, fit, above) if boxes else []
            if names is not None and is_main_process():
                try:
                    save_picture(found, fit, regions, names)
                except DlkitError as error:  # a URL may fail the second time
                    yield Failure(found.path, str(error))
                    continue
            about = (found.path, found.label, round(found.score, 4))
            yield Localization(*about, regions) if boxes else Explanation(*about)

    return results()


def method_for(classifier: Classifier, method: Method) -> Literal["cam", "grad-cam"]:
    """The method that `auto` stands for. Raises DlkitError where the network admits none."""
    network = classifier.network
    if classifier.descriptor:
        raise DlkitError("this model describes images and names no labels to explain: use search")
    if not isinstance(network, Network) or isinstance(network.features, nn.Identity):
        raise DlkitError(
            "this network sees an image as flat pixels, without a map of places:"
            " only convolutional networks can be explained"
        )
    pooled = isinstance(network.head, PooledHead)
    if method == "cam" and not pooled:
        raise DlkitError(
            "--method cam needs a network that ends in global average pooling and one linear"
            " layer: use grad-cam for this one"
        )
    return "cam" if pooled and method != "grad-cam" else "grad-cam"


def index_of(classifier: Classifier, label: str) -> int:
    if label not in classifier.labels:
        some = ", ".join(classifier.labels[:20]) + (", ..." if len(classifier.labels) > 20 else "")
        raise DlkitError(f"the model knows no {label}: its labels are {some}")
    return classifier.labels.index(label)


def heat_maps(
    paths: Iterable[str],
    classifier: Classifier,
    method: Literal["cam", "grad-cam"],
    label: int | None = None,
    batch_size: int = 64,
    workers: int = 2,
) -> Iterator[HeatMap | Failure]:
    """The map of each image for its most probable label, or for `label`, in order.

    Images are decoded ahead in threads.
    """
    inputs = classifier.preprocessing
    decoded = each(lambda path: (path, inputs.picture(path)), paths, workers)
    while window := list(islice(decoded, batch_size)):
        pixels = [entry[1].pixels for entry in window if not isinstance(entry, Failure)]
        found = iter(batch_maps(classifier, torch.stack(pixels), method, label) if pixels else [])
        for entry in window:
            if isinstance(entry, Failure):
                yield entry
            else:
                (path, picture), (index, score, heat) = entry, next(found)
                name = classifier.labels[index]
                yield HeatMap(path, picture.width, picture.height, name, score, heat)


def batch_maps(
    classifier: Classifier, pixels: Tensor, method: Literal["cam", "grad-cam"], label: int | None
) -> list[tuple[int, float, Tensor]]:
    """Label, probability and map (h, w), on the CPU, of each uint8 image (B, C, S, S)."""
    network = classifier.network
    assert isinstance(network, Network)
    dtype = next(network.parameters()).dtype
    inputs = classifier.preprocessing.normalize(pixels.to(classifier.device)).to(dtype)
    with torch.no_grad():
        features = network.features(inputs)
        logits = network.head(features.clone()).float()
    if features.dim() != 4 or features.shape[-2:] == (1, 1):
        raise DlkitError(
            "this network's last feature map has one place only, so there is nothing to locate:"
            " use a network for larger images"
        )
    labels = logits.argmax(dim=1) if label is None else torch.full_like(logits[:, 0], label).long()
    maps = (class_activation_maps if method == "cam" else grad_cam)(network.head, features, labels)
    scores = classifier.probabilities(logits.cpu()).gather(1, labels.cpu()[:, None])[:, 0]
    return list(zip(labels.tolist(), scores.tolist(), maps.cpu(), strict=True))


def class_activation_maps(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """The linear layer's weighted sum (B, h, w) of the maps (B, K, h, w) for labels (B,).

    Its mean over places is the label's logit without the bias (Zhou et al. 2016, equation 2).
    """
    assert isinstance(head, PooledHead)
    weights = head.fc.weight.detach()[labels]
    return torch.einsum("bk,bkhw->bhw", weights.float(), features.float())


def grad_cam(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """The positive part of a weighted sum (B, h, w) of the maps (B, K, h, w) for labels (B,).

    A map's weight is the gradient of the label's logit, mean over places (Selvaraju et al. 2017,
    equations 1 and 2).
    """
    with torch.enable_grad():
        maps = features.detach().requires_grad_()
        # Some heads begin with a layer that writes over its input: they get a copy.
        logits = head(maps.clone())
        (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), maps)
    weights = gradient.float().mean(dim=(2, 3))
    return torch.einsum("bk,bkhw->bhw", weights, features.float()).relu()


def seen(width: int, height: int, fit: Fit) -> Box:
    """The part of an image that the network sees: x1, y1, x2, y2 in pixels of the image."""
    if fit == "squash":
        return 0, 0, width, height
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def regions_of(found: HeatMap, fit: Fit, share: float) -> list[Region]:
    """The regions of the map above `share` of its maximum, largest first.

    None where no place speaks for the label.
    """
    fine = F.interpolate(found.heat[None, None], (GRID, GRID), mode="bilinear")[0, 0].numpy()
    if fine.max() <= 0:
        return []
    left, top, right, bottom = seen(found.width, found.height, fit)
    across, down = (right - left) / GRID, (bottom - top) / GRID
    return [
        Region(
            round(left + x1 * across, 1),
            round(top + y1 * down, 1),
            round(left + x2 * across, 1),
            round(top + y2 * down, 1),
        )
        for x1, y1, x2, y2 in connected(fine > share * fine.max())
    ]


def connected(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The boxes x1, y1, x2, y2 of the connected regions of a mask (h, w), largest area first.

    Places touch at sides and corners. Worked out on runs: (y, start, end) of true places in a row.
    """
    runs: list[tuple[int, int, int]] = []
    regions: list[int] = []  # of each run, the number of another run of its region, or its own

    def root(run: int) -> int:
        while regions[run] != run:
            run = regions[run]
        return run

    above = range(0)  # the runs of the row before
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
    """Write the image with its map, label and regions; small images are enlarged for the eye."""
    path = names.path_for(found.path, picture_suffix(found.path))
    side = min(max(found.width, found.height, SMALLEST_SHOWN), LARGEST_SHOWN)
    picture = images.as_pillow(images.read(found.path, side))
    scale = np.array([picture.width / found.width, picture.height / found.height] * 2)
    drawn = overlay(picture, found.heat, seen(picture.width, picture.height, fit))
    boxes = [np.array([r.x1, r.y1, r.x2, r.y2]) * scale for r in regions]
    draw_regions(drawn, [tuple(box.tolist()) for box in boxes])
    write_title(drawn, f"{found.label} {found.score:.2f}")
    images.save(drawn, path)


def overlay(picture: Image.Image, heat: Tensor, part: Box) -> Image.Image:
    """The picture, colored by the map (h, w) over the part the network sees, dark elsewhere."""
    left, top, right, bottom = (round(edge) for edge in part)
    size = (right - left, bottom - top)
    positive = heat.float().clamp(min=0)
    shares = (positive / positive.max().clamp(min=1e-12)).numpy()
    fine = np.asarray(Image.fromarray(shares).resize(size, Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(COLORS))
    colors = np.stack([np.interp(fine, steps, channel) for channel in COLORS.T], axis=-1)
    pixels = np.asarray(picture, dtype=np.float32)
    # Gray, for the image's own colors would be taken for the map's.
    covered = pixels[top:bottom, left:right].mean(axis=2, keepdims=True)
    result = pixels * UNSEEN
    result[top:bottom, left:right] = covered * (1 - OPACITY) + colors * OPACITY
    return Image.fromarray(result.round().clip(0, 255).astype(np.uint8))


def draw_regions(picture: Image.Image, boxes: list[Any]) -> None:
    """Frame the boxes: the first, which is where the object is taken to be, with a broad line."""
    canvas = ImageDraw.Draw(picture)
    line = max(2, max(picture.size) // 200)
    for index, (x1, y1, x2, y2) in reversed(list(enumerate(boxes))):
        width = line if index == 0 else max(1, line // 2)
        # A dark line outside the bright one shows on any background.
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=width + 2)
        canvas.rectangle((x1, y1, x2, y2), outline="white", width=width)


def write_title(picture: Image.Image, text: str) -> None:
    """White on black in the upper left corner, made small enough to fit."""
    canvas = ImageDraw.Draw(picture)
    size = max(14, max(picture.size) // 24)
    font = ImageFont.load_default(size)
    while size > 8 and canvas.textlength(text, font) > picture.width - 8:
        size -= 1
        font = ImageFont.load_default(size)
    left, top, right, bottom = canvas.textbbox((4, 3), text, font)
    canvas.rectangle((0, 0, right + 4, bottom + 3), fill="black")
    canvas.text((4, 3), text, fill="white", font=font)
