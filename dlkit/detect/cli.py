"""`dlkit detect`: its arguments. The work is imported when a command runs; help stays quick."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.command import (
    BatchSize,
    Device,
    Images,
    Output,
    PrecisionOption,
    Resume,
    Shard,
    Workers,
    by_suffix,
    model_argument,
    task,
)
from dlkit.core.errors import DlkitError
from dlkit.core.output import picture_suffix, write
from dlkit.core.sharing import Part
from dlkit.detect.config import DEFAULT_MODEL, DetectTrainConfig, Nms

app = task("detect", "Find objects in images.", DetectTrainConfig, DEFAULT_MODEL)


class DetectFormat(StrEnum):
    text = "text"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    coco = "coco"
    voc = "voc"
    yolo = "yolo"


Model = model_argument("detect")
Save = Annotated[Path | None, typer.Option(help="Folder for the images with their boxes drawn.")]
Threshold = Annotated[
    str,
    typer.Option(
        metavar="SCORE",
        help="Leave out boxes that score lower; 0.4,cat=0.5,dog=0.2 gives labels scores of their"
        " own.",
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(help="Overlap from which suppression acts; default: 0.5.", min=0, max=1),
]
NmsOption = Annotated[
    Nms,
    typer.Option(
        "--nms",
        help="Of boxes of a label that overlap more than --iou, keep the best (hard), or their mean"
        " weighted by score; soft: keep all, with lower scores.",
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(help="soft-gaussian: the larger, the milder; default: 0.5.", min=0.01),
]
ClassAgnostic = Annotated[
    bool, typer.Option("--class-agnostic", help="Suppress boxes of other labels, too.")
]
Labels = Annotated[str | None, typer.Option(help="Only these labels, as in cat,dog.")]
MaxDetections = Annotated[int, typer.Option(help="Most boxes per image.", min=1)]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Longest side the network sees; default: as trained.", min=32, max=8192),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Look at large images in overlapping tiles of this side, too, for what is small.",
        min=32,
    ),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Fuse three scales, each as it is and mirrored: slower.")
]
FormatOption = Annotated[
    DetectFormat,
    typer.Option(
        "--format",
        "-f",
        help="voc and yolo write one file per image into --output.",
        callback=by_suffix,
    ),
]


@app.command()
def infer(
    images: Images,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    save: Save = None,
    threshold: Threshold = "0.3",
    iou: Iou = None,
    nms: NmsOption = "hard",
    sigma: Sigma = None,
    class_agnostic: ClassAgnostic = False,
    labels: Labels = None,
    max_detections: MaxDetections = 100,
    image_size: ImageSize = None,
    tile: Tile = None,
    tta: Tta = False,
    batch_size: BatchSize = 16,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: FormatOption = DetectFormat.text,
    output: Output = None,
    shard: Shard = None,
    resume: Resume = False,
) -> None:
    """Print the objects in images, image by image and best first."""
    from dlkit.core.images import SUFFIXES, keep_apart
    from dlkit.detect import formats
    from dlkit.detect.boxes import suppression_of
    from dlkit.detect.finder import Method, thresholds_of
    from dlkit.detect.infer import detect, load, save_pictures

    if output is not None and output.suffix.lower() in SUFFIXES:
        raise DlkitError(f"{output} is an image's name, and results are text: choose another")
    wanted = None if labels is None else [label.strip() for label in labels.split(",")]
    method = Method(
        *thresholds_of(threshold),
        suppression_of(nms, iou, sigma, class_agnostic),
        wanted,
        max_detections,
        image_size,
        tile,
        tta,
        batch_size,
        workers,
    )
    files_of_each = format in {DetectFormat.voc, DetectFormat.yolo}
    part = Part(format, output, shard, resume)
    paths = keep_apart([save, output if files_of_each else None], images)
    detector = load(model, device, precision)
    results = detect(paths, detector, method, part.share)
    if save is not None:
        names = part.file_names(save, picture_suffix)
        results = save_pictures(results, names, detector.labels)
    if format == DetectFormat.coco:
        write(results, format, output, partial(formats.write_coco, labels=detector.labels))
    elif files_of_each:
        write(formats.write_files(results, format, output, detector.labels))
    else:
        part.write(results)
