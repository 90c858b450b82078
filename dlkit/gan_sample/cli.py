"""The commands of `dlkit gan-sample`. Heavy imports happen when a command runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.core.cli.command import (
    AllowSkipped,
    AnyFormat,
    Data,
    Device,
    Images,
    Output,
    PictureResumeOption,
    PictureShardOption,
    PrecisionOption,
    Split,
    Strict,
    Task,
    Workers,
    missing_images,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import check_free
from dlkit.core.io.writers import Format, write
from dlkit.gan_sample.config import DEFAULT_MODEL, GanTrainConfig
from dlkit.gan_sample.help import PAGES

if TYPE_CHECKING:
    from dlkit.core.io.scores import Score
    from dlkit.gan_sample.infer import Sampler, VectorSource


def train_model(config: GanTrainConfig) -> Path:
    """Train a model, and return the path of its best checkpoint."""
    from dlkit.gan_sample.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> "Iterator[Score]":
    """The scores of a model: `evaluate.evaluate_checkpoint`."""
    from dlkit.gan_sample.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def drop_discriminator(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of a published model, which needs no discriminator."""
    return {name: w for name, w in weights.items() if not name.startswith("discriminator.")}


def next_command(config: GanTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    if config.arch == "cyclegan":
        return ["gan-sample", "translate-images", "PHOTO.jpg", "-m", model, "-o", "out"]
    return ["gan-sample", "-m", model, "-o", "samples.png"]


TASK = Task(
    "gan-sample",
    "Generate pictures from noise with GANs and VAEs.",
    GanTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    shipped=drop_discriminator,
    main_metrics=("fid",),
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

COUNT = 64
STRIP, FRAMES = 9, 25  # pictures between two points, in a strip and in a GIF
STEPS = 200

ModelOption = model_argument("gan-sample", check=True)
Separate = Annotated[
    Path | None, typer.Option(help="Folder for a file of each picture.", rich_help_panel="Output")
]
Seed = Annotated[
    int,
    typer.Option(
        help="Random seed; picture i depends on the seed and i.",
        min=0,
        rich_help_panel="Latent vectors",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        help="Class to draw; may be repeated; default: all.",
        rich_help_panel="Results",
    ),
]
Truncation = Annotated[
    float | None,
    typer.Option(
        help="Truncate latent vectors: lower is more typical, less varied.",
        min=0,
        rich_help_panel="Latent vectors",
    ),
]
Latents = Annotated[
    Path | None,
    typer.Option(
        help="FILE.npy with latent vectors, one a row, to use instead of random ones.",
        rich_help_panel="Latent vectors",
    ),
]
Scale = Annotated[
    int,
    typer.Option(help="Enlarge the pictures: each pixel N times.", min=1, rich_help_panel="Output"),
]
SaveLatents = Annotated[
    Path | None,
    typer.Option(
        help="Save the pictures' latent vectors as FILE.npy.", rich_help_panel="Latent vectors"
    ),
]


@app.command()
def infer(
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            help=f"Number of pictures; default: {COUNT}, or the rows of --latents.",
            min=1,
            rich_help_panel="Results",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for a grid of the pictures; default: grid.png, or none with --separate.",
            rich_help_panel="Output",
        ),
    ] = None,
    separate: Separate = None,
    scale: Scale = 1,
    seed: Seed = 0,
    classes: Classes = None,
    truncation: Truncation = None,
    latents: Latents = None,
    save_latents: SaveLatents = None,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
) -> None:
    """Draw pictures; prints each file, the number of its first picture, their count, the class."""
    from dlkit.gan_sample import infer as drawing

    grid = grid_path(output, separate, "grid.png")
    check_vectors_file(save_latents)
    sampler = drawing.load(model, device, precision)
    indices = drawing.class_indices(sampler, classes)
    vectors, rows = vector_source(sampler, latents, seed, truncation)
    count = count or rows or COUNT
    if rows is not None and count > rows:
        raise DlkitError(f"{rows} vectors are fewer than -n {count}; give a smaller -n", latents)
    write(
        drawing.sample(sampler, count, vectors, indices, grid, separate, save_latents, scale),
        format,
    )


@app.command()
def interpolate(
    seeds: Annotated[
        list[str] | None,
        typer.Argument(
            help="Two or more pictures: SEED, or SEED:NUMBER for picture NUMBER of that seed.",
            rich_help_panel="Input",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File for a strip of pictures; .gif: an animation.",
            rich_help_panel="Output",
        ),
    ] = Path("interpolation.png"),
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Pictures from point to point, with both ends; default: {STRIP}, GIF: {FRAMES}.",
            min=2,
            rich_help_panel="Latent vectors",
        ),
    ] = None,
    scale: Scale = 1,
    classes: Classes = None,
    truncation: Truncation = None,
    latents: Latents = None,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
) -> None:
    """Interpolate between pictures, on the sphere of the latent vectors.

    Each pair of neighbors is a row; class-conditional models draw a row for each class.
    """
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample.grid import check_image_suffix
    from dlkit.gan_sample.interpolate import interpolate, parse_points

    check_image_suffix(output)
    if bool(seeds) == (latents is not None):
        raise DlkitError("SEEDS: none given; give two or more, such as 1 2 3, or --latents FILE")
    sampler = drawing.load(model, device, precision)
    indices = drawing.class_indices(sampler, classes)
    if latents is not None:
        vectors, rows = vector_source(sampler, latents, 0, truncation)
        points = vectors(range(rows or 0))
    else:
        points = parse_points(sampler, seeds or [], truncation)
    steps = steps or (FRAMES if output.suffix.lower() == ".gif" else STRIP)
    write([interpolate(sampler, points, steps, indices, output, scale)], format)


