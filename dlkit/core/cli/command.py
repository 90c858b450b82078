"""Command groups of tasks, and the arguments and options they share. Loads no torch."""

import inspect
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from dlkit.core.cli import help as pages
from dlkit.core.cli.help import HELP_ALL, App, Pages
from dlkit.core.config import Precision, group_of, option_name
from dlkit.core.errors import DlkitError, Interrupted
from dlkit.core.failures import Failure
from dlkit.core.io.files import exists
from dlkit.core.io.inputs import Table, TableFormat
from dlkit.core.io.views import View
from dlkit.core.io.writers import Format, write, write_rows
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.progress import Inputs, log
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.renamed import upgrade_option
from dlkit.core.store.weights import SUFFIXES, bundled, cached, find
from dlkit.core.train.run_folder import RunFolder, continue_with, resumable


class TaskGroup(TyperGroup):
    """The commands of a task; arguments that do not begin with a command's name go to `infer`."""

    default = "infer"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command's name where no command is named."""
        completing_a_name = ctx.resilient_parsing and not args
        own = {*self.commands, *ctx.help_option_names, *HELP_ALL.opts}
        if not completing_a_name and not {*args[:1]} & own:
            if args and pages.page_of(self.commands[self.default]).of_files:
                from dlkit.core.cli.slips import check_command  # for wrong command lines only

                check_command(args[0], ctx, self.commands)
            args = [self.default, *args]
        return super().parse_args(ctx, normalize_resume(self.with_options_of_today(args)))

    def with_options_of_today(self, args: list[str]) -> list[str]:
        """The arguments of `train` with options of version 0.1 under today's names."""
        if args[:1] != ["train"] or "train" not in self.commands:
            return args
        params = self.commands["train"].params
        known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
        upgraded = []
        for argument in args:
            option, equals, value = argument.partition("=")
            today = None
            if option.startswith("--") and option not in known:
                today = upgrade_option(option, self.name or "")
            if today is not None and today in known:
                log(f"{option} is now {today}")
                argument = f"{today}{equals}{value}"
            upgraded.append(argument)
        return upgraded

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, the default one first."""
        return sorted(self.commands, key=lambda name: (name != self.default, name))

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with --help and --help-all."""
        return [*super().get_params(ctx), HELP_ALL]

    def get_help(self, ctx: Any) -> str:
        """The page of --help: the default command's, and the other commands."""
        return self.page(ctx, False)

    def full_help(self, ctx: Any) -> str:
        """The page of --help-all."""
        return self.page(ctx, True)

    def page(self, ctx: Any, everything: bool) -> str:
        """The default command's arguments and options, the other commands, examples."""
        default = self.commands[self.default]
        page = pages.page_of(default)
        pieces = [" ".join(pages.usage_pieces(default, ctx)), "COMMAND [ARGS]..."]
        about = [self.help or "", *([default.help or ""] if everything else [])]
        groups = pages.grouped(default.params, page, ctx, everything)
        commands = [
            (name, pages.summary(command))
            for name, command in sorted(self.commands.items())
            if name != self.default
        ]
        more = pages.has_more(default, page) and not everything
        return "\n\n".join(
            [
                pages.usage(f"{ctx.command_path} {piece}" for piece in pieces),
                *(part for text in about for part in pages.paragraphs(text)),
                *pages.sections(groups),
                *pages.sections({"Commands": commands}),
                *pages.footer(ctx.command_path, page, more),
            ]
        )

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete `--<TAB>` with the default command's options, a bare <TAB> with the commands."""
        command = self.commands[self.default]
        if incomplete.startswith("-"):
            with command.make_context(self.default, [], parent=ctx, resilient_parsing=True) as own:
                return command.shell_complete(own, incomplete)
        return super().shell_complete(ctx, incomplete)


class PlainGroup(TyperGroup):
    """Commands without a default one."""

    def get_help(self, ctx: Any) -> str:
        """The page of --help: the commands, and the first example of each."""
        commands = [(name, pages.summary(command)) for name, command in self.commands.items()]
        examples = [page.examples[:1] for page in map(pages.page_of, self.commands.values())]
        page = pages.Page(examples=tuple(line for lines in examples for line in lines))
        return "\n\n".join(
            [
                pages.usage([f"{ctx.command_path} COMMAND [ARGS]..."]),
                *pages.paragraphs(self.help or ""),
                *pages.sections({"Commands": commands}),
                *pages.footer(ctx.command_path, page, False),
            ]
        )


