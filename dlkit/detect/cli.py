"""`dlkit detect`: its arguments. The work is imported when a command runs; help stays quick."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.core.cli.command import (
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
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter
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
Save = Annotated[
    Path | None, typer.Option(help="Folder for the images or videos with their boxes drawn.")
]
Crops = Annotated[
    Path | None, typer.Option(help="Folder for a picture of each object, in a folder of its label.")
]
Track = Annotated[
    bool,
    typer.Option(
        "--track",
        help="Number the objects of a video, or of images that are its frames, and follow them.",
    ),
]
Count = Annotated[bool, typer.Option("--count", help="Print how many there are of each label.")]
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
    crops: Crops = None,
    track: Track = False,
    count: Count = False,
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
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the objects in images, image by image and best first.

    Videos and cameras (camera:0) are read frame by frame.
    """
    from dlkit.core.vision import video
    from dlkit.core.vision.images import SUFFIXES, files, keep_apart
    from dlkit.detect import formats, keypoints, results
    from dlkit.detect.boxes import suppression_of
    from dlkit.detect.infer import detect, drawn_in, load, save_pictures
    from dlkit.detect.predictor import Method, thresholds_of
    from dlkit.detect.video import watch

    if output is not None and output.suffix.lower() in SUFFIXES | video.SUFFIXES:
        raise DlkitError(f"{output} is an image's name or a video's, and results are text")
    videos = [source for source in images if video.is_video(source)]
    if videos and len(videos) < len(images):
        raise DlkitError("videos and images cannot be mixed: give them to commands of their own")
    if format in {DetectFormat.coco, DetectFormat.voc, DetectFormat.yolo}:
        for what, given in [("--count", count), ("--track", track), ("a video", bool(videos))]:
            if given:
                raise DlkitError(f"-f {format} has no place for {what}: use jsonl, json or csv")
    in_order = track or bool(videos)
    if in_order and (world_size() > 1 or shard is not None or resume):
        raise DlkitError(
            "frames that follow each other are for one process: do without torchrun, --shard and"
            " --resume"
        )
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
    # What can be resumed stands in a file of its own; frames cannot be.
    writer = ShardWriter(format, output, shard, resume) if not in_order else None
    paths = keep_apart([save, crops, output if files_of_each else None], images)
    detector = load(model, device, precision)
    found: Any
    if keypoints.finds_keypoints(detector):
        plain = Method(batch_size=batch_size, workers=workers)
        if method != plain or in_order or count or crops or format not in set(Format):
            raise DlkitError(
                f"{model} finds the keypoints of images: options for boxes and scores, videos,"
                " --image-size and the formats coco, voc and yolo are not for it"
            )
        assert writer is not None
        found = keypoints.locate(paths, detector, batch_size, workers, writer.shard)
        if save is not None:
            names = writer.file_names(save, picture_suffix)
            found = save_pictures(found, names, keypoints.drawn)
    elif videos:
        found = watch(files(paths), detector, method, track, save, crops)
    else:
        found = detect(paths, detector, method, None if writer is None else writer.shard)
        if track:
            found = results.follow(found)
        if save is not None:
            names = writer.file_names(save, picture_suffix) if writer else FileNames(save)
            found = save_pictures(found, names, partial(drawn_in, labels=detector.labels))
        if crops is not None:
            found = results.save_crops(found, results.Crops.of(writer, crops))
    if count:
        found = results.counted(found)
    if format == DetectFormat.coco:
        write(found, format, output, partial(formats.write_coco, labels=detector.labels))
    elif files_of_each:
        write(formats.write_files(found, format, output, detector.labels))
    elif writer is not None:
        writer.write(found)
    else:
        write(found, format, output)