@app.command()
def reconstruct(
    images: Images,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for all pictures, each above its reconstruction; default:"
            " reconstructions.png, or none with --separate.",
            rich_help_panel="Output",
        ),
    ] = None,
    separate: Separate = None,
    scale: Scale = 1,
    save_latents: SaveLatents = None,
    classes: Classes = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Steps of the latent search, for models without encoder; default: {STEPS}.",
            min=1,
            rich_help_panel="Latent vectors",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the latent search, for models without encoder; default: 0.",
            min=0,
            rich_help_panel="Latent vectors",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    format: AnyFormat = Format.text,
    shard: PictureShardOption = None,
    resume: PictureResumeOption = False,
) -> None:
    """Reconstruct pictures.

    The model's encoder finds their latent vectors, or else a search. Prints the mean squared error
    of values from 0 to 1, the PSNR in dB, the class, the file.
    """
    from dlkit.core.io.image_files import keep_apart

    if failures := missing_images(images):
        write(failures, format)
        return
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample.model import Autoencoder
    from dlkit.gan_sample.reconstruct import reconstruct

    if shard is not None or resume:
        option = "--resume" if shard is None else "--shard"
        if separate is None:
            raise DlkitError(f"{option} needs one file per picture; give --separate FOLDER")
        for name, path in {"--output": output, "--save-latents": save_latents}.items():
            if path is not None:
                raise DlkitError(f"{name} holds all pictures; remove --shard and --resume")
    grid = grid_path(output, separate, "reconstructions.png")
    check_vectors_file(save_latents)
    paths = keep_apart([separate], images)
    sampler = drawing.load(model, device, precision)
    if isinstance(sampler.network, Autoencoder):
        for name, given in {"--steps": steps, "--seed": seed}.items():
            if given is not None:
                raise DlkitError(f"{name} is for models without an encoder; {model} has one")
    indices = drawing.class_indices(sampler, classes)
    results = reconstruct(
        paths,
        sampler,
        indices,
        STEPS if steps is None else steps,
        0 if seed is None else seed,
        grid,
        separate,
        save_latents,
        workers,
        shard,
        resume,
        scale,
    )
    write(results, format)


@app.command("translate-images")
def translate_images(
    images: Images,
    save: Annotated[
        Path, typer.Option(help="Folder for the results, NAME.png.", rich_help_panel="Output")
    ] = Path("translated"),
    back: Annotated[
        bool,
        typer.Option(
            "--back",
            help="Translate from domain B to A instead of A to B.",
            rich_help_panel="Model",
        ),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Longest side of the results; default: the training size.",
            min=8,
            max=8192,
            rich_help_panel="Model",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    shard: PictureShardOption = None,
    resume: PictureResumeOption = False,
) -> None:
    """Translate pictures to another domain with your own CycleGAN.

    Prints each picture, the file of its translation, width and height.
    """
    from dlkit.core.io.image_files import keep_apart

    if failures := missing_images(images):
        write(failures, format)
        return
    from dlkit.gan_sample.infer import load_translator
    from dlkit.gan_sample.translate_images import translate_images

    paths = keep_apart([save], images)
    translator = load_translator(model, device, precision)
    results = translate_images(paths, translator, save, back, image_size, workers, shard, resume)
    write(results, format)


@app.command()
def evaluate(
    data: Data,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    split: Split = "test",
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "-n",
            help="Pictures to generate, and the most real ones to read; default: the size of the"
            " split, at most 10,000.",
            min=10,
            rich_help_panel="Results",
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="Classifier of `dlkit classify` whose features are compared; auto: digits for"
            " gray pictures, cifar10 up to 32 pixels, otherwise caltech101.",
            rich_help_panel="Model",
        ),
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    allow_skipped: AllowSkipped = None,
    strict: Strict = False,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print FID, KID and other scores.

    They compare only under the same --features.
    """
    from dlkit.gan_sample.evaluate import evaluate_checkpoint

    scores = evaluate_checkpoint(
        [str(data)],
        split,
        model,
        device=device,
        precision=precision,
        samples=samples,
        network=features,
        seed=seed,
        allow_skipped=0.0 if strict else allow_skipped,
    )
    write(scores, format, output, view=TASK.view)


def grid_path(output: Path | None, separate: Path | None, default: str) -> Path | None:
    """The file for the grid of all pictures: `output`, or `default` without --separate."""
    from dlkit.gan_sample.grid import check_image_suffix

    path = output if output is not None or separate is not None else Path(default)
    if path is not None:
        check_image_suffix(path)
        check_free(path)
    return path


def check_vectors_file(path: Path | None) -> None:
    """Raise DlkitError unless latent vectors can be written to the file."""
    if path is not None:
        if path.suffix != ".npy":
            raise DlkitError("not a name for latent vectors; it must end in .npy", path)
        check_free(path)


def vector_source(
    sampler: "Sampler", latents: Path | None, seed: int, truncation: float | None
) -> "tuple[VectorSource, int | None]":
    """The source of latent vectors, random or a file, and the number of rows of the file."""
    from dlkit.gan_sample import infer as drawing
    from dlkit.gan_sample import vector_files

    if latents is None:
        return drawing.seeded_vectors(sampler, seed, truncation), None
    if seed or truncation is not None:
        given = "--seed" if seed else "--truncation"
        raise DlkitError(f"{given} is for random vectors; remove it, or --latents {latents}")
    rows = vector_files.read(latents, sampler.network.latent)
    return drawing.stored_vectors(rows), len(rows)
