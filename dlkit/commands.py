"""The commands beside the tasks: models, merge, doctor, publish. Loads no torch."""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.cli.command import AnyFormat, Output
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.tasks import TASKS, task_module

app = typer.Typer(rich_markup_mode=None)


@app.command()
def models(
    task: Annotated[str | None, typer.Argument(help="Only the models of this task.")] = None,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """List the models that are bundled or cached."""
    from dlkit.core.cli.models import list_models

    if task is not None and task not in TASKS:
        raise DlkitError(f"unknown task {task!r}; choose from {', '.join(TASKS)}")
    names = TASKS if task is None else [task]
    published = {name: task_module(name).TASK.published for name in names}
    write(list_models(published), format, output)


@app.command()
def merge(
    files: Annotated[
        list[Path], typer.Argument(help="Files of all shards, as in out.*.jsonl.", metavar="FILES")
    ],
    output: Output = None,
) -> None:
    """Merge results of shards in the order of the inputs; exit with 1 if any is missing."""
    from dlkit.core.parallel.merge import merge as merge_files

    merge_files(files, output)


@app.command()
def doctor(format: AnyFormat = Format.text, output: Output = None) -> None:
    """Print versions, devices, precision and folders, and check every bundled file."""
    from dlkit.core.cli.doctor import examine
    from dlkit.tokenize import load

    write(examine(TASKS, {"tokenize": load}), format, output)


@app.command(hidden=True)
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
    data: Annotated[str, typer.Option(help="A description of the training data.")],
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
    from dlkit.core.cli.publish import publish as publish_run
    from dlkit.core.store.checkpoint import read_header

    task = task_module(read_header(run / "best.safetensors").task).TASK
    write(publish_run(task, run, name, test, metric, data, terms, split, measure, bits))
