"""`load`, `caption`, `train` and `evaluate` in Python. Loads no torch until they are called."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.caption.config import DEFAULT_MODEL, CaptionSearch, CaptionTrainConfig
from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores
from dlkit.core.config import Precision
from dlkit.core.failures import Failure
from dlkit.core.generation.options import BEAM, refuse_given, search_settings
from dlkit.core.vision.results import drawn_by
from dlkit.core.vision.sources import ImageLike, Images, as_sources

if TYPE_CHECKING:
    from dlkit.caption.infer import ImageCaptions, Predictor
    from dlkit.core.io.results import Results

Config = CaptionTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["Predictor"], "Predictor"]


class Options(TypedDict, total=False):
    """The options of `caption`."""

    captions: int
    beam: int | None
    length_penalty: float | None
    no_repeat: int | None
    max_length: int | None
    sample: bool
    temperature: float | None
    top_p: float | None
    seed: int | None
    batch_size: int
    workers: int
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model["Predictor"]:
    """Load a captioner by name, file or URL, ready for inference on the device.

    It is called like `caption`, and is not loaded twice.

    >>> from dlkit.caption import load
    >>> captioner = load("flickr8k")
    >>> len(captioner("data/cat.jpg", captions=3).captions)
    3
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), caption)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Predictor":
    from dlkit.caption import infer

    return infer.load(model, device, precision)


@overload
def caption(
    images: ImageLike, model: AnyModel = DEFAULT_MODEL, **options: Unpack[Options]
) -> "ImageCaptions": ...
@overload
def caption(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[ImageCaptions]": ...
@overload
def caption(
    images: Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[ImageCaptions | Failure]": ...
def caption(
    images: ImageLike | Images,
    model: AnyModel = DEFAULT_MODEL,
    *,
    captions: int = 1,
    beam: int | None = None,
    length_penalty: float | None = None,
    no_repeat: int | None = None,
    max_length: int | None = None,
    sample: bool = False,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """Describe one image, or each of many, in a sentence.

    One image is a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4) or a tensor
    (C x H x W), with pixels of uint8 or floats from 0 to 1; many are a list or an iterator of
    these, or a tensor N x C x H x W. `model` is a name, a file or what `load` returned.

    The options are those of `dlkit caption`; `captions` is the number of sentences for each image.
    An image that cannot be read raises a DlkitError; of many images, with errors="return", it
    becomes a Failure in its place.

    >>> from dlkit.caption import caption
    >>> found = caption("data/cat.jpg", captions=2)
    >>> found.captions[0].score >= found.captions[1].score
    True
    """
    api.check_ranges(
        captions=(captions, 1, None),
        beam=(beam, 1, None),
        length_penalty=(length_penalty, 0, None),
        no_repeat=(no_repeat, 0, None),
        max_length=(max_length, 1, None),
        seed=(seed, 0, None),
        batch_size=(batch_size, 1, None),
        workers=(workers, 0, None),
    )
    if sample:
        refuse_given({"no_repeat": no_repeat}, "sample", sample)
    settings = search_settings(
        sample,
        beam,
        length_penalty,
        temperature,
        top_p=top_p,
        seed=seed,
        default_beam=max(BEAM, captions),
    )
    search = CaptionSearch(no_repeat=no_repeat, count=captions, max_length=max_length, **settings)
    sources, many = as_sources(images)
    predictor = api.loaded_model(model, load_once, device, precision)

    from dlkit.caption import infer

    found = infer.caption(sources, predictor, search, batch_size, workers)
    return api.answer(drawn_by(infer.draw_result, found), many, errors)


def train(config: CaptionTrainConfig) -> Path:
    """Train a captioner; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.caption import Config, load, train
    >>> best = train(Config(data="photos", backbone="encoder.safetensors", width=16, epochs=1))
    >>> load(best)
    <caption model 'run/best.safetensors'>
    """
    from dlkit.caption.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str],
    split: str = "test",
    model: str | os.PathLike[str] | Model["Predictor"] = DEFAULT_MODEL,
    *,
    save: str | os.PathLike[str] | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    allow_skipped: float | None = None,
) -> Scores:
    """The scores of a model's captions against those of people.

    `save` is a folder for a sheet of the best and worst. A DlkitError is raised where more than the
    share `allow_skipped` of the data cannot be used.

    >>> from dlkit.caption import evaluate
    >>> scores = evaluate("photos", "test")
    >>> scores["images"], 0 <= scores["bleu_4"] <= 1
    (2, True)
    """
    from dlkit.caption.evaluate import evaluate_checkpoint

    return api.evaluate_with(
        evaluate_checkpoint,
        data,
        split,
        model,
        save,
        workers,
        device,
        precision,
        allow_skipped=allow_skipped,
    )
