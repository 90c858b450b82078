"""The commands of `dlkit detect`. Code that needs torch is imported when a command runs."""

from collections.abc import Iterator
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
    Task,
    Workers,
    format_option,
    missing_images,
    model_argument,
)
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.colors import label_colors
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.io.image_files import SUFFIXES, files, keep_apart
from dlkit.core.io.scores import Score
from dlkit.core.io.views import View
from dlkit.core.io.writers import WRITERS, prints_table, write
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.detect.config import DEFAULT_MODEL, PUBLISHED, DetectTrainConfig, Nms
from dlkit.detect.formats import FILE_FORMATS, FORMATS, write_coco, write_files
from dlkit.detect.help import PAGES
from dlkit.detect.options import DetectOptions, parse_suppression, parse_thresholds


def train_model(config: DetectTrainConfig) -> Path:
    """Train a detector; return the path of the best checkpoint."""
    from dlkit.detect.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> Iterator[Score | Failure]:
    """The scores of a detector, as `evaluate_checkpoint`."""
    from dlkit.detect.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: DetectTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["detect", "PHOTO.jpg", "-m", model, "--save", "out"]


TASK = Task(
    "detect",
    "Find objects in images.",
    DetectTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    published=PUBLISHED,
    main_metrics=("ap50_coco101", "distance"),
    pages=PAGES,
    skips=True,
    next_command=next_command,
)
app = TASK.group()

Model = model_argument("detect", published=PUBLISHED, check=True)
Save = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the images or videos with their boxes drawn.", rich_help_panel="Output"
    ),
]
Crops = Annotated[
    Path | None,
    typer.Option(
        help="Folder for a picture of each object, in a folder of its label.",
        rich_help_panel="Output",
    ),
]
Track = Annotated[
    bool,
    typer.Option(
        "--track",
        help="Track objects through a video, or through images that are its frames.",
        rich_help_panel="Results",
    ),
]
Count = Annotated[
    bool,
    typer.Option(
        "--count", help="Print the number of objects of each label.", rich_help_panel="Results"
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="SCORE",
        help="Least score of a box, instead of each label's own, which training chose (0.3 if it"
        " chose none); 0.4,cat=0.5,dog=0.2 sets it for single labels.",
        rich_help_panel="Results",
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(
        help="IoU above which a box is suppressed; default: 0.5.",
        min=0,
        max=1,
        rich_help_panel="Results",
    ),
]
NmsOption = Annotated[
    Nms,
    typer.Option(
        "--nms",
        help="Non-maximum suppression of boxes of a label that overlap by more than --iou: keep the"
        " best (hard), their mean weighted by score (weighted), or lower the scores of the others"
        " (soft-linear; soft-gaussian: at any overlap), which then may fall below --threshold.",
        rich_help_panel="Results",
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Width of soft-gaussian; larger values suppress less; default: 0.5.",
        min=0.01,
        rich_help_panel="Results",
    ),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option("--class-agnostic", help="Suppress across labels.", rich_help_panel="Results"),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        help="Only these labels, as in cat,dog; may be repeated.",
        metavar="NAMES",
        rich_help_panel="Results",
    ),
]
MaxDetections = Annotated[
    int, typer.Option(help="Maximum number of boxes per image.", min=1, rich_help_panel="Results")
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Longest side of the network's input; default: as trained.",
        min=32,
        max=8192,
        rich_help_panel="Model",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Also process overlapping tiles of this side, to find small objects in large images.",
        min=32,
        rich_help_panel="Model",
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Test-time augmentation: fuse three scales, plain and mirrored.",
        rich_help_panel="Model",
    ),
]
FormatOption = format_option(FORMATS)


