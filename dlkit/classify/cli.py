"""Command line of `dlkit classify`. Each command imports its work when it runs: help stays fast."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dlkit.classify.config import (
    DEFAULT_MODEL,
    PUBLISHED,
    TEXTS,
    ClassifyTrainConfig,
    TestViews,
    is_text_model,
)
from dlkit.classify.formats import FORMATS, fasttext_lines
from dlkit.classify.help import PAGES
from dlkit.core.cli.command import (
    AllowSkipped,
    AnyFormat,
    BatchSize,
    Data,
    Device,
    ErrorsOption,
    FieldOption,
    IdOption,
    InOption,
    Output,
    PrecisionOption,
    ResumeOption,
    SaveScores,
    ShardOption,
    Split,
    Strict,
    Task,
    Workers,
    format_option,
    missing_images,
    model_argument,
    table_of,
    write_carrying,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.colors import label_colors
from dlkit.core.io.files import picture_suffix
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.text import Line, check_sources, lines_or_stdin
from dlkit.core.io.views import View
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Shard, ShardWriter

# Columns and fields of results of texts, which no carried column may have.
TEXT_FIELDS = {Format.csv: {"label", "score"}}
TEXT_RECORD = {"text", "labels"}


def train_model(config: ClassifyTrainConfig) -> Path:
    """Train a classifier; return the path of its best checkpoint."""
    from dlkit.classify.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> Iterator[Any]:
    """Score a model; the arguments are those of `evaluate_checkpoint`."""
    from dlkit.classify.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: ClassifyTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    inputs = ["--text", "A TEXT"] if config.arch in TEXTS else ["PHOTO.jpg"]
    return ["classify", *inputs, "-m", model]


TASK = Task(
    "classify",
    "Classify images and texts.",
    ClassifyTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    PUBLISHED,
    main_metrics=("top1", "map", "recall_at_1"),
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

Model = model_argument("classify", published=PUBLISHED, check=True)
Models = model_argument(
    "classify",
    several=True,
    published=PUBLISHED,
    check=True,
    about="A model's name, a file or a URL; given more than once, their answers are averaged",
)
FormatOption = format_option(FORMATS)
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Images: files, folders, globs, URLs; - reads a list on stdin. Text models: files"
        " with one text per line; default: stdin.",
        rich_help_panel="Input",
    ),
]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Classify this text.", rich_help_panel="Input")
]
Top = Annotated[
    int,
    typer.Option(
        help="How many labels to print, most probable first.",
        min=1,
        rich_help_panel="Results",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Lowest score of a printed label; default: 0.5 for multi-label models, else 0.",
        min=0,
        max=1,
        rich_help_panel="Results",
    ),
]
SavePictures = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the images with their labels and scores, or with their maps (--dense).",
        rich_help_panel="Output",
    ),
]
Dense = Annotated[
    bool,
    typer.Option(
        "--dense",
        help="Print a map of labels over a large image, with the fully convolutional network.",
        rich_help_panel="Results",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Longest side in pixels with --dense; default: the image's own.",
        min=28,
        max=8192,
        rich_help_panel="Model",
    ),
]
Views = Annotated[
    TestViews,
    typer.Option(
        help="mirror: average the outputs of each image and its mirror image, in twice the time.",
        rich_help_panel="Model",
    ),
]
Folds = Annotated[
    int,
    typer.Option(
        help="Number of cross-validation folds: train once per fold with the model's settings and"
        " score on the held-out fold; 0: no cross-validation.",
        min=0,
        rich_help_panel="Results",
    ),
]


Label = Annotated[
    str | None,
    typer.Option(
        help="Label to explain; default: the most probable one.", rich_help_panel="Results"
    ),
]
Method = Annotated[
    Literal["auto", "cam", "grad-cam"],
    typer.Option(
        help="auto: cam for networks with global average pooling and one linear layer, else"
        " grad-cam.",
        rich_help_panel="Results",
    ),
]
Boxes = Annotated[
    bool,
    typer.Option(
        "--boxes",
        help="Print the box around the evidence for the label.",
        rich_help_panel="Results",
    ),
]
BoxShare = Annotated[
    float,
    typer.Option(
        help="Threshold of the boxes, as a share of the map's maximum.",
        min=0,
        max=0.99,
        rich_help_panel="Results",
    ),
]
SaveMaps = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the images with their maps as overlays, or for the page of the texts.",
        rich_help_panel="Output",
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Layer whose output is the descriptor; default: the input of the last linear layer.",
        rich_help_panel="Results",
    ),
]
LayerOrList = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Layer whose output is the descriptor; default: the input of the last linear layer;"
        " list: print all layers.",
        rich_help_panel="Results",
    ),
]
MaybeImages = Annotated[
    list[str] | None,
    typer.Argument(
        help="Images: files, folders, globs, URLs, or - for a list on stdin.",
        rich_help_panel="Input",
    ),
]
Pca = Annotated[
    int | None,
    typer.Option(
        help="Number of principal components to reduce the descriptors to.",
        min=1,
        rich_help_panel="Results",
    ),
]
FeaturesOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write to this file instead of stdout. FILE.npy holds the descriptors alone, with the"
        " paths in FILE.paths.txt and the projection of --pca in FILE.pca.npz.",
        rich_help_panel="Output",
    ),
]
Queries = Annotated[
    list[str],
    typer.Argument(
        help="Query images: files, folders, globs, URLs, or - for a list on stdin.",
        rich_help_panel="Input",
    ),
]
Folder = Annotated[
    Path, typer.Option("--in", help="Folder of images to search in.", rich_help_panel="Input")
]
IndexFile = Annotated[
    Path | None,
    typer.Option(
        "--index",
        help="Index file of the descriptors; default: a file in dlkit's cache.",
        rich_help_panel="Input",
    ),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update/--no-update",
        help="Update the index with changes in the folder first.",
        rich_help_panel="Input",
    ),
]
Nearest = Annotated[
    int,
    typer.Option(
        "--top", help="How many images to print for each query.", min=1, rich_help_panel="Results"
    ),
]
DistanceOption = Annotated[
    Literal["cosine", "euclidean"],
    typer.Option("--distance", help="Distance between descriptors.", rich_help_panel="Results"),
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--save",
        help="Save a picture of the queries and their hits to this file.",
        rich_help_panel="Output",
    ),
]


@app.command()
def infer(
    inputs: Inputs = None,
    text: TextOption = None,
    model: Models = [DEFAULT_MODEL],  # type: ignore[valid-type]  # noqa: B006
    top: Top = 1,
    threshold: Threshold = None,
    save: SavePictures = None,
    dense: Dense = False,
    image_size: ImageSize = None,
    test_views: Views = "one",
    errors: ErrorsOption = "strict",
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: FormatOption = Format.text,  # type: ignore[valid-type]
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
    table_format: InOption = None,
    field: FieldOption = None,
    id: IdOption = None,
) -> None:
    """Print the most probable labels of images, or of texts with a text model.

    -f fasttext prints lines `__label__NAME the text`, which `train` and fastText read.
    """
    models: list[str] = model
    for_texts = is_text_model(models[0])
    if for_texts:
        check_sources(inputs, "texts", text)
        given = {"--save": save, "--dense": dense, "--test-views": test_views != "one"}
        for option in (name for name, on in given.items() if on):
            raise DlkitError(f"{option}: {models[0]} classifies texts; choose an image model")
    else:
        check_image_options(inputs, text, models[0])
        if table_format is not None:
            raise DlkitError(f"--in: {models[0]} classifies images; tables hold texts")
        if format == "fasttext":
            raise DlkitError(f"-f fasttext: {models[0]} classifies images; the lines hold texts")
    if dense and len(models) > 1:
        raise DlkitError("--dense: takes one model; remove the other --model options")
    if dense and test_views != "one":
        raise DlkitError(f"--dense: maps one view; remove --test-views {test_views}")
    if image_size is not None and not dense:
        raise DlkitError("--image-size: needs --dense; other images are resized as in training")
    if table_format is not None and format == "fasttext":
        raise DlkitError("--in: -f fasttext cannot carry columns; give -f jsonl, json or csv")
    table = table_of(
        table_format, field, id, text, format, TEXT_FIELDS.get(format, TEXT_RECORD), errors
    )
    writer = ShardWriter(format, output, shard, resume)
    if not for_texts and write_missing(inputs, writer):
        return
    from dlkit.classify import infer

    if for_texts:
        voters = infer.load_text_ensemble(models, device, precision)

        def classify_all(texts: Any) -> Iterator[Any]:
            least = threshold or 0.0
            return infer.classify_texts(texts, voters, top, least, batch_size, writer.shard)

        def lines() -> Any:
            return lines_or_stdin(inputs, "texts", text, errors)

        if format == "fasttext":
            writer.write(fasttext_lines(classify_all(lines())), FORMATS[format])
        else:
            write_carrying(table, inputs, writer, lines, classify_all)
        return
    from dlkit.classify.draw import draw_map, draw_scores
    from dlkit.core.io.image_files import keep_apart
    from dlkit.core.vision.annotate import save_pictures

    paths = keep_apart([save], inputs or [])
    results: Any
    draw: Any
    if dense:
        classifier = infer.load(models[0], device, precision)
        labels = classifier.labels
        results = infer.class_maps(paths, classifier, image_size, workers, writer.shard)
        draw = partial(draw_map, labels=labels)
    else:
        classifiers = infer.load_ensemble(models, device, precision, test_views)
        results = infer.classify(
            paths, classifiers, top, threshold, batch_size, workers, writer.shard
        )
        labels = classifiers[0].labels
        draw = partial(draw_scores, labels=labels)
    if save is not None:
        results = save_pictures(results, writer.file_names(save, picture_suffix, paths), draw)
    writer.write(results, view=View(label_colors(labels)))


def refuse_text_model(model: str) -> None:
    """Raise DlkitError for a text model, before torch is imported."""
    if is_text_model(model):
        raise DlkitError("classifies texts; choose an image model, such as cifar10", model)


def write_missing(images: list[str] | None, writer: ShardWriter) -> bool:
    """Write a Failure for each image and return True if none exists, before torch is imported."""
    failures = missing_images(images or [])
    if failures:
        writer.write(failures if writer.shard is None else writer.shard.select(failures))
    return bool(failures)


def check_image_options(inputs: list[str] | None, text: str | None, model: str) -> None:
    """Raise DlkitError unless images and no text are given."""
    if text is not None:
        raise DlkitError(f"--text: {model} classifies images; choose a text model, such as reviews")
    if not inputs:
        raise DlkitError("no images; for example: dlkit classify photo.jpg")


@app.command()
def evaluate(
    data: Data,
    model: Models = [DEFAULT_MODEL],  # type: ignore[valid-type]  # noqa: B006
    split: Split = "test",
    folds: Folds = 0,
    test_views: Views = "one",
    save: SaveScores = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    allow_skipped: AllowSkipped = None,
    strict: Strict = False,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the scores of a model on labeled data."""
    models: list[str] = model
    allowed = 0.0 if strict else allow_skipped
    if folds and len(models) > 1:
        raise DlkitError("--folds: takes one model; remove the other --model options")
    if folds and test_views != "one":
        raise DlkitError(f"--folds: scores one view; remove --test-views {test_views}")
    if folds:
        from dlkit.classify.crossvalidation import cross_validate

        scores = cross_validate(data, models[0], folds, device, precision, allowed)
    else:
        scores = evaluate_model(
            [str(data)],
            split,
            models,
            save,
            workers,
            device,
            precision,
            allow_skipped=allowed,
            test_views=test_views,
        )
    write(scores, format, output, view=TASK.view)


