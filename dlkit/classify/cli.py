"""Command line of `dlkit classify`. Each command imports its work when it runs: help stays fast."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dlkit.classify.config import DEFAULT_MODEL, PUBLISHED, ClassifyTrainConfig, is_text_model
from dlkit.core.cli.command import (
    AnyFormat,
    BatchSize,
    Data,
    Device,
    Output,
    PrecisionOption,
    ResumeOption,
    SaveScores,
    ShardOption,
    Split,
    Task,
    Workers,
    missing_images,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import picture_suffix
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.text import check_sources, lines_or_stdin
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Shard, ShardWriter


def train_model(config: ClassifyTrainConfig) -> Path:
    """Train a classifier; return the path of its best checkpoint."""
    from dlkit.classify.train import train

    return train(config)


def evaluate_model(*arguments: Any) -> Iterator[Any]:
    """Score a model; the arguments are those of `evaluate_checkpoint`."""
    from dlkit.classify.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments)


TASK = Task(
    "classify",
    "Classify images and texts.",
    ClassifyTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    PUBLISHED,
)
app = TASK.group(evaluate=False)

Model = model_argument("classify", published=PUBLISHED, check=True)
Models = model_argument("classify", several=True, published=PUBLISHED, check=True)
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Images: files, folders, globs, URLs, or - for a list on stdin. For text models: files"
        " with one text per line; default: stdin."
    ),
]
TextOption = Annotated[str | None, typer.Option("--text", help="Classify this text.")]
Top = Annotated[
    int,
    typer.Option(help="How many labels to print per image or text, most probable first.", min=1),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Lowest score of a printed label; default: 0.5 for multi-label models, else 0.",
        min=0,
        max=1,
    ),
]
Dense = Annotated[
    bool,
    typer.Option(
        "--dense",
        help="Print a map of labels over a large image, with the fully convolutional network.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Longest side in pixels with --dense; default: the image's own.", min=28, max=8192
    ),
]
Folds = Annotated[
    int,
    typer.Option(
        help="Number of cross-validation folds: train once per fold with the model's settings and"
        " score on the held-out fold; 0: no cross-validation.",
        min=0,
    ),
]


Label = Annotated[
    str | None, typer.Option(help="Label to explain; default: the most probable one.")
]
Method = Annotated[
    Literal["auto", "cam", "grad-cam"],
    typer.Option(
        help="auto: cam for networks with global average pooling and one linear layer, else"
        " grad-cam."
    ),
]
Boxes = Annotated[
    bool, typer.Option("--boxes", help="Print the box around the evidence for the label.")
]
BoxShare = Annotated[
    float,
    typer.Option(help="Threshold of the boxes, as a share of the map's maximum.", min=0, max=0.99),
]
SaveMaps = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the images with their maps as overlays, or for the page of the texts."
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Layer whose output is the descriptor; default: the input of the last linear layer.",
    ),
]
LayerOrList = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Layer whose output is the descriptor; default: the input of the last linear layer;"
        " list: print all layers.",
    ),
]
MaybeImages = Annotated[
    list[str] | None,
    typer.Argument(help="Images: files, folders, globs, URLs, or - for a list on stdin."),
]
Pca = Annotated[
    int | None,
    typer.Option(help="Number of principal components to reduce the descriptors to.", min=1),
]
FeaturesOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write to this file instead of stdout. FILE.npy holds the descriptors alone, with the"
        " paths in FILE.paths.txt and the projection of --pca in FILE.pca.npz.",
    ),
]
Queries = Annotated[
    list[str],
    typer.Argument(help="Query images: files, folders, globs, URLs, or - for a list on stdin."),
]
Folder = Annotated[Path, typer.Option("--in", help="Folder of images to search in.")]
IndexFile = Annotated[
    Path | None,
    typer.Option(
        "--index", help="Index file of the descriptors; default: a file in dlkit's cache."
    ),
]
Update = Annotated[
    bool,
    typer.Option("--update/--no-update", help="Update the index with changes in the folder first."),
]
Nearest = Annotated[
    int, typer.Option("--top", help="How many images to print for each query.", min=1)
]
DistanceOption = Annotated[
    Literal["cosine", "euclidean"], typer.Option("--distance", help="Distance between descriptors.")
]
Sheet = Annotated[
    Path | None,
    typer.Option("--save", help="Save a picture of the queries and their hits to this file."),
]


@app.command()
def infer(
    inputs: Inputs = None,
    text: TextOption = None,
    model: Models = [DEFAULT_MODEL],  # type: ignore[valid-type]  # noqa: B006
    top: Top = 1,
    threshold: Threshold = None,
    dense: Dense = False,
    image_size: ImageSize = None,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the most probable labels of images, or of texts with a text model."""
    models: list[str] = model
    for_texts = is_text_model(models[0])
    if for_texts:
        check_sources(inputs, "texts", text)
    else:
        check_image_options(inputs, text, models[0])
    if dense and len(models) > 1:
        raise DlkitError("--dense: takes one model; remove the other --model options")
    if image_size is not None and not dense:
        raise DlkitError("--image-size: needs --dense; other images are resized as in training")
    writer = ShardWriter(format, output, shard, resume)
    if not for_texts and write_missing(inputs, writer):
        return
    from dlkit.classify import infer

    if for_texts:
        results: Any = infer.classify_texts(
            lines_or_stdin(inputs, "texts", text),
            infer.load_text_ensemble(models, device, precision),
            top,
            threshold or 0.0,
            batch_size,
            writer.shard,
        )
    elif dense:
        classifier = infer.load(models[0], device, precision)
        results = infer.class_maps(inputs or [], classifier, image_size, workers, writer.shard)
    else:
        classifiers = infer.load_ensemble(models, device, precision)
        results = infer.classify(
            inputs or [], classifiers, top, threshold, batch_size, workers, writer.shard
        )
    writer.write(results)


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
        raise DlkitError("no images; give files, folders, or - for a list on stdin")


@app.command()
def evaluate(
    data: Data,
    model: Models = [DEFAULT_MODEL],  # type: ignore[valid-type]  # noqa: B006
    split: Split = "test",
    folds: Folds = 0,
    save: SaveScores = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the scores of a model on labeled data."""
    models: list[str] = model
    if folds and len(models) > 1:
        raise DlkitError("--folds: takes one model; remove the other --model options")
    if folds:
        from dlkit.classify.crossvalidation import cross_validate

        scores = cross_validate(data, models[0], folds, device, precision)
    else:
        scores = evaluate_model([str(data)], split, models, save, workers, device, precision)
    write(scores, format, output)


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
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Show which parts of an image, or which words of a text, are evidence for its label."""
    writer = ShardWriter(format, output, shard, resume)
    if is_text_model(model):
        check_sources(inputs, "texts", text)
        explain_texts(inputs, text, model, save, device, precision, writer)
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
        None if save is None else writer.file_names(save, picture_suffix),
        batch_size,
        workers,
        writer.shard,
    )
    writer.write(results)


def explain_texts(
    inputs: list[str] | None,
    text: str | None,
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
    texts = lines_or_stdin(inputs, "texts", text)
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
    """Print or store descriptors of images: the output of a layer of the network."""
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
