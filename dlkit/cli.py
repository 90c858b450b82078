"""The `dlkit` command. A task's code is imported when one of its commands is named."""

import errno
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError
from typer.core import TyperGroup

from dlkit import __version__
from dlkit.core.cli import help as pages
from dlkit.core.cli.help import Page
from dlkit.core.environment import check_ranks, leave_group, shows_traces, use_command, world_size
from dlkit.core.errors import DlkitError, ExitStatus, outside_cause
from dlkit.core.io.streams import Streams, streams, use_streams
from dlkit.core.progress import print_error, write_line
from dlkit.tasks import TASKS, task_module

# The summaries of other groups of commands, and of the common commands.
GROUPS = {"data": "Check, convert, split and fetch data sets."}
COMMANDS = {
    "models": "List the models that are bundled or cached, or show the card of one.",
    "merge": "Merge results of shards in the order of the inputs; exit with 1 if any is missing.",
    "verify": "Compute some results again; exit with 1 if any differs.",
    "doctor": "Print versions, devices, precision and folders, and check every bundled file.",
    "docs": "Show the page of a task, or search all pages.",
    "help": "Show the options of a task, or of a command of it.",
}
HIDDEN = ("publish",)
EXAMPLES = (
    "dlkit detect photo.jpg",
    'dlkit translate --text "Two dogs run on the beach."',
    "dlkit classify train DATA --out run",
)


@contextmanager
def explained() -> Iterator[None]:
    """Raise a DlkitError in place of click's error for a wrong command line."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except UsageError as error:
        from dlkit.core.cli.slips import explain

        raise DlkitError(explain(error)) from error


class RootGroup(TyperGroup):
    """The tasks and the common commands, which are imported when their names are typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all tasks, then of the common commands."""
        return [*TASKS, *GROUPS, *COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or task of that name; None if there is none."""
        if cmd_name in TASKS:
            return typer.main.get_command(task_module(cmd_name).app)
        if cmd_name in GROUPS:
            from dlkit.data.cli import app

            return typer.main.get_command(app)
        if cmd_name in (*COMMANDS, *HIDDEN):
            from dlkit import commands

            return typer.main.get_group(commands.app).commands[cmd_name]
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is named, and its arguments. Raises DlkitError if there is none."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise self.unknown(ctx, args[0])
        return super().resolve_command(ctx, args)

    def unknown(self, ctx: Any, word: str) -> DlkitError:
        """The error for a word that is no task or command: it may be a command of some tasks."""
        commands = {task: self.get_command(ctx, task).commands for task in TASKS}
        owners = [task for task, own in commands.items() if word in own]
        if owners:
            examples = pages.page_of(commands[owners[0]][word]).examples
            return DlkitError(
                f"{word} is a command of {', '.join(owners)}; for example: {examples[0]}"
            )
        from dlkit.core.cli.slips import did_you_mean, nearest

        near = did_you_mean(nearest(word, [*TASKS, *GROUPS, *COMMANDS]))
        return DlkitError(f"no task or command {word!r}{near or f'; for example: {EXAMPLES[0]}'}")

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the options before the command's name."""
        with explained():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Parse and run the command."""
        with explained():
            return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:
        """The page of --help."""
        options = pages.grouped(self.get_params(ctx), Page(), ctx, False)
        lists = {"Tasks": [*TASKS.items()], "Commands": [*(GROUPS | COMMANDS).items()]}
        return "\n\n".join(
            [
                pages.usage(["dlkit TASK [OPTIONS] ...", "dlkit COMMAND [ARGS]..."]),
                *pages.paragraphs(self.help or ""),
                *pages.sections(lists),
                *pages.sections(options),
                *pages.footer("dlkit", Page(examples=EXAMPLES), False),
                pages.wrap(
                    "dlkit help TASK shows the options of a task, dlkit docs TASK its page."
                ),
            ]
        )

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the names of tasks and commands without importing them."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=summary)
            for name, summary in (TASKS | GROUPS | COMMANDS).items()
            if name.startswith(incomplete)
        ]


app = typer.Typer(
    cls=RootGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    try:
        check_ranks()
    except DlkitError as error:  # without a rank, print_error does not know who prints
        write_line(f"dlkit: {error}")
        sys.exit(ExitStatus.USAGE)
    with use_streams(replaced), use_command(sys.argv[1:] if args is None else args):
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
        print_error(str(with_publishers(error)))
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
        if (known := outside_cause(error)) is not None:
            print_error(str(known))
            if shows_traces():
                print_trace()
            return ExitStatus.USAGE
        # An error inside dlkit: the user needs the trace to report it.
        print_trace()
        if world_size() > 1:
            print_error(f"{type(error).__name__}: {error}")
        return ExitStatus.BUG
    return ExitStatus.OK


def with_publishers(error: DlkitError) -> DlkitError:
    """The error; for an unknown model with the tasks that can download one of that name."""
    from dlkit.core.store.weights import UnknownModel

    if isinstance(error, UnknownModel):
        owners = [task for task in TASKS if error.model in task_module(task).TASK.published]
        return UnknownModel(error.task, error.model, error.known, owners)
    return error


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
