"""How a task becomes a group of commands, and the arguments that tasks share. Loads no torch."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dlkit.core.config import Precision, option_name
from dlkit.core.io.writers import Format, write
from dlkit.core.store.weights import bundled, cached


class TaskGroup(TyperGroup):
    """The commands of one task; arguments that name none of them go to `infer`."""

    default = "infer"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        completing_a_name = ctx.resilient_parsing and not args
        if not completing_a_name and not {*args[:1]} & {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, without_auto(args))

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: (name != self.default, name))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*self.commands[self.default].collect_usage_pieces(ctx), "| COMMAND [ARGS]..."]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The default command's arguments and options, then the commands."""
        self.commands[self.default].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """`--<TAB>` offers the default command's options, a bare <TAB> the commands."""
        command = self.commands[self.default]
        if incomplete.startswith("-"):
            with command.make_context(self.default, [], parent=ctx, resilient_parsing=True) as own:
                return command.shell_complete(own, incomplete)
        return super().shell_complete(ctx, incomplete)


def without_auto(args: list[str]) -> list[str]:
    """`--resume auto`, as job scripts have it, is `--resume`: a run that is not there begins."""
    after = zip(["", *args], args, strict=False)
    return [arg for before, arg in after if (before, arg) != ("--resume", "auto")]


@dataclass(frozen=True)
class Trained:
    """What `train` prints: the path of the best checkpoint."""

    path: str


def options_from(config: type[Any]) -> Callable[..., Any]:
    """Give a command that takes the settings as keywords an option for each field of `config`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        for field in fields(config):
            limits = dict(field.metadata)
            help_text = limits.pop("help")
            short = limits.pop("short", ())
            if limits.pop("positional", False):
                about: Any = typer.Argument(help=help_text, **limits)
            else:
                names = (option_name(field.name), *short)
                about = typer.Option(*names, help=help_text, **limits)
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=Annotated[field.type, about],
                )
            )
        # Typer reads a command's options from its signature.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def task(name: str, help: str, config: type[Any], default_model: str) -> typer.Typer:
    """The group of a task, with `train`, `evaluate` and `models`; the task adds `infer`."""
    app = group(name, help)
    add_train(app, name, config)

    @app.command("evaluate")
    def evaluate(
        data: Data,
        model: model_argument(name) = default_model,  # type: ignore[valid-type]
        split: Split = "test",
        save: SaveScores = None,
        workers: Workers = 2,
        device: Device = "auto",
        precision: PrecisionOption = "auto",
        format: AnyFormat = Format.text,
        output: Output = None,
    ) -> None:
        """Print a model's scores on annotated data."""
        module = importlib.import_module(f"{package(name)}.evaluate")
        scores = module.evaluate_checkpoint(data, split, model, save, workers, device, precision)
        write(scores, format, output)

    add_models(app, name)
    return app


def group(name: str, help: str) -> typer.Typer:
    """A task's commands, none yet."""
    return typer.Typer(name=name, cls=TaskGroup, help=help, rich_markup_mode=None)


def package(task: str) -> str:
    """The task's package, which core imports by name, and only when a command runs."""
    return f"dlkit.{task.replace('-', '_')}"


def add_train(app: typer.Typer, task: str, config: type[Any]) -> None:
    """The command `train` of a task, with an option for each setting."""

    @app.command("train")
    @options_from(config)
    def train(**settings: Any) -> None:
        """Train a model on data of your own; prints the path of the best checkpoint."""
        path = importlib.import_module(f"{package(task)}.train").train(config(**settings))
        write([Trained(str(path))])


def add_models(app: typer.Typer, task: str) -> None:
    """The command `models` of a task."""

    @app.command("models")
    def models(format: AnyFormat = Format.text, output: Output = None) -> None:
        """List the models that are bundled or cached."""
        from dlkit.core.cli.models import listing

        write(listing([task]), format, output)


def model_names(task: str) -> Callable[[str], list[str]]:
    """Completion of `--model`: the names that can be given."""

    def complete(incomplete: str) -> list[str]:
        names = [path.stem for path in [*bundled(task), *cached(task)]]
        return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]

    return complete


def model_argument(task: str, several: bool = False) -> Any:
    """`--model` of one task; with `several` it may be given more than once."""
    more = "; given more than once, their answers are averaged" if several else ""
    about = typer.Option(
        "--model",
        "-m",
        help=f"A bundled model's name, a file, or a URL{more}.",
        autocompletion=model_names(task),
    )
    return Annotated[list[str], about] if several else Annotated[str, about]


Images = Annotated[
    list[str], typer.Argument(help="Images: files, folders, globs, URLs, or - for a list on stdin.")
]
Data = Annotated[Path, typer.Argument(help="Folder of annotated data; see the README for layouts.")]
Split = Annotated[str, typer.Option(help="Part of the data: train, val, test.")]
SaveScores = Annotated[Path | None, typer.Option(help="Folder for pictures of the scores.")]
Workers = Annotated[int, typer.Option(help="Threads that read ahead; 0: none.", min=0)]
BatchSize = Annotated[int, typer.Option(help="Images computed at once.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="auto: bf16 where the hardware is fast at it, else fp32."),
]


def by_suffix(ctx: typer.Context, value: str) -> str:
    """The format to print in: as given, else as the suffix of `--output` says."""
    # Options that are given come first: by now `--output` is known, unless --format is given too.
    suffix = Path(ctx.params.get("output") or "").suffix[1:]
    source = ctx.get_parameter_source("format")
    given = source is not None and source.name != "DEFAULT"
    return value if given or suffix not in {"json", "jsonl", "csv"} else suffix


AnyFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        "-f",
        help="How results are printed; -o FILE.jsonl, .json or .csv says it as well.",
        callback=by_suffix,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only every N-th input, from number I on, counted from 0: -o out.jsonl writes"
        " out.0000I-of-0000N.jsonl, and `dlkit merge` puts all together.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Leave out the inputs whose results are in -o FILE.jsonl."),
]
PictureShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only every N-th input, from number I on, counted from 0.",
    ),
]
PictureResumeOption = Annotated[
    bool, typer.Option("--resume", help="Leave out the inputs whose pictures are there.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write results to this file, not to stdout.")
]
