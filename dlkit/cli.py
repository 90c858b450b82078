"""The `dlkit` command. A task's code is imported when one of its commands is named."""

import errno
import importlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dlkit import __version__
from dlkit.core.cli.command import AnyFormat, Output
from dlkit.core.environment import leave_group, shows_traces, world_size
from dlkit.core.errors import DlkitError, ExitStatus
from dlkit.core.io.streams import Streams, streams, use_streams
from dlkit.core.io.writers import Format, write
from dlkit.core.progress import print_error

# The summary of each task, so that `dlkit --help` imports none of them.
TASKS = {
    "caption": "Describe images in sentences.",
    "classify": "Classify images and texts.",
    "detect": "Find objects in images.",
    "embed": "Word vectors: nearest words, analogies, training.",
    "gan-sample": "Generate pictures from noise with GANs and VAEs.",
    "lm-generate": "Language models: continue, score and fill in text; training.",
    "segment": "Label every pixel of images.",
    "style-transfer": "Paint photographs in the style of a picture.",
    "tokenize": "Cut text into tokens.",
    "translate": "Translate sentences, or answer them (sequence to sequence).",
}


def task_module(task: str) -> Any:
    """The module with the command group `app` and the record `TASK` of a task."""
    return importlib.import_module(f"dlkit.{task.replace('-', '_')}.cli")


class RootGroup(TyperGroup):
    """The tasks and the common commands; a task is imported when its name is typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all tasks, then of the common commands."""
        return [*TASKS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or task of that name; None if there is none."""
        if cmd_name not in TASKS:
            return super().get_command(ctx, cmd_name)
        return typer.main.get_command(task_module(cmd_name).app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List tasks and commands with their summaries."""
        width = formatter.width - 6 - max(map(len, [*TASKS, *self.commands]))
        with formatter.section("Tasks"):
            formatter.write_dl(list(TASKS.items()))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(width))
                    for name, command in self.commands.items()
                    if not command.hidden
                ]
            )

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the names of tasks and commands without importing a task."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        helps = TASKS | {n: c.get_short_help_str() for n, c in self.commands.items()}
        return [
            CompletionItem(name, help=helps[name])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]


app = typer.Typer(
    cls=RootGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


def print_version(wanted: bool) -> None:
    """Print the version and exit, if it is wanted."""
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def dlkit(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """Deep-learning tasks on the command line."""


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


def main(args: list[str] | None = None, replaced: Streams | None = None) -> None:
    """Run one command; a DlkitError becomes one line on stderr and exit code 2.

    `replaced` are streams to use instead of the interpreter's. With DLKIT_DEBUG=1 the trace of
    an error follows its line.
    """
    # Pillow's warnings of odd metadata do not name the file; damage is an error of ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # What torch's C++ notes about networks and gradients is of no use here; errors still come.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    leave_group(False)
    with use_streams(replaced):
        leave(run(args))


def run(args: list[str] | None) -> int:
    """Run one command and return its exit code."""
    for stream in (streams().stdin, streams().stdout):
        if isinstance(stream, io.TextIOWrapper):
            # UTF-8 in every locale; the name of a file may be any bytes.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        app(args, prog_name="dlkit")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else ExitStatus.FAILED_INPUTS
    except DlkitError as error:
        print_error(str(error))
        if shows_traces():
            print_trace()
        return ExitStatus.USAGE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            # What stdout still holds would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            print_error(f"{error.filename or 'stdout'}: cannot be written ({error.strerror})")
            if shows_traces():
                print_trace()
            return ExitStatus.USAGE
        # An error inside dlkit: the user needs the trace to report it.
        print_trace()
        if world_size() > 1:
            print_error(f"{type(error).__name__}: {error}")
        return ExitStatus.BUG
    return ExitStatus.OK


def print_trace() -> None:
    """Print the trace of the error being handled."""
    import traceback

    traceback.print_exc()


def leave(code: int) -> NoReturn:
    """Exit; under torchrun or srun at once, without an orderly shutdown of the interpreter.

    After DistributedDataParallel on the CPU, torch 2.15 sometimes aborts in that shutdown, and
    torchrun then reports a finished run as failed. All files are closed by now.
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