@app.command()
def explain(
    inputs: Inputs = None,
    text: TextOption = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    save: SaveMaps = None,
    boxes: Boxes = False,
    label: Label = None,
    method: Method = "auto",
    box_share: BoxShare = 0.2,
    errors: ErrorsOption = "strict",
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Show what in an image or a text is evidence for its label."""
    writer = ShardWriter(format, output, shard, resume)
    if is_text_model(model):
        texts = lines_or_stdin(inputs, "texts", text, errors)
        explain_texts(texts, model, save, device, precision, writer)
        return
    check_image_options(inputs, text, model)
    if save is None and not boxes:
        raise DlkitError("no output chosen; give --save FOLDER for pictures, --boxes, or both")
    if write_missing(inputs, writer):
        return
    from dlkit.classify.explain import explain as explain_images
    from dlkit.classify.infer import load
    from dlkit.core.io.image_files import keep_apart

    paths = keep_apart([save], inputs or [])
    classifier = load(model, device, precision)
    results = explain_images(
        paths,
        classifier,
        method,
        label,
        boxes,
        box_share,
        None if save is None else writer.file_names(save, picture_suffix, paths),
        batch_size,
        workers,
        writer.shard,
    )
    writer.write(results)


def explain_texts(
    texts: Iterable[Line],
    model: str,
    save: Path | None,
    device: str,
    precision: str,
    writer: ShardWriter,
) -> None:
    """Run `explain` with a text model."""
    from dlkit.classify import explain_text
    from dlkit.classify.infer import load_text_classifier

    classifier = load_text_classifier(model, device, precision)
    results = explain_text.explain_texts(texts, classifier, writer.shard)
    if save is not None:
        before = map(explain_text.from_record, writer.records_so_far())
        results = explain_text.save_page(results, writer.folder(save) or save, before)
    on_terminal = (
        writer.format == Format.text and writer.output is None and is_terminal(streams().stdout)
    )
    writer.write(results, explain_text.write_colored if on_terminal else None)


@app.command()
def features(
    images: MaybeImages = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    layer: LayerOrList = None,
    pca: Pca = None,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: FeaturesOutput = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print descriptors of images: the output of a layer."""
    numbers_alone = output if output is not None and output.suffix == ".npy" else None
    if numbers_alone is not None and format != Format.text:
        raise DlkitError("a .npy file takes no --format; remove it or rename the file", output)
    refuse_text_model(model)
    if layer != "list" and not images:
        raise DlkitError("no images; give files or folders, or list the layers with --layer list")
    writer = ShardWriter(format, output, shard, resume)
    if pca is not None and writer.shard not in (None, Shard()):
        raise DlkitError(
            "--pca: needs all images in one process; remove --shard, --resume, torchrun"
        )
    if layer != "list" and write_missing(images, writer):
        return
    from dlkit.classify.features import (
        as_rows,
        describe,
        list_layers,
        reduce_descriptors,
        save_features,
    )
    from dlkit.classify.infer import load

    classifier = load(model, device, precision)
    if layer == "list":
        write(list_layers(classifier), format, output)
        return
    results = describe(images or [], classifier, layer, batch_size, workers, writer.shard)
    projection = None
    if pca is not None:
        projection, results = reduce_descriptors(results, pca)
    if numbers_alone is not None:
        write(save_features(results, numbers_alone, projection))
    else:
        writer.write(as_rows(results))


@app.command()
def search(
    queries: Queries,
    folder: Folder,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    index: IndexFile = None,
    layer: LayerOption = None,
    top: Nearest = 10,
    distance: DistanceOption = "cosine",
    update: Update = True,
    save: Sheet = None,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Find the images in a folder that are most similar to the queries."""
    refuse_text_model(model)
    if save is not None and save.resolve().is_relative_to(folder.resolve()):
        raise DlkitError(f"--save {save}: lies in the searched folder; choose another place")
    writer = ShardWriter(format, output, shard, resume)
    if save is not None and writer.shard not in (None, Shard()):
        raise DlkitError(
            "--save: shows all queries; remove --shard and --resume, and -o under torchrun"
        )
    if update and writer.count > 1:
        raise DlkitError(
            f"--shard: each of {writer.count} parts would index {folder}; search it once unsharded,"
            " then give --no-update to the parts"
        )
    from dlkit.classify.infer import load
    from dlkit.classify.search import save_sheet, search

    classifier = load(model, device, precision)
    results = search(
        queries,
        folder,
        classifier,
        index,
        layer,
        top,
        distance,
        update,
        batch_size,
        workers,
        writer.shard,
    )
    if save is not None:
        results = save_sheet(results, save)
    writer.write(results)
