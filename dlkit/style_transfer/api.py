"""`load`, `style_transfer`, `train` and `evaluate` in Python. Loads no torch until called."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.vision.sources import ImageLike, Images, as_source, as_sources
from dlkit.style_transfer.config import DEFAULT_FEATURES, DEFAULT_MODEL, StyleTrainConfig
from dlkit.style_transfer.results import OptimizedPicture, StyledPicture, with_painting

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.style_transfer.apply import Stylizer
    from dlkit.style_transfer.models.features import FeatureNetwork
    from dlkit.style_transfer.plan import Style

Config = StyleTrainConfig


@dataclass(frozen=True)
class Optimization:
    """Painting by optimization (Gatys et al. 2016): its feature network and precision."""

    network: "FeatureNetwork"
    precision: str


PreserveColor = Literal["luminance", "histogram"]
Painter: TypeAlias = Union["Stylizer", Optimization]
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model[Painter], Painter]
StyleLike: TypeAlias = ImageLike | Sequence[ImageLike] | None
STYLE_SIZE = 512  # longest side of the styles of a painter


class Options(TypedDict, total=False):
    """The options of `style_transfer`."""

    blend: Sequence[float] | None
    size: int | None
    style_size: int | None
    strength: float | None
    preserve_color: PreserveColor | None
    tile: int | None
    steps: int | None
    content_weight: float | None
    style_weight: float | None
    tv_weight: float | None
    batch_size: int
    workers: int
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model[Painter]:
    """Load a painter by name, file or URL; `gatys` or `gatys:NETWORK` for painting by optimization.

    It is called like `style_transfer`, and is not loaded twice.

    >>> from dlkit.style_transfer import load
    >>> painter = load("paintings")
    >>> len(painter(["data/cat.jpg", "data/astronaut.jpg"], "data/great-wave.jpg", size=64))
    2
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), style_transfer)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> Painter:
    from dlkit.style_transfer import apply, infer
    from dlkit.style_transfer.evaluate import is_optimization

    if is_optimization(model):
        network = infer.load(model.partition(":")[2] or DEFAULT_FEATURES, device)
        return Optimization(network, precision)
    return apply.load(model, device, precision)


