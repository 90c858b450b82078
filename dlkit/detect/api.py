"""`load`, `detect`, `train` and `evaluate` in Python. Loads no torch until they are called."""

import os
from collections.abc import Iterator, Mapping, Sequence
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
from dlkit.detect.config import DEFAULT_MODEL, DetectTrainConfig, Nms
from dlkit.detect.options import DEFAULT_OPTIONS, DetectOptions, parse_suppression

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.detect.infer import Detections
    from dlkit.detect.predictor import Detector

Config = DetectTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["Detector"], "Detector"]


class Options(TypedDict, total=False):
    """The options of `detect`."""

    threshold: float | Mapping[str, float] | None
    labels: str | Sequence[str] | None
    iou: float | None
    nms: Nms
    sigma: float | None
    class_agnostic: bool
    max_detections: int
    image_size: int | None
    tile: int | None
    tta: bool
    batch_size: int
    workers: int
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model["Detector"]:
    """Load a detector by name, file or URL, ready for inference on the device.

    It is called like `detect`, and is not loaded twice. `labels` are its labels.

    >>> from dlkit.detect import load
    >>> detector = load("animals")
    >>> [found.label for found in detector("data/cat.jpg").objects]
    ['cat']
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), detect)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Detector":
    from dlkit.detect import infer

    return infer.load(model, device, precision)


@overload
def detect(
    images: ImageLike, model: AnyModel = DEFAULT_MODEL, **options: Unpack[Options]
) -> "Detections": ...
@overload
def detect(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[Detections]": ...
@overload
def detect(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[Detections | Failure]": ...
def detect(
    images: ImageLike | Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    threshold: float | Mapping[str, float] | None = None,
    labels: str | Sequence[str] | None = None,
    iou: float | None = None,
    nms: Nms = "hard",
    sigma: float | None = None,
    class_agnostic: bool = False,
    max_detections: int = DEFAULT_OPTIONS.max_detections,
    image_size: int | None = None,
    tile: int | None = None,
    tta: bool = False,
    batch_size: int = DEFAULT_OPTIONS.batch_size,
    workers: int = DEFAULT_OPTIONS.workers,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """Find the objects in one image, or in each of many.

    One image is a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4) or a tensor
    (C x H x W), with pixels of uint8 or floats from 0 to 1; many are a list or an iterator of
    these, or a tensor N x C x H x W. `model` is a name, a file or what `load` returned.

    The options are those of `dlkit detect`. `threshold` may also hold scores of single labels, as
    in {"cat": 0.5}; None: each label's own, which training chose. An image that cannot be read
    raises a DlkitError; of many images, with errors="return", it becomes a Failure in its place.

    >>> from dlkit.detect import detect
    >>> found = detect("data/cat.jpg", threshold=0.5)
    >>> found.objects[0].label
    'cat'
    >>> found.picture().size == (found.width, found.height)
    True
    """
    api.check_ranges(
        iou=(iou, 0, 1),
        sigma=(sigma, 0.01, None),
        max_detections=(max_detections, 1, None),
        image_size=(image_size, 32, 8192),
        tile=(tile, 32, None),
        batch_size=(batch_size, 1, None),
        workers=(workers, 0, None),
    )
    thresholds = threshold if isinstance(threshold, Mapping) else {"": threshold}
    for label, score in thresholds.items():
        api.check_ranges(**{f"threshold {label}".strip(): (score, 0, 1)})
    options = DetectOptions(
        thresholds.get(""),
        {label: score for label, score in thresholds.items() if label and score is not None},
        parse_suppression(nms, iou, sigma, class_agnostic),
        [labels] if isinstance(labels, str) else labels,
        max_detections,
        image_size,
        tile,
        tta,
        batch_size,
        workers,
    )
    sources, many = as_sources(images)
    detector = api.loaded_model(model, load_once, device, precision)
    return api.answer(detect_sources(sources, detector, options), many, errors)


def detect_sources(
    sources: Iterator[str], detector: "Detector", options: DetectOptions
) -> Iterator[Any]:
    """The objects of each image, or its keypoints if the model finds those."""
    from dlkit.detect import infer, keypoints

    if not keypoints.finds_keypoints(detector):
        draw = partial(infer.draw_detections, labels=detector.labels)
        return drawn_by(draw, infer.detect(sources, detector, options))
    same = DetectOptions(batch_size=options.batch_size, workers=options.workers)
    if options != same:
        raise DlkitError("the model finds keypoints; remove the options of boxes and scores")
    found = keypoints.locate(sources, detector, options.batch_size, options.workers)
    return drawn_by(keypoints.draw, found)


def train(config: DetectTrainConfig) -> Path:
    """Train a detector; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.detect import Config, load, train
    >>> best = train(Config(data="shapes", size="nano", image_size=64, epochs=1))
    >>> load(best).labels
    ['disc', 'square']
    """
    from dlkit.detect.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str],
    split: str = "test",
    model: str | os.PathLike[str] | Model["Detector"] = DEFAULT_MODEL,
    *,
    save: str | os.PathLike[str] | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    allow_skipped: float | None = None,
) -> Scores:
    """The scores of a model on annotated images, overall and for each label.

    `save` is a folder for pictures of the scores, `allow_skipped` the largest share of images or
    boxes that may be skipped.

    >>> from dlkit.detect import evaluate
    >>> scores = evaluate("animals", "test")
    >>> scores["ap50_coco101", "cat"]
    1.0
    """
    from dlkit.detect.evaluate import evaluate_checkpoint

    return api.evaluate_with(
        evaluate_checkpoint, data, split, model, save, workers, device, precision, allow_skipped
    )
