"""`dlkit segment`: its arguments. The work is imported when a command runs; help stays quick."""

from pathlib import Path
from typing import Annotated

import typer

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
    model_argument,
    task,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.segment.config import DEFAULT_MODEL, SegmentTrainConfig

app = task("segment", "Label every pixel of images.", SegmentTrainConfig, DEFAULT_MODEL)

Model = model_argument("segment")
Save = Annotated[
    Path | None,
    typer.Option(
        help="Folder for NAME.png, the classes' numbers with a palette, and NAME-overlay.jpg."
    ),
]
Classes = Annotated[str | None, typer.Option(help="Only these classes, as in Road,Car.")]
Probabilities = Annotated[
    Path | None,
    typer.Option(help="Folder for NAME.npz with the probability of each class at each pixel."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Cut large images into overlapping tiles of this side, at the image's own size.",
        min=32,
    ),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average three scales, each as it is and mirrored.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Of models that find objects: leave out those that score lower; default: 0.5.",
        min=0,
        max=1,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Longest side the network sees; default: as trained.", min=32, max=16384),
]


@app.command()
def infer(
    images: Images,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    save: Save = None,
    classes: Classes = None,
    probabilities: Probabilities = None,
    tile: Tile = None,
    tta: Tta = False,
    image_size: ImageSize = None,
    threshold: Threshold = None,
    batch_size: BatchSize = 4,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the classes in images, each with its share of the pixels and the box around them.

    With a model that finds objects: these, one by one, best first.
    """
    from dlkit.core.vision.images import SUFFIXES, keep_apart
    from dlkit.segment.infer import Method, load, segment
    from dlkit.segment.instances import find_objects

    if output is not None and output.suffix.lower() in SUFFIXES:
        raise DlkitError(f"{output} is an image's name, and results are text: use --save FOLDER")
    writer = ShardWriter(format, output, shard, resume)
    paths = keep_apart([save, probabilities], images)
    save, probabilities = writer.folder(save), writer.folder(probabilities)
    predictor = load(model, device, precision)
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    masks = format in {Format.json, Format.jsonl}
    if predictor.finds_objects:
        of_pixels = {
            "--tile": tile is not None,
            "--tta": tta,
            "--probabilities": probabilities is not None,
        }
        for option in (name for name, given in of_pixels.items() if given):
            raise DlkitError(f"{option} is for models that label pixels, and {model} finds objects")
        found = find_objects(
            paths,
            predictor,
            0.5 if threshold is None else threshold,
            wanted,
            masks,
            save,
            image_size,
            batch_size,
            workers,
            writer.shard,
        )
        writer.write(found)
        return
    if threshold is not None:
        raise DlkitError(f"--threshold is for models that find objects: {model} labels pixels")
    method = Method(image_size, tile, tta, batch_size, workers)
    writer.write(
        segment(paths, predictor, method, wanted, masks, save, probabilities, writer.shard)
    )
