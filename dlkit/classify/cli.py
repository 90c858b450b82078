"""`dlkit classify`: its arguments. The work is imported when a command runs; help stays quick."""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

import typer

from dlkit.classify.config import DEFAULT_MODEL, ClassifyTrainConfig
from dlkit.core.command import (
    AnyFormat,
    BatchSize,
    Data,
    Device,
    Output,
    PrecisionOption,
    SaveScores,
    Split,
    Workers,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.output import Format, write
from dlkit.core.text import lines

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
) -> None:
    """Print the most probable labels of images, or of texts with a model for texts."""
    from dlkit.classify import infer

    models: list[str] = model
    if infer.is_for_texts(models[0]):
        texts = lines_of(inputs, text)
        text_classifiers = infer.text_ensemble(models, device, precision)
        found: Any = infer.classify_texts(
            texts, text_classifiers, top, threshold or 0.0, batch_size
        )
    elif text is not None:
        raise DlkitError(f"{models[0]} classifies images: --text is for models like reviews")
    elif not inputs:
        raise DlkitError("no images: give files, folders, or - for a list on stdin")
    elif dense:
        if len(models) > 1:
            raise DlkitError("--dense takes one model")
        classifier = infer.ensemble(models, device, precision)[0]
        found = infer.class_maps(inputs, classifier, image_size, workers)
    elif image_size is not None:
        raise DlkitError("--image-size goes with --dense: else images are made as in training")
    else:
        classifiers = infer.ensemble(models, device, precision)
        found = infer.classify(inputs, classifiers, top, threshold, batch_size, workers)
    write(found, format, output)


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
    """Print a model's scores on labelled data."""
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
