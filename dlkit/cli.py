"""The `dlkit` command. No task's model code is imported until one of its commands runs."""

import sys
import traceback
from typing import Annotated

import typer

from dlkit import __version__
from dlkit.core.command import AnyFormat, Output
from dlkit.core.errors import DlkitError
from dlkit.core.output import Format, write
from dlkit.core.progress import log
from dlkit.detect.cli import app as detect
from dlkit.tokenize.cli import app as tokenize

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
TASKS = {"detect": detect, "tokenize": tokenize}
for task in TASKS.values():
    app.add_typer(task)


def print_version(wanted: bool) -> None:
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
    from dlkit.core.models import listing

    if task is not None and task not in TASKS:
        raise DlkitError(f"no task named {task!r}: there is {', '.join(TASKS)}")
    write(listing(TASKS if task is None else [task]), format, output)


@app.command()
def doctor(format: AnyFormat = Format.text, output: Output = None) -> None:
    """Print versions, devices, precision and folders, and check every bundled file."""
    from dlkit.core.doctor import examine

    write(examine(TASKS), format, output)


def main(args: list[str] | None = None) -> None:
    """Run one command; a DlkitError becomes one line on stderr and exit code 2."""
    try:
        app(args, prog_name="dlkit")
    except DlkitError as error:
        log(f"dlkit: {error}")
        sys.exit(2)
    except Exception:
        # A bug of ours: the user needs the trace to report it.
        traceback.print_exc()
        sys.exit(70)
