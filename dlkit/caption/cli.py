"""`dlkit caption`: its arguments. The work is imported when a command runs; help stays quick."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.caption.config import ALPHA, BEAM, DEFAULT_MODEL, NO_REPEAT, CaptionTrainConfig
from dlkit.core.cli.command import (
    AnyFormat,
    BatchSize,
    Device,
    Images,
    Output,
    PrecisionOption,
    ResumeOption,
    ShardOption,
    Workers,
    by_suffix,
    model_argument,
    task,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import picture_suffix
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter

app = task("caption", "Say what images show.", CaptionTrainConfig, DEFAULT_MODEL)


class CaptionFormat(StrEnum):
    text = "text"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    coco = "coco"


Model = model_argument("caption")
Annotate = Annotated[
    Path | None, typer.Option(help="Folder for the images with their captions below.")
]
Beam = Annotated[
    int | None,
    typer.Option(
        help=f"Captions that the search keeps; 1: greedy; default: {BEAM}, or as many as -n.", min=1
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help=f"Wu's alpha: 0 ranks by probability, more prefers longer captions; default: {ALPHA}.",
        min=0,
    ),
]
NoRepeat = Annotated[
    int | None,
    typer.Option(
        help="Tokens in a row that a caption may have once only; 0: any; default: "
        f"{NO_REPEAT} where tokens are words, else 0.",
        min=0,
    ),
]
Count = Annotated[
    int, typer.Option("--captions", "-n", help="Captions of each image, best first.", min=1)
]
MaxLength = Annotated[
    int | None,
    typer.Option(help="Most tokens of a caption; default: of those it was trained on.", min=1),
]
Sample = Annotated[bool, typer.Option("--sample", help="Draw at random instead of searching.")]
Temperature = Annotated[
    float | None,
    typer.Option(help="Below 1 the probable gets more probable, above 1 less; default: 1."),
]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw from the fewest tokens that together are as probable as this."),
]
Seed = Annotated[
    int | None, typer.Option(help="The same seed draws the same captions; default: 0.", min=0)
]
Scores = Annotated[
    bool, typer.Option("--scores", help="Also print log-probability over length penalty.")
]
FormatOption = Annotated[
    CaptionFormat,
    typer.Option("--format", "-f", help="How results are printed.", callback=by_suffix),
]


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
    format: FormatOption = CaptionFormat.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print a sentence that says what an image shows, image by image."""
    from dlkit.caption.formats import write_coco, write_lines
    from dlkit.caption.infer import Search, caption, load, save_pictures
    from dlkit.core.generation.sampling import Sampling
    from dlkit.core.vision.images import SUFFIXES, keep_apart

    searching = {"--beam": beam, "--length-penalty": length_penalty, "--no-repeat": no_repeat}
    drawing = {"--temperature": temperature, "--top-p": top_p, "--seed": seed}
    refuse(searching if sample else drawing, sample)
    if scores and format != CaptionFormat.text:
        raise DlkitError(f"--scores is for text: -f {format} always has them")
    if output is not None and output.suffix.lower() in SUFFIXES:
        raise DlkitError(f"{output} is an image's name, and results are text: choose another")
    writer = ShardWriter(format, output, shard, resume)
    paths = keep_apart([annotate], images)
    search = Search(
        beam=max(BEAM, count) if beam is None else beam,
        alpha=ALPHA if length_penalty is None else length_penalty,
        no_repeat=no_repeat,
        count=count,
        max_length=max_length,
        sampling=Sampling(
            temperature=1.0 if temperature is None else temperature,
            top_p=1.0 if top_p is None else top_p,
        )
        if sample
        else None,
        seed=seed or 0,
    )
    loaded = load(model, device, precision)
    results = caption(paths, loaded, search, batch_size, workers, writer.shard)
    if annotate is not None:
        results = save_pictures(results, writer.file_names(annotate, picture_suffix))
    writers: dict[str, Any] = {
        CaptionFormat.text: partial(write_lines, scores=scores),
        CaptionFormat.coco: write_coco,
    }
    writer.write(results, writers.get(format))


def refuse(given: dict[str, Any], sample: bool) -> None:
    """Options that would have no effect with, or without, --sample."""
    for name, value in given.items():
        if value is not None:
            raise DlkitError(f"{name} {'goes without' if sample else 'is for'} --sample")


@app.command()
def attention(
    image: Annotated[str, typer.Argument(help="An image: a file or a URL.")],
    save: Annotated[
        Path | None, typer.Option(help="A picture with a panel for each word: a PNG file.")
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
    """Print where the model looks most at each word: row and column of its map, and the share.

    -f json has the shares of all places.
    """
    from dlkit.caption.attention import attention, save_panels
    from dlkit.caption.infer import Search, load

    loaded = load(model, device, precision)
    search = Search(
        beam=BEAM if beam is None else beam,
        alpha=ALPHA if length_penalty is None else length_penalty,
        no_repeat=no_repeat,
    )
    found = attention(image, loaded, search)
    if save is not None:
        save_panels(found, loaded, save)
    write([found], format, output)
