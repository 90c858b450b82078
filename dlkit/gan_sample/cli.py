"""`dlkit gan-sample`: its arguments. Work is imported when a command runs; help stays quick."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Data,
    Device,
    Images,
    Output,
    PictureResumeOption,
    PictureShardOption,
    PrecisionOption,
    Split,
    Workers,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.gan_sample.config import DEFAULT_MODEL, GanTrainConfig

if TYPE_CHECKING:
    from dlkit.gan_sample.infer import Sampler, Vectors

app = group("gan-sample", "Draw new pictures from noise; training.")
add_train(app, "gan-sample", GanTrainConfig)
add_models(app, "gan-sample")

COUNT = 64
STRIP, FRAMES = 9, 25  # pictures of a way, in a strip and in a GIF
STEPS = 200

Model = model_argument("gan-sample")
Separate = Annotated[Path | None, typer.Option(help="Folder for a file of each picture.")]
Seed = Annotated[
    int, typer.Option(help="The same seed draws the same pictures, however many.", min=0)
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        help="Of models with classes: this one; may be given more than once. Default: all.",
    ),
]
Truncation = Annotated[
    float | None,
    typer.Option(
        help="Draw from normal vectors up to this: lower is more typical and less varied.", min=0
    ),
]
Latents = Annotated[
    Path | None, typer.Option(help="FILE.npy: its rows are the latent vectors, not drawn ones.")
]
SaveLatents = Annotated[
    Path | None, typer.Option(help="FILE.npy for the latent vectors of the pictures.")
]


@app.command()
def infer(
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            help=f"Pictures to draw; default: {COUNT}, or as --latents has.",
            min=1,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for a grid of the pictures; default: grid.png, or none with --separate.",
        ),
    ] = None,
    separate: Separate = None,
    seed: Seed = 0,
    classes: Classes = None,
    truncation: Truncation = None,
    latents: Latents = None,
    save_latents: SaveLatents = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
) -> None:
    """Draw pictures; prints each file, its first picture's number, how many it has, the class."""
    from dlkit.gan_sample import infer as drawing

    grid = sheet_for(output, separate, "grid.png")
    check_vectors_name(save_latents)
    sampler = drawing.load_to_sample(model, device, precision)
    kinds = drawing.chosen_classes(sampler, classes)
    vectors, rows = vectors_of(sampler, latents, seed, truncation)
    count = count or rows or COUNT
    if rows is not None and count > rows:
        raise DlkitError(f"{latents} has {rows} vectors: -n {count} is more")
    write(
        drawing.sample(sampler, count, vectors, kinds, grid, separate, save_latents),
        format,
    )


@app.command()
def interpolate(
    seeds: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures to go through: SEED, or SEED:NUMBER for others than its first, 0."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A strip, or if it ends in .gif an animation.")
    ] = Path("interpolation.png"),
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Pictures of each way, with both ends; default: {STRIP}, in a GIF {FRAMES}.",
            min=2,
        ),
    ] = None,
    classes: Classes = None,
    truncation: Truncation = None,
    latents: Latents = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
) -> None:
    """Draw the way from one picture to the next, on the sphere that latent vectors lie on.

    Each way is a row; of a model with classes a row for each of them.
    """
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample.grid import check_name
    from dlkit.gan_sample.interpolate import interpolate, points_of

    check_name(output)
    if bool(seeds) == (latents is not None):
        raise DlkitError("give seeds to go through, such as 1 2 3, or --latents FILE")
    sampler = drawing.load_to_sample(model, device, precision)
    kinds = drawing.chosen_classes(sampler, classes)
    if latents is not None:
        vectors, rows = vectors_of(sampler, latents, 0, truncation)
        points = vectors(range(rows or 0))
    else:
        points = points_of(sampler, seeds or [], truncation)
    steps = steps or (FRAMES if output.suffix.lower() == ".gif" else STRIP)
    write([interpolate(sampler, points, steps, kinds, output)], format)


