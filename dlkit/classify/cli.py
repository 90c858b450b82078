"""`dlkit classify`: its arguments. The work is imported when a command runs; help stays quick."""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dlkit.classify.config import DEFAULT_MODEL, ClassifyTrainConfig
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
    Workers,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import picture_suffix
from dlkit.core.io.text import lines
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Shard, ShardWriter

app = group("classify", "Name what images and texts show.")
add_train(app, "classify", ClassifyTrainConfig)
add_models(app, "classify")

Model = model_argument("classify")
Models = model_argument("classify", several=True)
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Images: files, folders, globs, URLs, or - for a list on stdin. For texts: files with"
        " a text in each line; default: stdin."
    ),
]
TextOption = Annotated[str | None, typer.Option("--text", help="Classify this text.")]
Top = Annotated[int, typer.Option(help="Labels per image, the most probable first.", min=1)]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Leave out labels that score lower; default: 0.5 where there may be several, else 0.",
        min=0,
        max=1,
    ),
]
Dense = Annotated[
    bool,
    typer.Option(
        "--dense",
        help="A map of labels over large images: the whole network becomes convolutions.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(help="With --dense, the longest side; default: the image's.", min=28, max=8192),
]
Folds = Annotated[
    int,
    typer.Option(
        help="Cross-validation: train anew this many times, with the model's settings, each time"
        " without another part of the data, and score on that part.",
        min=0,
    ),
]


Label = Annotated[
    str | None, typer.Option(help="Explain this label; default: the most probable one.")
]
Method = Annotated[
    Literal["auto", "cam", "grad-cam"],
    typer.Option(help="auto: cam for networks that end in a mean and one linear layer."),
]
Boxes = Annotated[bool, typer.Option("--boxes", help="The box around what speaks for the label.")]
BoxShare = Annotated[
    float,
    typer.Option(help="Boxes hold what is above this share of the map's maximum.", min=0, max=0.99),
]
SaveMaps = Annotated[
    Path | None,
    typer.Option(help="Folder for the images with their maps drawn over them, or texts' page."),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer", help="Whose output describes images; default: what the last linear layer gets."
    ),
]
LayerOrList = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Whose output describes images; default: what the last linear layer gets; list: show"
        " what there is.",
    ),
]
MaybeImages = Annotated[
    list[str] | None,
    typer.Argument(help="Images: files, folders, globs, URLs, or - for a list on stdin."),
]
Pca = Annotated[
    int | None,
    typer.Option(help="Reduce to this many principal components of all images.", min=1),
]
FeaturesOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write to this file, not to stdout. FILE.npy: the numbers alone, with the paths in"
        " FILE.paths.txt and the projection of --pca in FILE.pca.npz.",
    ),
]
Queries = Annotated[
    list[str],
    typer.Argument(help="Images to look for: files, folders, globs, URLs, or - for a list."),
]
Folder = Annotated[Path, typer.Option("--in", help="Folder of images to search in.")]
IndexFile = Annotated[
    Path | None,
    typer.Option("--index", help="File that keeps the descriptors; default: in dlkit's cache."),
]
Update = Annotated[
    bool, typer.Option("--update/--no-update", help="Look for changes in the folder first.")
]
Nearest = Annotated[int, typer.Option("--top", help="Images for each query.", min=1)]
DistanceOption = Annotated[
    Literal["cosine", "euclidean"], typer.Option("--distance", help="Between descriptors.")
]
Sheet = Annotated[
    Path | None, typer.Option("--save", help="Picture to make of the queries and their hits.")
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
    """Print the most probable labels of images, or of texts with a model for texts."""
    from dlkit.classify import infer

    writer = ShardWriter(format, output, shard, resume)
    models: list[str] = model
    if infer.is_for_texts(models[0]):
        texts = lines_of(inputs, text)
        text_classifiers = infer.text_ensemble(models, device, precision)
        found: Any = infer.classify_texts(
            texts, text_classifiers, top, threshold or 0.0, batch_size, writer.shard
        )
    elif text is not None:
        raise DlkitError(f"{models[0]} classifies images: --text is for models like reviews")
    elif not inputs:
        raise DlkitError("no images: give files, folders, or - for a list on stdin")
    elif dense:
        if len(models) > 1:
            raise DlkitError("--dense takes one model")
        classifier = infer.ensemble(models, device, precision)[0]
        found = infer.class_maps(inputs, classifier, image_size, workers, writer.shard)
    elif image_size is not None:
        raise DlkitError("--image-size goes with --dense: else images are made as in training")
    else:
        classifiers = infer.ensemble(models, device, precision)
        found = infer.classify(
            inputs, classifiers, top, threshold, batch_size, workers, writer.shard
        )
    writer.write(found)


def lines_of(inputs: list[str] | None, text: str | None) -> Iterator[str]:
    """The texts to classify, a line each: given, in files, or on stdin."""
    if text is not None:
        if inputs:
            raise DlkitError("--text and files are two inputs: choose one")
        return iter(text.splitlines() or [""])
    if not inputs and sys.stdin.isatty():
        raise DlkitError("no texts: give files, --text TEXT, or pipe lines into stdin")
    return chain.from_iterable(map(lines, inputs or ["-"]))


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
    """Print a model's scores on labeled data."""
    from dlkit.classify.evaluate import evaluate_checkpoint

    models: list[str] = model
    if not folds:
        scores = evaluate_checkpoint(data, split, models, save, workers, device, precision)
    elif len(models) > 1:
        raise DlkitError("--folds takes the settings of one model")
    else:
        from dlkit.classify.crossvalidation import cross_validate

        scores = cross_validate(data, models[0], folds, device, precision)
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
    """Show where in images a label is seen, or which words of texts speak for it."""
    from dlkit.classify.infer import is_for_texts

    writer = ShardWriter(format, output, shard, resume)
    if is_for_texts(model):
        explain_texts(inputs, text, model, save, device, precision, writer)
        return
    from dlkit.classify.explain import explain as explained
    from dlkit.classify.infer import load
    from dlkit.core.vision.images import keep_apart

    if text is not None or not inputs:
        raise DlkitError(f"{model} classifies images: give files, folders, or - for a list")
    if save is None and not boxes:
        raise DlkitError("give --save FOLDER for pictures, --boxes for boxes, or both")
    paths = keep_apart([save], inputs)
    classifier = load(model, device, precision)
    results = explained(
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
    from dlkit.classify import explain_text
    from dlkit.classify.infer import load_for_texts

    classifier = load_for_texts(model, device, precision)
    results = explain_text.explain_texts(lines_of(inputs, text), classifier, writer.shard)
    if save is not None:
        before = map(explain_text.from_record, writer.records_so_far())
        results = explain_text.save_page(results, writer.folder(save) or save, before)
    on_terminal = writer.format == Format.text and writer.output is None and sys.stdout.isatty()
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
    """Print or store descriptors of images: what a layer of the network makes of them."""
    from dlkit.classify.features import describe, layers, printable, reduced, store
    from dlkit.classify.infer import load

    numbers_alone = output if output is not None and output.suffix == ".npy" else None
    if numbers_alone is not None and format != Format.text:
        raise DlkitError(f"{output} holds numbers: leave out --format, or give another file")
    if layer != "list" and not images:
        raise DlkitError("no images are given: name files or folders, or ask for --layer list")
    classifier = load(model, device, precision)
    if layer == "list":
        write(layers(classifier), format, output)
        return
    writer = ShardWriter(format, output, shard, resume)
    results = describe(images or [], classifier, layer, batch_size, workers, writer.shard)
    projection = None
    if pca is not None:
        if writer.shard not in (None, Shard()):
            raise DlkitError("--pca is of all images: leave out --shard, --resume and torchrun")
        projection, results = reduced(results, pca)
    if numbers_alone is not None:
        write(store(results, numbers_alone, projection))
    else:
        writer.write(printable(results))


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
    """Find the images of a folder that are most like others."""
    from dlkit.classify.infer import load
    from dlkit.classify.search import save_sheet, search

    if save is not None and save.resolve().is_relative_to(folder.resolve()):
        raise DlkitError(f"{save} would be searched in, too: choose another place")
    writer = ShardWriter(format, output, shard, resume)
    if save is not None and writer.shard not in (None, Shard()):
        raise DlkitError(
            "--save shows all queries: leave out --shard and --resume, and -o under torchrun"
        )
    if update and writer.count > 1:
        raise DlkitError(
            f"each of {writer.count} parts would index {folder}: search in it once as a whole, and"
            " give --no-update to the parts"
        )
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
