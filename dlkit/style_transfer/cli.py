"""`dlkit style-transfer`: its arguments. Work is imported when a command runs; help stays quick."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    BatchSize,
    Device,
    Output,
    PictureResumeOption,
    PictureShardOption,
    PrecisionOption,
    Workers,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.style_transfer.config import DEFAULT_FEATURES, DEFAULT_MODEL, StyleTrainConfig

app = group("style-transfer", "Paint photographs in the style of a picture.")
add_train(app, "style-transfer", StyleTrainConfig)
add_models(app, "style-transfer")

DEFAULT_OUTPUT = Path("painted")
SIZE, STEPS = 512, 300
CONTENT_LAYERS = "relu4_2"
STYLE_LAYERS = "relu1_1,relu2_1,relu3_1,relu4_1,relu5_1"

Photos = Annotated[
    list[str],
    typer.Argument(help="Photographs: files, folders, globs, URLs, or - for a list on stdin."),
]
StylePicture = Annotated[
    str,
    typer.Argument(
        help="The style, the last of the pictures: a file or URL; a folder or glob has several."
    ),
]
MoreStyles = Annotated[
    list[str] | None,
    typer.Option("--style", help="A further style; may be given more than once."),
]
Blend = Annotated[
    str | None,
    typer.Option(
        help="Paint all styles in one picture, with these shares, as in 0.7,0.3; default: a picture"
        " for each style."
    ),
]
Pictures = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="The painting's file; of several, the folder for PHOTO-STYLE.jpg."
    ),
]
Grid = Annotated[
    Path | None, typer.Option(help="Also write a picture of all: photographs by styles.")
]
PreserveColor = Annotated[
    Literal["luminance", "histogram"] | None,
    typer.Option(
        help="Keep the photograph's colors. luminance: paint its brightness only; histogram: give"
        " the style the mean and the spread of its colors."
    ),
]
Size = Annotated[
    int,
    typer.Option(
        help="Longest side that is painted; the painting then gets the photograph's size.", min=32
    ),
]
AsPainted = Annotated[
    bool, typer.Option("--as-painted", help="Leave the painting at --size pixels.")
]
StyleSize = Annotated[
    int | None,
    typer.Option(help="Longest side of the styles: less, and strokes are smaller.", min=32),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Compute in tiles of this side, which needs less memory and leaves no seams; default:"
        " where it is needed.",
        min=128,
    ),
]
Features = Annotated[
    str,
    typer.Option(help="Feature network: a bundled one's name, vgg19, vgg16, a file or a URL."),
]
ContentWeight = Annotated[float, typer.Option(help="Weight of the content's loss.", min=0)]
StyleWeight = Annotated[float, typer.Option(help="Weight of the styles' loss.", min=0)]
TvWeight = Annotated[
    float, typer.Option(help="Weight of the total variation: more is smoother.", min=0)
]
ContentLayers = Annotated[
    str,
    typer.Option(help="Layers of the content, perhaps weighed, as in relu3_1=2,relu4_2=1."),
]
StyleLayers = Annotated[
    str, typer.Option(help="Layers of the style, likewise; without weights they share 1.")
]
Model = model_argument("style-transfer")


@app.command()
def infer(
    photos: Photos,
    style: StylePicture,
    more_styles: MoreStyles = None,
    blend: Blend = None,
    output: Pictures = DEFAULT_OUTPUT,
    grid: Grid = None,
    size: Size = SIZE,
    as_painted: AsPainted = False,
    style_size: StyleSize = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimizer.", min=1)] = STEPS,
    content_weight: ContentWeight = 1.0,
    style_weight: StyleWeight = 50.0,
    tv_weight: TvWeight = 30.0,
    content_layers: ContentLayers = CONTENT_LAYERS,
    style_layers: StyleLayers = STYLE_LAYERS,
    features: Features = DEFAULT_FEATURES,
    pooling: Annotated[
        Literal["average", "max"], typer.Option(help="How the feature network pools.")
    ] = "average",
    caffe: Annotated[
        bool,
        typer.Option("--caffe", help="The feature network sees images as Caffe's networks do."),
    ] = False,
    init: Annotated[
        str, typer.Option(help="What to start from: content, noise, or an image.")
    ] = "content",
    optimizer: Annotated[
        Literal["lbfgs", "adam"], typer.Option(help="lbfgs needs fewer steps, adam less memory.")
    ] = "lbfgs",
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate; default: 1 for lbfgs, 0.02 for adam.", min=0),
    ] = None,
    preserve_color: PreserveColor = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture that is white where the style is painted and black where the photograph"
            " stays; with --blend one for each style, in their order."
        ),
    ] = None,
    scales: Annotated[
        int | None,
        typer.Option(
            help="Sizes to paint at, from coarse to fine; default: more for a larger --size.",
            min=1,
            max=8,
        ),
    ] = None,
    tile: Tile = None,
    every: Annotated[
        int, typer.Option(help="Save the picture after every so many steps; 0: never.", min=0)
    ] = 0,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write NAME.gif, the way to the picture.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of --init noise; default: 0.", min=0)
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only every N-th painting, from number I on, counted from 0."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Leave out the paintings that are there, also one that Ctrl-C ended."
        ),
    ] = False,
) -> None:
    """Paint each photograph in each style, by optimization (Gatys et al. 2016).

    Prints the photograph, the style, the painting's file, width, height and steps, the losses of
    content and style, and the seconds.
    """
    from dlkit.style_transfer import infer as painting
    from dlkit.style_transfer.optimize import Objective
    from dlkit.style_transfer.plan import left_to_do, plan, save_grid, together

    refuse_grid_of_part(grid, shard, resume)
    pictures = existing(photos)
    groups = together(existing([style, *(more_styles or [])]), blend)
    if mask and (len(pictures) > 1 or len(groups) > 1):
        raise DlkitError("--mask is for one photograph, and one style or a --blend")
    if mask and len(mask) != len(groups[0]):
        raise DlkitError(f"give --mask once for each style: {len(groups[0])} times")
    jobs = left_to_do(plan(pictures, groups, output), 1, shard, resume)
    objective = Objective(
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        content_layers=layer_weights("--content-layers", content_layers),
        style_layers=layer_weights("--style-layers", style_layers),
    )
    if seed is not None and init != "noise":
        raise DlkitError(f"--seed is for --init noise, not {init}")
    if not (content_weight or style_weight or tv_weight):
        raise DlkitError("all weights are 0: there is nothing to paint")
    method = painting.Method(
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
    results = painting.paint(jobs, network, objective, method)
    write(save_grid(results, pictures, groups, grid), format)


def refuse_grid_of_part(grid: Path | None, shard: str | None, resume: bool) -> None:
    if grid is not None and (shard is not None or resume):
        raise DlkitError("--grid shows all paintings: leave out --shard and --resume")


@app.command("apply")
def apply_(
    model: Annotated[str, typer.Argument(help="A bundled painter's name, a file, or a URL.")],
    photos: Photos,
    styles: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="A style: a picture, folder or glob, or for a painter of few styles one's name;"
            " may be given more than once; default: all that the painter knows.",
        ),
    ] = None,
    blend: Blend = None,
    output: Pictures = DEFAULT_OUTPUT,
    grid: Grid = None,
    size: Annotated[
        int | None,
        typer.Option(help="Longest side of the paintings; default: the photographs' own.", min=8),
    ] = None,
    style_size: Annotated[
        int | None,
        typer.Option(
            help=f"adain: longest side at which the styles are seen; default: {SIZE}.", min=32
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="From 0, the photograph, to 1, the whole style.", min=0, max=1)
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

    Prints the photograph, the style, and the painting's file, width and height.
    """
    from dlkit.style_transfer import apply as passes
    from dlkit.style_transfer.plan import left_to_do, plan, save_grid, together

    refuse_grid_of_part(grid, shard, resume)
    painter = passes.load(model, device, precision)
    pictures = existing(photos)
    names = existing(styles or []) or painter.styles
    if not names:
        raise DlkitError(f"{model} paints in any style: give --style PICTURE")
    if style_size is not None and painter.styles:
        raise DlkitError(f"--style-size is for painters of any style, not for {model}")
    groups = together(names, blend)
    jobs = left_to_do(plan(pictures, groups, output), len(groups), shard, resume)
    how = passes.Pass(
        size=size,
        style_size=style_size or SIZE,
        strength=strength,
        colors=preserve_color or "style",
        tile=tile,
        batch_size=batch_size,
        workers=workers,
    )
    results = passes.apply(jobs, groups, painter, how)
    write(save_grid(results, pictures, groups, grid), format)


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
            help="What paints: a painter's name, file or URL, or gatys, painting by optimization"
            " (gatys:NETWORK: with that feature network);"
            f" may be given more than once; default: gatys and {DEFAULT_MODEL}.",
        ),
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            "--picture",
            help="A finished painting to measure instead, of the one photograph in the one style;"
            " may be given more than once.",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(help="Longest side to paint and to measure at.", min=32)
    ] = 256,
    steps: Annotated[
        int | None, typer.Option(help=f"Steps of gatys; default: {STEPS}.", min=1)
    ] = None,
    features: Features = DEFAULT_FEATURES,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for the paintings, sheet.jpg with all, and distances.csv."),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print how far paintings are from their contents and styles, method by method.

    The photographs themselves are measured, too: they show what distance there is to a style.
    """
    from dlkit.style_transfer.evaluate import compare, measure, optimizes

    contents = existing(photos)
    styles = existing([style, *(more_styles or [])])
    if pictures:
        painting = {
            "--model": methods,
            "--save": save,
            "--steps": steps,
            "--precision": None if precision == "auto" else precision,
        }
        for option in (name for name, value in painting.items() if value is not None):
            raise DlkitError(f"{option} is for painting, and --picture measures what is painted")
        scores = measure(existing(pictures), contents, styles, size, features, device)
    else:
        chosen = methods or ["gatys", DEFAULT_MODEL]
        if steps is not None and not any(map(optimizes, chosen)):
            raise DlkitError("--steps is for gatys, which is not among the models")
        steps = steps or STEPS
        scores = compare(chosen, contents, styles, size, steps, features, save, device, precision)
    write(scores, format, output)


def existing(sources: list[str]) -> list[str]:
    """The files, folders, globs and URLs as single pictures."""
    from dlkit.core.vision.images import files

    return list(files(sources))


def layer_weights(option: str, text: str) -> dict[str, float]:
    """`relu1_1=0.5,relu2_1=2`, or names alone, which share a weight of 1."""
    weights: dict[str, float] = {}
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        name, _, weight = entry.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1 / len(entries)
        except ValueError:
            raise DlkitError(f"{option} {text}: {weight!r} is no weight") from None
        if weights[name.strip()] < 0:
            raise DlkitError(f"{option} {text}: a weight is not negative")
    if not weights:
        raise DlkitError(f"{option} is empty: name a layer, such as {CONTENT_LAYERS}")
    return weights