def normalize_resume(args: list[str]) -> list[str]:
    """Shorten `--resume auto`, as job scripts have it, to `--resume`."""
    after = zip(["", *args], args, strict=False)
    return [arg for before, arg in after if (before, arg) != ("--resume", "auto")]


@dataclass(frozen=True)
class Trained:
    """The result of `train`: the path of the best checkpoint."""

    path: str


@dataclass(frozen=True)
class Task:
    """A task: its name, its settings, and the functions that shared commands call.

    The functions import torch only when they are called. `train(config)` returns the path of the
    best checkpoint. `evaluate(data, split, model, save, workers, device, precision)` yields a
    Score or a Failure for each metric; `data` are folders or files. `published` are the URLs of
    models that are downloaded by name; `main_metrics` the names of the one metric that matters, of
    each kind of model. `pages` are the help pages of the commands. With `skips`, `evaluate` has the
    option `--allow-skipped` and its function the keyword `allow_skipped`, None by default.
    `shipped(weights)` returns the weights that a finished model needs. `next_command(config,
    model)` returns the arguments of a command to try after a training.
    """

    name: str
    help: str
    config: type[Any]
    default_model: str
    train: Callable[[Any], Path]
    evaluate: Callable[..., Iterator[Any]]
    published: Mapping[str, str] = field(default_factory=dict)
    main_metrics: tuple[str, ...] = ()
    pages: Pages = field(default_factory=dict)
    shipped: Callable[[dict[str, Any]], dict[str, Any]] = dict
    skips: bool = False
    next_command: Callable[[Any, str], list[str]] = field(kw_only=True)

    @property
    def view(self) -> View:
        """The look of scores on a terminal: the main metric last."""
        return View(main=self.main_metrics)

    def group(self, evaluate: bool = True) -> typer.Typer:
        """The task's command group with `train`, `models` and, by default, `evaluate`."""
        app = App(self.pages, name=self.name, cls=TaskGroup, help=self.help)
        self._add_train(app)
        if evaluate:
            self._add_evaluate(app)
        self._add_models(app)
        return app

    def _add_train(self, app: typer.Typer) -> None:
        @app.command("train")
        @options_from(self.config)
        def train(**settings: Any) -> None:
            """Train a model on your own data; print the checkpoint's path."""
            config = self.config(**settings)
            check_data(settings.get("data"))
            path = train_or_stop(self.train, config)
            sum_up(config.out, self.next_command(config, str(path)))
            write([Trained(str(path))], writer=write_rows)

    def _add_evaluate(self, app: typer.Typer) -> None:
        model = model_argument(self.name, published=self.published, check=True)

        def evaluate(
            data: Data,
            model: model = self.default_model,  # type: ignore[valid-type]
            split: Split = "test",
            save: SaveScores = None,
            workers: Workers = 2,
            device: Device = "auto",
            precision: PrecisionOption = "auto",
            allow_skipped: AllowSkipped = None,
            strict: Strict = False,
            format: AnyFormat = Format.text,
            output: Output = None,
        ) -> None:
            """Print a model's scores on annotated data."""
            more = {"allow_skipped": 0.0 if strict else allow_skipped} if self.skips else {}
            arguments = [str(data)], split, model, save, workers, device, precision
            write(self.evaluate(*arguments, **more), format, output, view=self.view)

        if not self.skips:
            remove_parameters(evaluate, "allow_skipped", "strict")
        app.command("evaluate")(evaluate)

    def _add_models(self, app: typer.Typer) -> None:
        @app.command("models")
        def models(
            name: Annotated[
                str | None,
                typer.Argument(
                    help="A model's name or file, to show its card.",
                    autocompletion=model_names(self.name, self.published),
                    rich_help_panel="Input",
                ),
            ] = None,
            format: AnyFormat = Format.text,
            output: Output = None,
        ) -> None:
            """List the models that are bundled or cached, or show the card of one."""
            from dlkit.core.cli.models import Catalog, show

            catalog = Catalog({self.name: self.published}, {self.name: self.default_model})
            show(catalog, name, format, output)


def remove_parameters(command: Callable[..., Any], *names: str) -> None:
    """Remove parameters from the options of a command, which then keep their defaults."""
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.name not in names]
    # Typer reads a command's options from its signature.
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]


def train_or_stop(train: Callable[[Any], Path], config: Any) -> Path:
    """Train; at Ctrl-C before the first step print a line about the run's state."""
    try:
        return train(config)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        if resumable(config.out):
            log(f"interrupted: {config.out} is as before; continue with ", continue_with())
        else:
            log("interrupted before a model was saved; start again with ", continue_with(False))
        raise


