"""`load`, `classify`, `train` and `evaluate` in Python. Loads no torch until they are called."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.classify.config import DEFAULT_MODEL, ClassifyTrainConfig, TestViews, is_text_model
from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.vision.results import drawn_by
from dlkit.core.vision.sources import ImageLike, Images, as_sources

if TYPE_CHECKING:
    from dlkit.classify.infer import Classification, Classifier, TextClassifier
    from dlkit.core.io.results import Results

Config = ClassifyTrainConfig
AnyClassifier: TypeAlias = Union["Classifier", "TextClassifier"]
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model[AnyClassifier], AnyClassifier]


class Options(TypedDict, total=False):
    """The options of `classify`."""

    top: int
    threshold: float | None
    dense: bool
    image_size: int | None
    test_views: TestViews
    batch_size: int
    workers: int
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model[AnyClassifier]:
    """Load a classifier of images or texts by name, file or URL, ready for inference.

    It is called like `classify`, and is not loaded twice. `labels` are its labels.

    >>> from dlkit.classify import load
    >>> classifier = load("reviews")
    >>> classifier.labels
    ['neg', 'pos']
    >>> [found.labels[0].label for found in classifier(["Dreadful.", "A joy to watch."])]
    ['neg', 'pos']
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), classify)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> AnyClassifier:
    from dlkit.classify import infer

    if is_text_model(model):
        return infer.load_text_classifier(model, device, precision)
    return infer.load(model, device, precision)


@overload
def classify(
    inputs: ImageLike,
    model: AnyModel | Sequence[AnyModel] = DEFAULT_MODEL,
    **options: Unpack[Options],
) -> "Classification": ...
@overload
def classify(
    inputs: Images,
    model: AnyModel | Sequence[AnyModel] = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[Classification]": ...
@overload
def classify(
    inputs: Images,
    model: AnyModel | Sequence[AnyModel] = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[Classification | Failure]": ...
def classify(
    inputs: ImageLike | Images,
    model: AnyModel | Sequence[AnyModel] = DEFAULT_MODEL,
    *,
    top: int = 1,
    threshold: float | None = None,
    dense: bool = False,
    image_size: int | None = None,
    test_views: TestViews = "one",
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """The most probable labels of one image or text, or of each of many, best first.

    One image is a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4) or a tensor
    (C x H x W), with pixels of uint8 or floats from 0 to 1; many are a list or an iterator of
    these, or a tensor N x C x H x W. With a text model a string is one text, and the result is a
    TextClassification. `model` is a name, a file or what `load` returned, or a list of them, whose
    probabilities are averaged.

    The options are those of `dlkit classify`; with `dense` the result is a ClassMap, with a label
    at each position of the image. An image that cannot be read raises a DlkitError; of many images,
    with errors="return", it becomes a Failure in its place.

    >>> from dlkit.classify import classify
    >>> found = classify("data/cat.jpg", "cifar10", top=2)
    >>> [(one.label, one.score) for one in found.labels]
    [('cat', 0.8984), ('dog', 0.0227)]
    """
    api.check_ranges(
        top=(top, 1, None),
        threshold=(threshold, 0, 1),
        image_size=(image_size, 28, 8192),
        batch_size=(batch_size, 1, None),
        workers=(workers, 0, None),
    )
    if image_size is not None and not dense:
        raise DlkitError("image_size needs dense=True; other images are resized as in training")
    several = model if isinstance(model, list | tuple) else [model]
    models = [api.loaded_model(one, load_once, device, precision) for one in several]
    if dense and len(models) > 1:
        raise DlkitError(f"dense takes one model; {len(models)} are given")
    if dense and test_views != "one":
        raise DlkitError(f"dense maps one view; remove test_views={test_views!r}")

    from dlkit.classify import infer
    from dlkit.classify.draw import draw_map, draw_scores

    text_models = [one for one in models if isinstance(one, infer.TextClassifier)]
    image_models = [one for one in models if isinstance(one, infer.Classifier)]
    if text_models and image_models:
        raise DlkitError("some models classify images and some texts; give models of one kind")
    names = [str(one.name if isinstance(one, Model) else one) for one in several]
    labels = models[0].labels
    if text_models:
        if dense:
            raise DlkitError("dense is for images; the model classifies texts")
        if test_views != "one":
            raise DlkitError("test_views is for images; the model classifies texts")
        infer.check_same_text_labels(names, text_models)
        texts, many = api.as_texts(inputs)
        found = infer.classify_texts(texts, text_models, top, threshold or 0.0, batch_size)
        return api.answer(found, many, errors)
    sources, many = as_sources(inputs)
    results: Iterator[Any]
    if dense:
        results = infer.class_maps(sources, image_models[0], image_size, workers)
        return api.answer(drawn_by(partial(draw_map, labels=labels), results), many, errors)
    image_models = [replace(one, test_views=test_views) for one in image_models]
    infer.check_same_labels(names, image_models)
    results = infer.classify(sources, image_models, top, threshold, batch_size, workers)
    return api.answer(drawn_by(partial(draw_scores, labels=labels), results), many, errors)


def train(config: ClassifyTrainConfig) -> Path:
    """Train a classifier; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.classify import Config, load, train
    >>> best = train(Config(data="stripes", arch="lenet", epochs=1))
    >>> load(best).labels
    ['amber', 'blue', 'cyan']
    """
    from dlkit.classify.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str],
    split: str = "test",
    model: str | os.PathLike[str] | Model[AnyClassifier] = DEFAULT_MODEL,
    *,
    save: str | os.PathLike[str] | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    allow_skipped: float | None = None,
    test_views: TestViews = "one",
) -> Scores:
    """The scores of a model on annotated images or texts, overall and for each label.

    `save` is a folder for pictures of the scores. With `test_views` "mirror" the outputs of each
    image and its mirror image are averaged. A DlkitError is raised where more than the share
    `allow_skipped` of the data cannot be used.

    >>> from dlkit.classify import evaluate
    >>> scores = evaluate("pets", "test", "cifar10")
    >>> scores["top1"], scores["recall", "cat"]
    (1.0, 1.0)
    """
    from dlkit.classify.evaluate import evaluate_checkpoint

    options: dict[str, Any] = {"allow_skipped": allow_skipped, "test_views": test_views}
    return api.evaluate_with(
        evaluate_checkpoint, data, split, model, save, workers, device, precision, **options
    )
