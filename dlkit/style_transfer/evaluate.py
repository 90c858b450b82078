"""How far paintings are from their contents and styles, so that methods can be compared."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dlkit.core import images
from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.progress import Failure, is_main_process, log
from dlkit.core.scores import Score, rounded
from dlkit.style_transfer import apply, infer
from dlkit.style_transfer.config import DEFAULT_FEATURES, DEFAULT_MODEL
from dlkit.style_transfer.infer import Method, read, read_style, resized
from dlkit.style_transfer.jobs import CELL, Job, Style, plan, shown, stem
from dlkit.style_transfer.loss import content_loss, gram, style_loss
from dlkit.style_transfer.models.features import FeatureNetwork
from dlkit.style_transfer.optimise import Objective

GATYS = "gatys"
PHOTO = "photo"  # the photographs as they are
SIDE, STEPS = 256, 300
DEFINITIONS = {
    "content_distance": "Mean square of the differences to the photograph's maps, on the layers"
    " {content}; mean over the paintings.",
    "style_distance": "Mean square of the differences to the style's Gram matrices (means over"
    " places), weighed mean over the layers {style}; mean over the paintings.",
}


@dataclass(frozen=True)
class Distance:
    """How far one painting is from its photograph and its style."""

    method: str
    path: str
    style: str
    content_distance: float
    style_distance: float


class Gauge:
    """Measures paintings at one size, with the maps that Gatys' objective compares."""

    def __init__(self, network: FeatureNetwork, side: int) -> None:
        self.network, self.side, self.objective = network, side, Objective()
        self.definitions = {
            name: text.format(
                content=", ".join(self.objective.content_layers),
                style=", ".join(self.objective.style_layers),
            )
            + f" Measured at {side} pixels."
            for name, text in DEFINITIONS.items()
        }

    @torch.no_grad()
    def distances(self, photo: str, style: str, painting: str) -> tuple[float, float]:
        """Of content and of style; a painting of another size than the photograph is resized."""
        aim = self.objective
        content = read(photo)
        size = infer.work_size(content.shape[2], content.shape[1], self.side)
        wanted = self.maps(resized(content, size), list(aim.content_layers))
        strokes = self.maps(read_style(style, self.side), list(aim.style_layers))
        grams = {name: gram(maps) for name, maps in strokes.items()}
        maps = self.maps(
            resized(read(painting), size), [*aim.content_layers, *aim.style_layers]
        )
        return (
            float(content_loss(maps, wanted, aim.content_layers)),
            float(style_loss(maps, grams, aim.style_layers)),
        )

    def maps(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return self.network(picture[None].to(self.network.mean.device), layers)


def compare(
    methods: Sequence[str],
    photos: Sequence[str],
    styles: Sequence[str],
    side: int = SIDE,
    steps: int = STEPS,
    features: str = DEFAULT_FEATURES,
    save: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score | Failure]:
    """The mean distances of each method's paintings, of each photograph in each style.

    A method is `gatys` or a painter's name, file or URL; first come the photographs themselves.
    With `save`, the paintings, a sheet of all and the distances of each are written to a folder.
    """
    gauge = Gauge(infer.load(features, device), side)
    painters = {name: apply.load(name, device, precision) for name in methods if name != GATYS}
    if len(set(methods)) < len(methods):
        raise DlkitError("a method is given twice")
    found: list[Distance] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if save is None else save
        paintings: dict[tuple[str, str, str], str] = {}
        for method in [PHOTO, *methods]:
            groups = [(Style(name),) for name in styles]
            jobs = plan(photos, groups, folder / stem(method))
            own: list[Distance] = []
            for job, result in zip(jobs, painted(method, jobs), strict=True):
                pass
    yield from scores(found, gauge)