@app.command()
def reconstruct(
    images: Images,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for all, each with its reconstruction below; default: reconstructions.png,"
            " or none with --separate.",
        ),
    ] = None,
    separate: Separate = None,
    save_latents: SaveLatents = None,
    classes: Classes = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Of models without an encoder: steps of the search; default: {STEPS}.", min=1
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of models without an encoder: where it begins; default: 0.", min=0),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    format: AnyFormat = Format.text,
    shard: PictureShardOption = None,
    resume: PictureResumeOption = False,
) -> None:
    """Make pictures again as the model can: by its encoder, or by a search for latent vectors.

    Prints the mean squared error of values from 0 to 1, its decibels, the class, the file.
    """
    from dlkit.core.vision.images import keep_apart
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample.reconstruct import reconstruct

    if shard is not None or resume:
        option = "--resume" if shard is None else "--shard"
        if separate is None:
            raise DlkitError(f"{option} is for a file of each picture: give --separate FOLDER")
        for name, path in {"--output": output, "--save-latents": save_latents}.items():
            if path is not None:
                raise DlkitError(f"{name} is of all pictures: leave out --shard and --resume")
    sheet = sheet_for(output, separate, "reconstructions.png")
    check_vectors_name(save_latents)
    paths = keep_apart([separate], images)
    sampler = drawing.load_to_sample(model, device, precision)
    if sampler.has_encoder:
        for name, given in {"--steps": steps, "--seed": seed}.items():
            if given is not None:
                raise DlkitError(f"{name} is for models without an encoder, which {model} has")
    kinds = drawing.chosen_classes(sampler, classes)
    results = reconstruct(
        paths,
        sampler,
        kinds,
        STEPS if steps is None else steps,
        0 if seed is None else seed,
        sheet,
        separate,
        save_latents,
        workers,
        shard,
        resume,
    )
    write(results, format)


@app.command("translate-images")
def translate_images(
    images: Images,
    save: Annotated[Path, typer.Option(help="Folder for NAME.png.")] = Path("translated"),
    back: Annotated[
        bool, typer.Option("--back", help="From domain B to A, not from A to B.")
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(help="Longest side of the results; default: as trained.", min=8, max=8192),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    shard: PictureShardOption = None,
    resume: PictureResumeOption = False,
) -> None:
    """Turn pictures of one domain into ones of another, by a cyclegan that you trained.

    Prints each picture, its translation's file, width and height.
    """
    from dlkit.core.vision.images import keep_apart
    from dlkit.gan_sample.infer import load
    from dlkit.gan_sample.translate_images import translate_images

    paths = keep_apart([save], images)
    sampler = load(model, device, precision)
    if not sampler.translates:
        raise DlkitError(f"{model} draws from noise: translate-images needs a cyclegan's model")
    results = translate_images(paths, sampler, save, back, image_size, workers, shard, resume)
    write(results, format)


@app.command()
def evaluate(
    data: Data,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    split: Split = "test",
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "-n",
            help="Pictures to draw, and real ones at most; default: as many as there are,"
            " 10,000 at most.",
            min=10,
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="Classifier of `dlkit classify` in whose features pictures are compared; auto:"
            " digits for gray pictures, cifar10 up to 32 pixels, else caltech101."
        ),
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print how close a model's pictures come to real ones; compares within one --features only."""
    from dlkit.gan_sample.evaluate import evaluate_checkpoint

    scores = evaluate_checkpoint(data, split, model, samples, features, seed, device, precision)
    write(scores, format, output)


def sheet_for(output: Path | None, separate: Path | None, default: str) -> Path | None:
    """The file for all pictures together: as asked, or where nothing else is."""
    from dlkit.gan_sample.grid import check_name

    sheet = output if output is not None or separate is not None else Path(default)
    if sheet is not None:
        check_name(sheet)
    return sheet


def check_vectors_name(path: Path | None) -> None:
    if path is not None and path.suffix != ".npy":
        raise DlkitError(f"{path}: a file of latent vectors ends in .npy")


def vectors_of(
    sampler: "Sampler", latents: Path | None, seed: int, truncation: float | None
) -> "tuple[Vectors, int | None]":
    """Where latent vectors come from, and how many there are in a file."""
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample import vector_files

    if latents is None:
        return drawing.seeded(sampler, seed, truncation), None
    if seed or truncation is not None:
        given = "--seed" if seed else "--truncation"
        raise DlkitError(f"{given} is for vectors that are drawn, and {latents} has them")
    rows = vector_files.read(latents, sampler.network.latent)
    return drawing.stored(rows), len(rows)
