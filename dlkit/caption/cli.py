"""The command line of `dlkit caption`. Each command imports its work when it runs."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.caption.config import DEFAULT_MODEL, NO_REPEAT, CaptionSearch, CaptionTrainConfig
from dlkit.caption.formats import FORMATS, write_lines
from dlkit.caption.help import PAGES
from dlkit.core.cli.command import (
    AnyFormat,
    BatchSize,
    Device,
    Images,
    Output,
    PrecisionOption,
    ResumeOption,
    ShardOption,
    Task,
    Workers,
    format_option,
    missing_images,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import (
    BEAM,
    LengthPenalty,
    Sample,
    Scores,
    Seed,
    Temperature,
    TopP,
    refuse_given,
    search_settings,
)
from dlkit.core.io.files import note_saved, picture_suffix
from dlkit.core.io.image_files import SUFFIXES, keep_apart, missing
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter


def train_model(config: CaptionTrainConfig) -> Path:
    """Train a captioner; return the path of the best checkpoint."""
    from dlkit.caption.train import train

    return train(config)


def evaluate_model(*args: Any, **options: Any) -> Iterator[Any]:
    """The scores of a captioner, as `evaluate_checkpoint`."""
    from dlkit.caption.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*args, **options)


def next_command(config: CaptionTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["caption", "PHOTO.jpg", "-m", model]


TASK = Task(
    "caption",
    "Describe images in sentences.",
    CaptionTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    main_metrics=("cider_d",),
    pages=PAGES,
    skips=True,
    next_command=next_command,
)
app = TASK.group()

Model = model_argument("caption", check=True)
Annotate = Annotated[
    Path | None,
    typer.Option(
        help="Folder for copies of the images with the captions below.", rich_help_panel="Output"
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        help=f"Beam size; 1: greedy search; default: {BEAM}, or -n if that is larger.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
NoRepeat = Annotated[
    int | None,
    typer.Option(
        help="Length of the n-grams that may not repeat in a caption; 0: all may; default:"
        f" {NO_REPEAT} where tokens are words, else 0.",
        min=0,
        rich_help_panel="Search and sampling",
    ),
]
Count = Annotated[
    int,
    typer.Option(
        "--captions",
        "-n",
        help="Captions per image, best first.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of a caption; default: as in the training data.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
FormatOption = format_option(FORMATS)


@app.command()
def infer(
    images: Images,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    annotate: Annotate = None,
    count: Count = 1,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    no_repeat: NoRepeat = None,
    max_length: MaxLength = None,
    sample: Sample = False,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    scores: Scores = False,
    batch_size: BatchSize = 32,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: FormatOption = "text",  # type: ignore[valid-type]
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print a caption of each image."""
    settings = search_settings(
        sample,
        beam,
        length_penalty,
        temperature,
        top_p=top_p,
        seed=seed,
        default_beam=max(BEAM, count),
    )
    if sample:
        refuse_given({"--no-repeat": no_repeat}, "--sample", sample)
    search = CaptionSearch(no_repeat=no_repeat, count=count, max_length=max_length, **settings)
    if scores and format != Format.text:
        raise DlkitError(f"--scores: -f {format} always has the scores; remove the option")
    if output is not None and output.suffix.lower() in SUFFIXES:
        raise DlkitError(f"-o {output}: an image's name, but results are text; choose another")
    writer = ShardWriter(format, output, shard, resume)
    print_with = partial(write_lines, scores=True) if scores else FORMATS[format]
    if failures := missing_images(images):
        writer.write(failures, print_with)
        return
    paths = keep_apart([annotate], images)

    from dlkit.caption.infer import caption, load

    predictor = load(model, device, precision)
    annotated = None if annotate is None else writer.file_names(annotate, picture_suffix, paths)
    results = caption(paths, predictor, search, batch_size, workers, writer.shard, annotated)
    writer.write(results, print_with)


@app.command()
def attention(
    image: Annotated[
        str, typer.Argument(help="An image: a file or a URL.", rich_help_panel="Input")
    ],
    save: Annotated[
        Path | None,
        typer.Option(
            help="PNG file for a figure with a panel for each word.", rich_help_panel="Output"
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    no_repeat: NoRepeat = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the location of each word's largest attention weight: row, column and weight.

    -f json has the weights of all locations.
    """
    search = CaptionSearch(no_repeat=no_repeat, **search_settings(False, beam, length_penalty))
    if reason := missing(image):
        raise DlkitError(reason, image)

    from dlkit.caption.attention import save_panels, word_attention
    from dlkit.caption.infer import load

    predictor = load(model, device, precision)
    found = word_attention(image, predictor, search)
    if save is not None:
        save_panels(found, predictor, save)
        note_saved(save)
    write([found], format, output)
