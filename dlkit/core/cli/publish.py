"""Make a bundled model of a run's checkpoint: `python -m dlkit.core.cli.publish`.

It measures the checkpoint on held-out data, stores the weights in 16 or 8 bits, and writes
the model card into the header, so that `dlkit TASK models` and the README can quote it.
"""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.cli.command import package
from dlkit.core.io.writers import Format, write
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import folder


def publish(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    name: Annotated[str, typer.Argument(help="The bundled model's name.")],
    test: Annotated[
        list[Path],
        typer.Option(
            help="Data whose test split measures the model; given more than once, the files of it."
        ),
    ],
    metric: Annotated[str, typer.Option(help="The score to quote, by its name in evaluate.")],
    data: Annotated[str, typer.Option(help="What the model was trained on, in words.")],
    terms: Annotated[str, typer.Option(help="The terms of use of that data.")],
    split: Annotated[
        str, typer.Option(help="The split to measure on; '' for data without splits.")
    ] = "test",
    measure: Annotated[
        str | None,
        typer.Option(help="The command that measures it; default: evaluate with the files."),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of a stored weight: 32, 16 or 8.")] = 16,
) -> None:
    """Measure a run's best checkpoint on held-out data and add it to the bundled models."""
    if bits not in (32, 16, 8):
        raise typer.BadParameter(f"--bits {bits}: 32, 16 or 8")
    header, weights = checkpoint.load(run / "best.safetensors")
    task = getattr(importlib.import_module(f"{package(header.task)}.cli"), "TASK", None)
    if task is None:  # until all tasks have a record
        model = importlib.import_module(f"{package(header.task)}.model")
        weights = getattr(model, "shipped", dict)(weights)
    else:
        weights = task.shipped(weights)
    target = folder(header.task) / f"{name}.safetensors"
    # Saved first, so that what is measured is what is shipped: the weights in so many bits.
    checkpoint.save(target, weights, header, bits)
    splits = [split] if split else []
    if task is None:
        evaluate = importlib.import_module(f"{package(header.task)}.evaluate")
        files = test[0] if len(test) == 1 else [str(path) for path in test]
        scores = list(evaluate.evaluate_checkpoint(files, *splits, str(target)))
    else:
        scores = list(task.evaluate([str(path) for path in test], split, str(target)))
    values = {score.metric: score.value for score in scores if score.label == "all"}
    where = " ".join([*(path.name for path in test), *splits])
    options = " ".join([*map(str, test), *(f"--split {part}" for part in splits), f"-m {name}"])
    card = {
        **header.card,
        "data": data,
        "terms": terms,
        "score": f"{metric} {values[metric]:.3f} on {where}",
        "measure": measure or f"dlkit {header.task} evaluate {options}",
    }
    checkpoint.save(target, weights, replace(header, metrics=values, card=card), bits)
    write(scores, Format.text)


if __name__ == "__main__":
    typer.run(publish)
