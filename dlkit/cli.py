"""The `dlkit` command. No task's model code is imported until one of its commands runs."""

import errno
import io
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dlkit import __version__
from dlkit.caption.cli import app as caption
from dlkit.classify.cli import app as classify
from dlkit.core.cli.command import AnyFormat, Output
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.core.progress import print_error
from dlkit.detect.cli import app as detect
from dlkit.embed.cli import app as embed
from dlkit.gan_sample.cli import app as gan_sample
from dlkit.lm_generate.cli import app as lm_generate
from dlkit.segment.cli import app as segment
from dlkit.style_transfer.cli import app as style_transfer
from dlkit.tokenize.cli import app as tokenize
from dlkit.translate.cli import app as translate

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
TASKS = {
    "caption": caption,
    "classify": classify,
    "detect": detect,
    "embed": embed,
    "gan-sample": gan_sample,
    "lm-generate": lm_generate,
    "segment": segment,
    "style-transfer": style_transfer,
    "tokenize": tokenize,
    "translate": translate,
}
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
    from dlkit.core.cli.models import listing

    if task is not None and task not in TASKS:
        raise DlkitError(f"no task named {task!r}: there is {', '.join(TASKS)}")
    write(listing(TASKS if task is None else [task]), format, output)


@app.command()
def merge(
    files: Annotated[
        list[Path], typer.Argument(help="Files of all shards, as in out.*.jsonl.", metavar="FILES")
    ],
    output: Output = None,
) -> None:
    """Put results of shards together, in the order of the inputs; exit with 1 if any is missing."""
    from dlkit.core.parallel.merge import merge as merged

    merged(files, output)


@app.command()
def doctor(format: AnyFormat = Format.text, output: Output = None) -> None:
    """Print versions, devices, precision and folders, and check every bundled file."""
    from dlkit.core.cli.doctor import examine
    from dlkit.tokenize import load

    write(examine(TASKS, {"tokenize": load}), format, output)


def main(args: list[str] | None = None) -> None:
    """Run one command; a DlkitError becomes one line on stderr and exit code 2."""
    # Pillow's warnings of odd metadata do not say of which file; damage is an error of ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # What torch's C++ notes about networks and gradients is of no use here; errors still come.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a file's name may be any bytes
    try:
        app(args, prog_name="dlkit")
    except SystemExit as stop:
        leave(stop.code if isinstance(stop.code, int) else 1)
    except DlkitError as error:
        print_error(str(error))
        leave(2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            # What stdout still holds would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            print_error(f"{error.filename or 'stdout'}: cannot be written ({error.strerror})")
            leave(2)
        # A bug of ours: the user needs the trace to report it.
        traceback.print_exc()
        if world_size() > 1:
            print_error(f"{type(error).__name__}: {error}")
        leave(70)


def leave(code: int) -> NoReturn:
    """Exit; under torchrun or srun at once, without taking the interpreter down in order.

    After DistributedDataParallel on the CPU, torch 2.15 now and then aborts in that shutdown, and
    torchrun then calls a finished run failed. All files are closed by now.
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
