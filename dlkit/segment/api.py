"""`load`, `segment`, `train` and `evaluate` in Python. Loads no torch until they are called."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.vision.results import drawn_by
from dlkit.core.vision.sources import ImageLike, Images, as_sources
from dlkit.segment.config import DEFAULT_MODEL, SegmentTrainConfig

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.segment.infer import Segmentation
    from dlkit.segment.predictor import InstancePredictor, SemanticPredictor

Config = SegmentTrainConfig
Segmenter: TypeAlias = Union["SemanticPredictor", "InstancePredictor"]
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model[Segmenter], Segmenter]


class Options(TypedDict, total=False):
    """The options of `segment`."""

    classes: str | Sequence[str] | None
    tile: int | None
    tta: bool
    image_size: int | None
    threshold: float | None
    batch_size: int
    workers: int
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model[Segmenter]:
    """Load a segmenter by name, file or URL, ready for inference on the device.

    It is called like `segment`, and is not loaded twice. `labels` are its labels.

    >>> from dlkit.segment import load
    >>> segmenter = load("street")
    >>> found = segmenter("data/astronaut.jpg", classes="Car,Sky")
    >>> [region.label for region in found.segments]
    ['Sky', 'Car']
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), segment)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> Segmenter:
    from dlkit.segment import infer

    return infer.load(model, device, precision)


@overload
def segment(
    images: ImageLike, model: AnyModel = DEFAULT_MODEL, **options: Unpack[Options]
) -> "Segmentation": ...
@overload
def segment(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[Segmentation]": ...
@overload
def segment(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[Segmentation | Failure]": ...
def segment(
    images: ImageLike | Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    classes: str | Sequence[str] | None = None,
    tile: int | None = None,
    tta: bool = False,
    image_size: int | None = None,
    threshold: float | None = None,
    batch_size: int = 4,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """Label every pixel of one image, or of each of many: the classes in it, largest first.

    One image is a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4) or a tensor
    (C x H x W), with pixels of uint8 or floats from 0 to 1; many are a list or an iterator of
    these, or a tensor N x C x H x W. `model` is a name, a file or what `load` returned.

    The options are those of `dlkit segment`; `classes` restricts the result to these. The `mask`
    of a region is an array (H, W). With a model for instance segmentation the result is an
    ImageInstances, whose `objects` have a mask each. An image that cannot be read raises a
    DlkitError; of many images, with errors="return", it becomes a Failure in its place.

    >>> from dlkit.segment import segment
    >>> found = segment("data/astronaut.jpg", classes=["Sky"])
    >>> sky = found.segments[0]
    >>> sky.fraction, float(sky.mask.mean())
    (0.026, 0.026)
    """
    api.check_ranges(
        tile=(tile, 32, None),
        image_size=(image_size, 32, 16384),
        threshold=(threshold, 0, 1),
        batch_size=(batch_size, 1, None),
        workers=(workers, 0, None),
    )
    names = [classes] if isinstance(classes, str) else classes
    given = Given(names, tile, tta, image_size, threshold, batch_size, workers)
    sources, many = as_sources(images)
    predictor = api.loaded_model(model, load_once, device, precision)
    return api.answer(segment_sources(sources, predictor, given), many, errors)


@dataclass(frozen=True)
class Given:
    """The options that `segment` got, before it is known which kind of model they are for."""

    classes: Sequence[str] | None
    tile: int | None
    tta: bool
    image_size: int | None
    threshold: float | None
    batch_size: int
    workers: int


def segment_sources(sources: Iterator[str], predictor: Segmenter, given: Given) -> Iterator[Any]:
    """The classes in each image, or its objects with a model for instance segmentation."""
    from dlkit.segment import infer, instances
    from dlkit.segment.predictor import DEFAULT_OPTIONS, InferOptions, InstancePredictor

    threshold = DEFAULT_OPTIONS.threshold if given.threshold is None else given.threshold
    options = InferOptions(
        given.image_size, given.tile, given.tta, given.batch_size, given.workers, threshold
    )
    if isinstance(predictor, InstancePredictor):
        if given.tile is not None or given.tta:
            raise DlkitError("tile and tta are for semantic segmentation; this model finds objects")
        found = instances.find_objects(sources, predictor, options, given.classes, masks=True)
        return drawn_by(instances.draw_instances, found)
    if given.threshold is not None:
        raise DlkitError("threshold is for instance segmentation; this model labels pixels")
    regions = infer.segment(sources, predictor, options, given.classes, masks=True)
    draw = partial(infer.draw_regions, colors=predictor.colors, labels=predictor.labels)
    return drawn_by(draw, regions)


def train(config: SegmentTrainConfig) -> Path:
    """Train a segmenter; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.segment import Config, load, train
    >>> best = train(Config(data="scenes", backbone="none", width_multiplier=0.1, epochs=1))
    >>> load(best).labels
    ['background', 'disc', 'square']
    """
    from dlkit.segment.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str],
    split: str = "test",
    model: str | os.PathLike[str] | Model[Segmenter] = DEFAULT_MODEL,
    *,
    save: str | os.PathLike[str] | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    allow_skipped: float | None = None,
) -> Scores:
    """The scores of a model on annotated images, overall and for each label.

    `save` is a folder for pictures of the scores, `allow_skipped` the largest share of images or
    objects that may be skipped.

    >>> from dlkit.segment import evaluate
    >>> scores = evaluate("streets", "test")
    >>> scores["mean_iou"] > 0.99, scores["iou", "Road"] > 0.99
    (True, True)
    """
    from dlkit.segment.evaluate import evaluate_checkpoint

    return api.evaluate_with(
        evaluate_checkpoint, data, split, model, save, workers, device, precision, allow_skipped
    )
