"""Command line of `dlkit segment`. Inference code is imported when a command runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
    Task,
    Workers,
    missing_images,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.colors import label_colors
from dlkit.core.io.image_files import SUFFIXES, keep_apart
from dlkit.core.io.scores import Score
from dlkit.core.io.views import View
from dlkit.core.io.writers import Format, prints_table
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.segment.config import DEFAULT_MODEL, PUBLISHED, SegmentTrainConfig
from dlkit.segment.help import PAGES
from dlkit.segment.outputs import OutputFolders, SaveAs


def train_model(config: SegmentTrainConfig) -> Path:
    """Train a model; return the path of the best checkpoint."""
    from dlkit.segment.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> Iterator[Score | Failure]:
    """The scores of a model, as `evaluate_checkpoint`."""
    from dlkit.segment.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: SegmentTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["segment", "PHOTO.jpg", "-m", model, "--save", "out"]


TASK = Task(
    "segment",
    "Label every pixel of images.",
    SegmentTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    published=PUBLISHED,
    main_metrics=("mean_iou", "map_50_95_coco101"),
    pages=PAGES,
    skips=True,
    next_command=next_command,
)
app = TASK.group()

ModelOption = model_argument("segment", published=PUBLISHED, check=True)
Save = Annotated[
    Path | None,
    typer.Option(
        help="Folder for NAME.png (class indices with a palette) and NAME-overlay.jpg.",
        rich_help_panel="Output",
    ),
]
SaveAsOption = Annotated[
    SaveAs,
    typer.Option(
        "--save-as",
        help="What --save writes: masks (NAME.png), overlays (NAME-overlay.jpg), or both.",
        rich_help_panel="Output",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        help="Report only these classes, such as Road,Car; may be repeated.",
        metavar="NAMES",
        rich_help_panel="Results",
    ),
]
Probabilities = Annotated[
    Path | None,
    typer.Option(
        help="Folder for NAME.npz with the class probabilities of each pixel.",
        rich_help_panel="Output",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Process large images in overlapping tiles of this side, at full resolution.",
        min=32,
        rich_help_panel="Model",
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Test-time augmentation: average three scales, each also mirrored.",
        rich_help_panel="Model",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Instance segmentation: minimum score of an object; default: 0.5.",
        min=0,
        max=1,
        rich_help_panel="Results",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Resize images to this longest side; default: as in training.",
        min=32,
        max=16384,
        rich_help_panel="Model",
    ),
]


@app.command()
def infer(
    images: Images,
    model: ModelOption = DEFAULT_MODEL,  # type: ignore[valid-type]
    save: Save = None,
    save_as: SaveAsOption = "both",
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
    """Print the classes in each image with their share of the pixels and bounding box.

    Instance segmentation models print one line per object, best first.
    """
    if output is not None and output.suffix.lower() in SUFFIXES:
        raise DlkitError("not a text format; save images with --save FOLDER", output)
    writer = ShardWriter(format, output, shard, resume)
    if failures := missing_images(images):
        writer.write(failures)
        return
    if save_as != "both" and save is None:
        raise DlkitError("needs a folder; add --save FOLDER", f"--save-as {save_as}")
    paths = keep_apart([save, probabilities], images)
    folders = OutputFolders(writer.folder(save), save_as, writer.folder(probabilities))
    folders.check_free(paths)

    from dlkit.segment.infer import load, segment
    from dlkit.segment.instances import find_objects
    from dlkit.segment.predictor import InferOptions, InstancePredictor

    predictor = load(model, device, precision)
    names = classes or None
    masks = format in {Format.json, Format.jsonl}
    options = InferOptions(image_size, tile, tta, batch_size, workers)
    if isinstance(predictor, InstancePredictor):
        semantic_only = {"--tile": tile, "--tta": tta or None, "--probabilities": probabilities}
        for option in (name for name, value in semantic_only.items() if value is not None):
            raise DlkitError(f"{option}: {model} finds objects; use a semantic segmentation model")
        options = replace(options, threshold=0.5 if threshold is None else threshold)
        show_best = prints_table(format, output)
        writer.write(
            find_objects(paths, predictor, options, names, masks, folders, writer.shard, show_best)
        )
        return
    if threshold is not None:
        raise DlkitError(f"--threshold: {model} labels pixels; use an instance segmentation model")
    writer.write(
        segment(paths, predictor, options, names, masks, folders, writer.shard),
        view=View(label_colors(predictor.labels)),
    )