@app.command()
def infer(
    images: Images,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    save: Save = None,
    crops: Crops = None,
    track: Track = False,
    count: Count = False,
    threshold: Threshold = None,
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
    format: FormatOption = "text",  # type: ignore[valid-type]
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the objects in images, image by image and best first.

    Videos and cameras (camera:0) are read frame by frame. The formats voc and yolo write one file
    per image into the folder --output.
    """
    from dlkit.core.vision import video

    videos = [source for source in images if video.is_video(source)]
    in_order = track or bool(videos)
    check_format(format, output, {"--count": count, "--track": track, "a video": bool(videos)})
    if output is not None and output.suffix.lower() in SUFFIXES | video.SUFFIXES:
        raise DlkitError("an image's or video's name, but results are text", f"--output {output}")
    if videos and len(videos) < len(images):
        raise DlkitError("videos and images cannot be mixed; run one command for each")
    if in_order and (world_size() > 1 or shard is not None or resume):
        raise DlkitError(
            "a video's frames are processed in one process; remove torchrun, --shard and --resume"
        )
    options = DetectOptions(
        *parse_thresholds(threshold),
        parse_suppression(nms, iou, sigma, class_agnostic),
        labels or None,
        max_detections,
        image_size,
        tile,
        tta,
        batch_size,
        workers,
    )
    # Frames cannot be resumed.
    writer = ShardWriter(format, output, shard, resume) if not in_order else None
    if format in WRITERS and not videos and (failures := missing_images(images)):
        if writer is None:
            write(failures, format, output)
        else:
            writer.write(failures)
        return
    paths = keep_apart([save, crops, output if format in FILE_FORMATS else None], images)
    if format in FILE_FORMATS and output is not None:
        FileNames(output).check(paths, lambda _: FILE_FORMATS[format][1])

    from dlkit.core.vision.annotate import save_pictures
    from dlkit.detect import keypoints, results
    from dlkit.detect.infer import detect, draw_detections, load
    from dlkit.detect.video import detect_videos

    detector = load(model, device, precision)
    names = None
    if save is not None and not videos:
        names = writer.file_names(save, picture_suffix, paths) if writer else FileNames(save)
    found: Any
    if keypoints.finds_keypoints(detector):
        default = DetectOptions(batch_size=batch_size, workers=workers)
        if options != default or writer is None or count or crops or format not in WRITERS:
            raise DlkitError(
                "finds keypoints of images; remove videos, --image-size, the options for boxes and"
                " scores, and -f coco, voc or yolo",
                f"--model {model}",
            )
        found = keypoints.locate(paths, detector, batch_size, workers, writer.shard)
        if names is not None:
            found = save_pictures(found, names, keypoints.draw)
    elif videos:
        found = detect_videos(files(paths), detector, options, track, save, crops)
    else:
        own = None if writer is None else writer.shard
        found = detect(paths, detector, options, own, prints_table(format, output))
        if track:
            found = results.track_objects(found)
        if names is not None:
            found = save_pictures(found, names, partial(draw_detections, labels=detector.labels))
        if crops is not None:
            found = results.save_crops(found, results.Crops.for_shard(writer, crops))
    if count:
        found = results.count_objects(found)
    if format in FILE_FORMATS:
        assert output is not None
        write(write_files(found, format, output, detector.labels))
    elif format == "coco":
        write(found, format, output, partial(write_coco, labels=detector.labels))
    else:
        # Tracked objects have colors of their own.
        view = View({} if track else label_colors(detector.labels))
        if writer is not None:
            writer.write(found, view=view)
        else:
            write(found, format, output, view=view)


def check_format(format: str, output: Path | None, contents: dict[str, bool]) -> None:
    """Raise DlkitError if a format of images cannot hold the results, or needs a folder."""
    if format in WRITERS:
        return
    for content in (name for name, present in contents.items() if present):
        raise DlkitError(f"cannot hold {content}; use jsonl, json or csv", f"-f {format}")
    if format in FILE_FORMATS and output is None:
        raise DlkitError("writes one file per image; add -o FOLDER", f"-f {format}")