def sum_up(out: Path, arguments: Sequence[str]) -> None:
    """Print the files that a training has written, and a command to try."""
    names = RunFolder(out).written()
    log(f"saved in {out}: {', '.join(names)}" if names else f"saved {out}")
    log("next: ", shlex.join(["dlkit", *arguments]))


def options_from(config: type[Any]) -> Callable[..., Any]:
    """Give a command that takes settings as keywords an option for each field of `config`.

    A setting that is on by default gets the pair `--name/--no-name`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        for setting in fields(config):
            limits = dict(setting.metadata)
            help_text = limits.pop("help")
            short = limits.pop("short", ())
            limits["rich_help_panel"] = group_of(config, setting.name)
            limits.pop("group", None)
            if limits.pop("positional", False):
                about: Any = typer.Argument(help=help_text, **limits)
            else:
                name = option_name(setting.name)
                if setting.default is True:
                    name += f"/{option_name('no_' + setting.name)}"
                about = typer.Option(name, *short, help=help_text, **limits)
            default = inspect.Parameter.empty if setting.default is MISSING else setting.default
            parameters.append(
                inspect.Parameter(
                    setting.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=Annotated[setting.type, about],
                )
            )
        # Typer reads a command's options from its signature.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def model_names(task: str, published: Iterable[str] = ()) -> Callable[[str], list[str]]:
    """Completion of `--model`: the names of models that can be given."""

    def complete(incomplete: str) -> list[str]:
        names = [*(path.stem for path in [*bundled(task), *cached(task)]), *published]
        return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]

    return complete


def model_argument(
    task: str,
    several: bool = False,
    published: Iterable[str] = (),
    check: bool = False,
    about: str = "A model's name, a file or a URL",
) -> Any:
    """`--model` of a task; with `several` it may be given more than once. `about` is its help.

    With `check` an unknown name, a missing file and a model of another task are refused when the
    command line is parsed, before torch is imported.
    """
    names = list(published)

    def checked(ctx: typer.Context, value: Any) -> Any:
        if check and value is not None and not ctx.resilient_parsing:
            for model in value if several else [value]:
                check_model(task, model, names)
        return value

    found = typer.Option(
        "--model",
        "-m",
        help=f"{about}.",
        autocompletion=model_names(task, names),
        callback=checked,
        rich_help_panel="Model",
    )
    return Annotated[list[str], found] if several else Annotated[str, found]


def check_model(task: str, model: str, published: Sequence[str] = ()) -> None:
    """Raise DlkitError for an unknown name, a missing file or a model of another task."""
    if "://" in model or model in published:
        return
    path = find(task, model, published)
    if model.endswith(SUFFIXES):
        read_header(path, task)


def format_option(formats: Iterable[str]) -> Any:
    """`--format` of a command that prints in these formats; by default that of --output's suffix.

    The command's parameter is the format's name.
    """
    choices = StrEnum("Format", {name: name for name in formats})  # type: ignore[misc]
    suffixes = [f".{name}" for name in choices if name in {"json", "jsonl", "csv"}]
    return Annotated[
        choices,
        typer.Option(
            "--format",
            "-f",
            help=f"Format of results; -o FILE{', '.join(suffixes)} chooses it as well.",
            callback=format_by_suffix,
            rich_help_panel="Output",
        ),
    ]


def format_by_suffix(ctx: typer.Context, value: str) -> str:
    """The format that is given, or else the one that the suffix of `--output` names."""
    # Options that are given come first: by now `--output` is known, unless --format is given too.
    suffix = Path(ctx.params.get("output") or "").suffix[1:]
    source = ctx.get_parameter_source("format")
    given = source is not None and source.name != "DEFAULT"
    return value if given or suffix not in {"json", "jsonl", "csv"} else suffix


def missing_images(sources: Sequence[str]) -> list[Failure]:
    """A Failure for each source, if none of them has an image; else none. Loads no torch.

    Sources are as in the argument IMAGES.
    """
    from dlkit.core.io.image_files import missing

    failures = []
    for source in sources:
        reason = missing(source)
        if reason is None:
            return []
        failures.append(Failure(source, reason))
    return failures


Images = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, globs, URLs; - reads a list on stdin.",
        rich_help_panel="Input",
    ),
]


def check_data(data: Any) -> None:
    """Raise DlkitError for a path of data that does not exist; other sources are not checked."""
    if isinstance(data, Path) and not exists(data):
        raise DlkitError("no such folder or file", data)


def existing_data(ctx: typer.Context, data: Path | None) -> Path | None:
    """The data of a command line. Raises DlkitError if they do not exist."""
    if not ctx.resilient_parsing:
        check_data(data)
    return data


Data = Annotated[
    Path,
    typer.Argument(
        help="Folder of annotated data; `dlkit docs TASK` has the layouts.",
        callback=existing_data,
        rich_help_panel="Input",
    ),
]
AllowSkipped = Annotated[
    float | None,
    typer.Option(
        help="Largest share that may be skipped of samples and annotations (0.05), and of rows of"
        " CSV, of JSON lines and of texts (0.01).",
        min=0,
        max=1,
        rich_help_panel="Input",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail if anything is skipped, as with --allow-skipped 0.",
        rich_help_panel="Input",
    ),
]
Split = Annotated[
    str, typer.Option(help="Part of the data: train, val, test.", rich_help_panel="Input")
]
SaveScores = Annotated[
    Path | None, typer.Option(help="Folder for pictures of the scores.", rich_help_panel="Output")
]
Workers = Annotated[
    int,
    typer.Option(
        help="Threads that read ahead; 0: none.", min=0, rich_help_panel="Batch and cluster"
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Images computed at once.", min=1, rich_help_panel="Batch and cluster")
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel="Batch and cluster")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="auto: bf16 where the hardware is fast at it, else fp32.",
        rich_help_panel="Batch and cluster",
    ),
]
AnyFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        "-f",
        help="Format of results; -o FILE.jsonl, .json or .csv chooses it as well.",
        callback=format_by_suffix,
        rich_help_panel="Output",
    ),
]
ErrorsOption = Annotated[
    Literal["strict", "replace"],
    typer.Option(
        "--errors",
        help="Bytes that are not UTF-8: strict reports them and stops reading the file, replace"
        " reads them as U+FFFD.",
        rich_help_panel="Input",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only every N-th input, from number I on, counted from 0: -o out.jsonl writes"
        " out.0000I-of-0000N.jsonl, and `dlkit merge` puts all together.",
        rich_help_panel="Batch and cluster",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Skip the inputs whose results are in -o FILE.jsonl.",
        rich_help_panel="Batch and cluster",
    ),
]
InOption = Annotated[
    TableFormat | None,
    typer.Option(
        "--in",
        help="Inputs are rows of a table; its other columns are carried to -f jsonl, json or csv.",
        rich_help_panel="Input",
    ),
]
FieldOption = Annotated[
    str | None,
    typer.Option(help="Column of the inputs, with --in; default: text.", rich_help_panel="Input"),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="Column that names the inputs in errors and for --resume, with --in.",
        rich_help_panel="Input",
    ),
]
PictureShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only every N-th input, from number I on, counted from 0.",
        rich_help_panel="Batch and cluster",
    ),
]
PictureResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Skip the inputs whose images exist.", rich_help_panel="Batch and cluster"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write results to this file, not to stdout.",
        rich_help_panel="Output",
    ),
]


def table_of(
    table: TableFormat | None,
    column: str | None,
    id: str | None,
    text: str | None,
    format: str,
    reserved: Collection[str],
    errors: str = "strict",
) -> Table | None:
    """The table of `--in`; None without. Raises DlkitError for options that have no effect."""
    if table is None:
        for name, value in (("--field", column), ("--id", id)):
            if value is not None:
                raise DlkitError(f"{name}: has no effect without --in; add --in jsonl, csv or tsv")
        return None
    if text is not None:
        raise DlkitError("--text: has no effect with --in; remove one")
    if format == Format.text:
        raise DlkitError("--in: text cannot carry columns; give -f jsonl, json or csv")
    if table == TableFormat.jsonl and format == Format.csv:
        raise DlkitError("--in jsonl: its rows may differ in their fields; give -f jsonl or json")
    return Table(table, column or "text", id, reserved, errors)


def write_carrying(
    table: Table | None,
    files: Sequence[str] | None,
    writer: ShardWriter,
    lines: Callable[[], Any],
    work: Callable[[Any], Iterator[Any]],
) -> None:
    """Write the results of `work` on the inputs: `lines()`, or the rows of a table in files.

    `work` yields a result for each input; those of rows carry the other columns.
    """
    if table is None:
        writer.write(work(lines()))
        return
    rows = Inputs(table.read(files or ["-"], writer.last_result()), lambda: None)
    writer.write(table.carry(work(rows), writer.number_of))