@overload
def style_transfer(
    photos: ImageLike,
    style: StyleLike = None,
    model: AnyModel = DEFAULT_MODEL,
    **options: Unpack[Options],
) -> StyledPicture: ...
@overload
def style_transfer(
    photos: Images,
    style: StyleLike = None,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[StyledPicture]": ...
@overload
def style_transfer(
    photos: Images,
    style: StyleLike = None,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[StyledPicture | Failure]": ...
def style_transfer(
    photos: ImageLike | Images,
    style: StyleLike = None,
    model: AnyModel = DEFAULT_MODEL,
    *,
    blend: Sequence[float] | None = None,
    size: int | None = None,
    style_size: int | None = None,
    strength: float | None = None,
    preserve_color: PreserveColor | None = None,
    tile: int | None = None,
    steps: int | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    batch_size: int = 4,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """Paint one photograph, or each of many, in the style of a picture.

    A photograph or a style is a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4)
    or a tensor (C x H x W), with pixels of uint8 or floats from 0 to 1; many photographs are a list
    or an iterator of these, or a tensor N x C x H x W. A painter of fixed styles takes the name of
    one. Several styles are mixed with the shares `blend`.

    `model` is a painter, which needs one pass and takes `strength` (`dlkit style-transfer apply`),
    or gatys, which optimizes the picture itself in `steps` steps (`dlkit style-transfer`). A
    photograph that cannot be read raises a DlkitError; of many, with errors="return", it becomes a
    Failure in its place.

    >>> from dlkit.style_transfer import style_transfer
    >>> painted = style_transfer("data/cat.jpg", "data/great-wave.jpg", size=96, strength=0.8)
    >>> painted.picture().size
    (96, 64)
    >>> slow = style_transfer("data/cat.jpg", "data/great-wave.jpg", "gatys", size=64, steps=2)
    >>> slow.steps, slow.picture().size
    (2, (451, 300))
    """
    api.check_ranges(
        size=(size, 8, None),
        style_size=(style_size, 32, None),
        strength=(strength, 0, 1),
        tile=(tile, 128, None),
        steps=(steps, 1, None),
        content_weight=(content_weight, 0, None),
        style_weight=(style_weight, 0, None),
        tv_weight=(tv_weight, 0, None),
        batch_size=(batch_size, 1, None),
        workers=(workers, 0, None),
    )
    sources, many = as_sources(photos)
    painter = api.loaded_model(model, load_once, device, precision)
    common: dict[str, Any] = {
        "style_size": style_size,
        "tile": tile,
        "colors": preserve_color or "style",
    }
    optimizing = {
        "steps": steps,
        "content_weight": content_weight,
        "style_weight": style_weight,
        "tv_weight": tv_weight,
    }

    from dlkit.style_transfer.apply import Stylizer

    results: Iterator[Any]
    if isinstance(painter, Stylizer):
        refuse_given(optimizing, "gatys, not for a painter that needs one pass")
        styles = style_group(style, painter.styles, blend)
        common |= {"size": size, "strength": 1.0 if strength is None else strength}
        if style_size is None:
            common["style_size"] = STYLE_SIZE
        elif painter.styles:
            raise DlkitError("style_size is for painters of any style; remove it")
        results = paint_at_once(sources, styles, painter, common, batch_size, workers)
    else:
        refuse_given({"strength": strength}, "a painter that needs one pass, not for gatys")
        styles = style_group(style, [], blend)
        common |= {"precision": painter.precision} | ({} if size is None else {"size": size})
        results = paint_by_steps(sources, styles, painter.network, common, optimizing)
    return api.answer(results, many, errors)


def refuse_given(options: dict[str, Any], owner: str) -> None:
    """Raise DlkitError for an option that was given, but is for another kind of model."""
    for name, value in options.items():
        if value is not None:
            raise DlkitError(f"{name} is for {owner}; remove it")


def style_group(
    style: StyleLike, known: Sequence[str], blend: Sequence[float] | None
) -> tuple["Style", ...]:
    """The styles of one painting with their shares; `known` are those that the painter learned."""
    from dlkit.style_transfer.plan import Style

    several: Sequence[Any] = style if isinstance(style, list | tuple) else [style]
    if style is None:
        if len(known) != 1:
            choices = f"; choose from {', '.join(known)}" if known else "; give a picture"
            raise DlkitError(f"no style{choices}")
        several = known
    if len(several) > 1 and blend is None:
        raise DlkitError(f"{len(several)} styles; give blend to mix them, such as [0.5, 0.5]")
    shares = [1.0] * len(several) if blend is None else [float(share) for share in blend]
    if len(shares) != len(several) or min(shares, default=0) < 0 or not sum(shares):
        raise DlkitError(f"blend={blend}: give a positive share for each of the {len(several)}")
    names = [as_source(one, "style") for one in several]
    return tuple(
        Style(name, share / sum(shares)) for name, share in zip(names, shares, strict=True)
    )


def paint_at_once(
    sources: Iterator[str],
    styles: tuple["Style", ...],
    painter: "Stylizer",
    settings: dict[str, Any],
    batch_size: int,
    workers: int,
) -> Iterator[StyledPicture | Failure]:
    """Paint each photograph in one pass of a painter."""
    from dlkit.style_transfer import apply
    from dlkit.style_transfer.plan import PlannedPainting, join_names

    options = apply.ApplyOptions(batch_size=batch_size, workers=workers, **settings)
    codes = [apply.blend_codes(painter, styles, options.style_size)]
    paths, again = tee(sources)
    planned = ([PlannedPainting(path, styles, Path())] for path in again)
    for (painted,) in apply.paint_stream(paths, planned, codes, painter, options):
        if isinstance(painted, Failure):
            yield painted
            continue
        picture = apply.finish_painting(painted, options)
        result = StyledPicture(painted.item.photo, join_names(styles), *picture.size)
        yield with_painting(result, picture)


def paint_by_steps(
    sources: Iterator[str],
    styles: tuple["Style", ...],
    network: "FeatureNetwork",
    settings: dict[str, Any],
    optimizing: dict[str, Any],
) -> Iterator[StyledPicture | Failure]:
    """Paint each photograph by optimization."""
    from dlkit.style_transfer import infer
    from dlkit.style_transfer.optimize import Objective
    from dlkit.style_transfer.plan import PlannedPainting, join_names
    from dlkit.style_transfer.preview import ProgressRecorder

    given = {name: value for name, value in optimizing.items() if value is not None}
    settings |= {"steps": given.pop("steps")} if "steps" in given else {}
    objective, options = Objective(**given), infer.PaintOptions(**settings)
    if not (objective.content_weight or objective.style_weight or objective.tv_weight):
        raise DlkitError("all three weights are 0: nothing to paint; give one")
    for path in sources:
        item = PlannedPainting(path, styles, Path("painting"))
        recorder = ProgressRecorder(item.target, options.every, options.preview, options.steps)
        try:
            picture, step, ended_by = infer.paint_picture(
                item, network, objective, options, recorder
            )
            if ended_by is not None:
                raise ended_by
        except DlkitError as error:
            yield Failure(path, error.reason_for(path))
            continue
        losses = infer.content_and_style(step)
        result = OptimizedPicture(path, join_names(styles), *picture.size, step.number, *losses)
        yield with_painting(result, picture)


def train(config: StyleTrainConfig) -> Path:
    """Train a painter; return the path of its best checkpoint, which `load` takes.

    `config.data` are styles, `config.images` photographs. Progress is printed on stderr.

    >>> from dlkit.style_transfer import Config, style_transfer, train
    >>> config = Config(data=["data/great-wave.jpg"], images=["photos"], width=8, epochs=1)
    >>> best = train(config)
    >>> style_transfer("data/cat.jpg", "great-wave", best).style
    'great-wave'
    """
    from dlkit.style_transfer.train import train

    return api.train_with(train, config)


def evaluate(
    data: Sequence[str | os.PathLike[str]],
    split: str = "",
    model: str | os.PathLike[str] | Model[Painter] = DEFAULT_MODEL,
    *,
    save: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> Scores:
    """The mean distances of a model's paintings from their photographs and styles.

    `data` are the photographs, a folder or file, and then the styles. The data has no splits. The
    folder `save` gets the paintings.

    >>> from dlkit.style_transfer import evaluate
    >>> scores = evaluate(["data/cat.jpg", "data/great-wave.jpg"])
    >>> scores["content_distance"] > 0, scores["style_distance"] > 0
    (True, True)
    """
    from dlkit.style_transfer.evaluate import evaluate_checkpoint

    return api.evaluate_with(evaluate_checkpoint, data, split, model, save, 0, device, precision)
