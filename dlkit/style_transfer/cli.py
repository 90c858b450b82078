"""The commands of `dlkit style-transfer`. Heavy imports happen when a command runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    BatchSize,
    Device,
    Output,
    PictureResumeOption,
    PictureShardOption,
    PrecisionOption,
    Task,
    Workers,
    check_model,
    missing_images,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.style_transfer.config import DEFAULT_FEATURES, DEFAULT_MODEL, StyleTrainConfig
from dlkit.style_transfer.help import PAGES

if TYPE_CHECKING:
    from dlkit.core.io.scores import Score


def train_model(config: StyleTrainConfig) -> Path:
    """Train a painter, and return the path of its best checkpoint."""
    from dlkit.style_transfer.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> "Iterator[Score]":
    """The mean distances of a painter: `evaluate.evaluate_checkpoint`."""
    from dlkit.style_transfer.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: StyleTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    style = ["--style", "STYLE.jpg"] if config.arch == "adain" else []
    return ["style-transfer", "apply", model, "PHOTO.jpg", *style, "-o", "painted.jpg"]


TASK = Task(
    "style-transfer",
    "Paint photographs in the style of a picture.",
    StyleTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    main_metrics=("style_distance",),
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

DEFAULT_OUTPUT = Path("painted")
SIZE, STEPS = 512, 300
CONTENT_LAYERS = "relu4_2"
STYLE_LAYERS = "relu1_1,relu2_1,relu3_1,relu4_1,relu5_1"

Photos = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, globs, URLs; - reads a list on stdin.",
        rich_help_panel="Input",
    ),
]
StylePicture = Annotated[
    str,
    typer.Argument(
        help="The style, last: a file or URL; a folder or glob has several.",
        rich_help_panel="Input",
    ),
]
MoreStyles = Annotated[
    list[str] | None,
    typer.Option("--style", help="Another style; may be repeated.", rich_help_panel="Style"),
]
Blend = Annotated[
    str | None,
    typer.Option(
        help="Mix all styles in one painting with these weights, as in 0.7,0.3; default: one"
        " painting per style.",
        rich_help_panel="Style",
    ),
]
PaintingOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="File for the painting; for several, a folder for PHOTO-STYLE.jpg.",
        rich_help_panel="Output",
    ),
]
Grid = Annotated[
    Path | None,
    typer.Option(help="File for a contact sheet: photographs by styles.", rich_help_panel="Output"),
]
PreserveColor = Annotated[
    Literal["luminance", "histogram"] | None,
    typer.Option(
        help="Keep the photograph's colors: change only the luma, or match the style's mean and"
        " covariance of colors.",
        rich_help_panel="Style",
    ),
]
Size = Annotated[
    int,
    typer.Option(
        help="Longest side while painting; the result is resized to the photograph's size.",
        min=32,
        rich_help_panel="Output",
    ),
]
AsPainted = Annotated[
    bool,
    typer.Option(
        "--as-painted", help="Keep the painting at --size pixels.", rich_help_panel="Output"
    ),
]
StyleSize = Annotated[
    int | None,
    typer.Option(
        help="Longest side of the styles; smaller values give smaller strokes.",
        min=32,
        rich_help_panel="Style",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Compute in tiles of this side, with less memory and without seams; default: if memory"
        " is short.",
        min=128,
        rich_help_panel="Optimization",
    ),
]
Features = Annotated[
    str,
    typer.Option(
        help="Feature network: a bundled one's name, vgg19, vgg16, a file or a URL.",
        rich_help_panel="Model",
    ),
]
ContentWeight = Annotated[
    float, typer.Option(help="Weight of the content loss.", min=0, rich_help_panel="Loss")
]
StyleWeight = Annotated[
    float, typer.Option(help="Weight of the style loss.", min=0, rich_help_panel="Loss")
]
TvWeight = Annotated[
    float,
    typer.Option(
        help="Weight of the total variation loss; more is smoother.", min=0, rich_help_panel="Loss"
    ),
]
ContentLayers = Annotated[
    str,
    typer.Option(
        help="Layers of the content loss, optionally with weights: relu3_1=2,relu4_2=1.",
        rich_help_panel="Loss",
    ),
]
StyleLayers = Annotated[
    str,
    typer.Option(
        help="Layers of the style loss, likewise; default weights are equal with a sum of 1.",
        rich_help_panel="Loss",
    ),
]


@app.command()
def infer(
    photos: Photos,
    style: StylePicture,
    more_styles: MoreStyles = None,
    blend: Blend = None,
    output: PaintingOutput = DEFAULT_OUTPUT,
    grid: Grid = None,
    size: Size = SIZE,
    as_painted: AsPainted = False,
    style_size: StyleSize = None,
    steps: Annotated[
        int, typer.Option(help="Steps of the optimizer.", min=1, rich_help_panel="Optimization")
    ] = STEPS,
    content_weight: ContentWeight = 1.0,
    style_weight: StyleWeight = 50.0,
    tv_weight: TvWeight = 30.0,
    content_layers: ContentLayers = CONTENT_LAYERS,
    style_layers: StyleLayers = STYLE_LAYERS,
    features: Features = DEFAULT_FEATURES,
    pooling: Annotated[
        Literal["average", "max"],
        typer.Option(help="Pooling of the feature network.", rich_help_panel="Model"),
    ] = "average",
    caffe: Annotated[
        bool,
        typer.Option(
            "--caffe", help="Preprocess images as Caffe's networks do.", rich_help_panel="Model"
        ),
    ] = False,
    init: Annotated[
        str,
        typer.Option(
            help="Initial picture: content, noise, or an image file.",
            rich_help_panel="Optimization",
        ),
    ] = "content",
    optimizer: Annotated[
        Literal["lbfgs", "adam"],
        typer.Option(
            help="Optimizer; lbfgs needs fewer steps, adam less memory.",
            rich_help_panel="Optimization",
        ),
    ] = "lbfgs",
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate; default: 1 for lbfgs, 0.02 for adam.",
            min=0,
            rich_help_panel="Optimization",
        ),
    ] = None,
    preserve_color: PreserveColor = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="Image that is white where the style applies and black elsewhere; with --blend one"
            " per style, in the same order.",
            rich_help_panel="Style",
        ),
    ] = None,
    scales: Annotated[
        int | None,
        typer.Option(
            help="Number of scales, from coarse to fine; default: more for a larger --size.",
            min=1,
            max=8,
            rich_help_panel="Optimization",
        ),
    ] = None,
    tile: Tile = None,
    every: Annotated[
        int,
        typer.Option(
            help="Save the picture every N steps; 0: never.", min=0, rich_help_panel="Output"
        ),
    ] = 0,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Also write NAME.gif, an animation of the steps.",
            rich_help_panel="Output",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of --init noise; default: 0.", min=0, rich_help_panel="Optimization"
        ),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only every N-th painting, starting with number I, counted from 0.",
            rich_help_panel="Batch and cluster",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip paintings whose files exist, also one that Ctrl-C ended.",
            rich_help_panel="Batch and cluster",
        ),
    ] = False,
) -> None:
    """Paint each photograph in each style, by optimization (Gatys et al. 2016).

    Prints photograph, style, file, width, height, steps, content loss, style loss and seconds.
    """
    if failures := missing_images(photos):
        write(failures, format)
        return
    from dlkit.style_transfer import infer as painting
    from dlkit.style_transfer.optimize import Objective
    from dlkit.style_transfer.plan import (
        group_styles,
        plan_paintings,
        select_remaining,
        write_grid_after,
    )

    refuse_partial_grid(grid, shard, resume)
    pictures = expand(photos)
    groups = group_styles(expand([style, *(more_styles or [])]), blend)
    if mask and (len(pictures) > 1 or len(groups) > 1):
        raise DlkitError(
            "--mask: for one photograph, and one style or a --blend; give fewer inputs"
        )
    if mask and len(mask) != len(groups[0]):
        raise DlkitError(
            f"--mask: given {len(mask)} times; give it once per style, {len(groups[0])} times"
        )
    planned = select_remaining(plan_paintings(pictures, groups, output), 1, shard, resume)
    objective = Objective(
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        content_layers=layer_weights("--content-layers", content_layers),
        style_layers=layer_weights("--style-layers", style_layers),
    )
    if seed is not None and init != "noise":
        raise DlkitError(f"--seed is for --init noise, not {init}; remove it")
    if not (content_weight or style_weight or tv_weight):
        raise DlkitError(
            "--content-weight, --style-weight and --tv-weight are 0: nothing to paint; give one"
        )
    options = painting.PaintOptions(
        size=size,
        style_size=style_size,
        as_painted=as_painted,
        steps=steps,
        optimizer=optimizer,
        lr=lr,
        init=init,
        colors=preserve_color or "style",
        masks=tuple(mask or []),
        scales=scales,
        tile=tile,
        seed=seed or 0,
        precision=precision,
        every=every,
        preview=preview,
    )
    network = painting.load(features, device, pooling, caffe)
    results = painting.paint(planned, network, objective, options)
    write(write_grid_after(results, pictures, groups, grid), format)


def refuse_partial_grid(grid: Path | None, shard: str | None, resume: bool) -> None:
    if grid is not None and (shard is not None or resume):
        raise DlkitError("--grid shows all paintings; remove --shard and --resume")


@app.command("apply")
def apply_(
    model: Annotated[
        str, typer.Argument(help="A painter: bundled name, file, or URL.", rich_help_panel="Model")
    ],
    photos: Photos,
    styles: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="A style: an image, folder or glob, or the name of one that the painter was"
            " trained on; may be given more than once; default: all of these.",
            rich_help_panel="Style",
        ),
    ] = None,
    blend: Blend = None,
    output: PaintingOutput = DEFAULT_OUTPUT,
    grid: Grid = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Longest side of the paintings; default: that of the photographs.",
            min=8,
            rich_help_panel="Output",
        ),
    ] = None,
    style_size: Annotated[
        int | None,
        typer.Option(
            help=f"adain: longest side of the styles; default: {SIZE}.",
            min=32,
            rich_help_panel="Style",
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(
            help="Strength of the style, from 0 (the photograph) to 1.",
            min=0,
            max=1,
            rich_help_panel="Style",
        ),
    ] = 1.0,
    preserve_color: PreserveColor = None,
    tile: Tile = None,
    batch_size: BatchSize = 4,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    shard: PictureShardOption = None,
    resume: PictureResumeOption = False,
) -> None:
    """Paint photographs in one pass of a trained network.

    Prints photograph, style, file, width and height.
    """
    check_model("style-transfer", model)
    if failures := missing_images(photos):
        write(failures, format)
        return
    from dlkit.style_transfer import apply as passes
    from dlkit.style_transfer.plan import (
        group_styles,
        plan_paintings,
        select_remaining,
        write_grid_after,
    )

    refuse_partial_grid(grid, shard, resume)
    painter = passes.load(model, device, precision)
    pictures = expand(photos)
    names = expand(styles or []) or painter.styles
    if not names:
        raise DlkitError(f"{model} accepts any style; give --style IMAGE")
    if style_size is not None and painter.styles:
        raise DlkitError(f"--style-size is for painters of any style, not {model}; remove it")
    groups = group_styles(names, blend)
    planned = select_remaining(plan_paintings(pictures, groups, output), len(groups), shard, resume)
    options = passes.ApplyOptions(
        size=size,
        style_size=style_size or SIZE,
        strength=strength,
        colors=preserve_color or "style",
        tile=tile,
        batch_size=batch_size,
        workers=workers,
    )
    results = passes.apply(planned, groups, painter, options)
    write(write_grid_after(results, pictures, groups, grid), format)


@app.command()
def evaluate(
    photos: Photos,
    style: StylePicture,
    more_styles: MoreStyles = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A painter's name, file or URL, or gatys for painting by optimization"
            " (gatys:NETWORK: with that feature network);"
            f" may be given more than once; default: gatys and {DEFAULT_MODEL}.",
            rich_help_panel="Model",
        ),
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            "--picture",
            help="An expand painting of the photograph in the style, to measure instead; may be"
            " given more than once.",
            rich_help_panel="Input",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            help="Longest side for painting and measuring.", min=32, rich_help_panel="Model"
        ),
    ] = 256,
    steps: Annotated[
        int | None,
        typer.Option(help=f"Steps of gatys; default: {STEPS}.", min=1, rich_help_panel="Model"),
    ] = None,
    features: Features = DEFAULT_FEATURES,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the paintings, the contact sheet sheet.jpg and distances.csv.",
            rich_help_panel="Output",
        ),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the mean content and style distances of paintings.

    The unchanged photographs are measured as well, for reference.
    """
    from dlkit.style_transfer.evaluate import compare, is_optimization, measure

    contents = expand(photos)
    styles = expand([style, *(more_styles or [])])
    if pictures:
        only_painting = {
            "--model": methods,
            "--save": save,
            "--steps": steps,
            "--precision": None if precision == "auto" else precision,
        }
        for option in (name for name, value in only_painting.items() if value is not None):
            raise DlkitError(f"{option} is for painting; remove it, or --picture")
        scores = measure(expand(pictures), contents, styles, size, features, device)
    else:
        chosen = methods or ["gatys", DEFAULT_MODEL]
        if steps is not None and not any(map(is_optimization, chosen)):
            raise DlkitError("--steps is for gatys; add --model gatys, or remove it")
        steps = steps or STEPS
        scores = compare(chosen, contents, styles, size, steps, features, save, device, precision)
    write(scores, format, output, view=TASK.view)


def expand(sources: list[str]) -> list[str]:
    """Expand files, folders, globs and URLs to single images."""
    from dlkit.core.io.image_files import files

    return list(files(sources))


def layer_weights(option: str, text: str) -> dict[str, float]:
    """Parse `relu1_1=0.5,relu2_1=2`, or names alone with weights that add up to 1."""
    weights: dict[str, float] = {}
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        name, _, weight = entry.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1 / len(entries)
        except ValueError:
            raise DlkitError(
                f"{option} {text}: {weight!r} is not a number; give LAYER=WEIGHT"
            ) from None
        if weights[name.strip()] < 0:
            raise DlkitError(f"{option} {text}: a negative weight; give 0 or more")
    if not weights:
        raise DlkitError(f"{option}: empty; give a layer, such as {CONTENT_LAYERS}")
    return weights
