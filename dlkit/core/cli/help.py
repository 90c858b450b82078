"""Help pages: options in groups with the main ones first, commands, examples. Loads no torch."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer._click.exceptions import NoSuchOption
from typer.core import TyperArgument, TyperOption

from dlkit.core.cli.shared_options import CommandWithShared

F = TypeVar("F", bound=Callable[..., Any])
# The groups of arguments and options, in the order in which a page has them.
GROUPS = (
    "Input",
    "Data",
    "Model",
    "Architecture",
    "Tokenizer",
    "Style",
    "Latent vectors",
    "Results",
    "Search and sampling",
    "Loss",
    "Optimization",
    "Augmentation",
    "Validation",
    "Output",
    "Batch and cluster",
    "Run and cluster",
)
NARROWEST, WIDEST = 40, 120  # columns of a page
FIRST_COLUMN = 26  # the most columns of the names of options
LONGEST_CHOICES = 12  # characters of choices that a name of an option is followed by
VALUES = {"int": "N", "int range": "N", "float": "X", "float range": "X", "str": "TEXT"}
NO_BREAK = "\u00a0"  # a space at which lines are not wrapped


@dataclass(frozen=True)
class Page:
    """The part of a command's help page that its signature lacks.

    `main` names the parameters that `--help` shows, in this order in their groups; without any
    it shows all. `examples` are complete command lines; the first one also answers a command line
    that lacks its arguments. `of_files` is False where arguments are words of a text.
    """

    main: str = ""
    examples: tuple[str, ...] = ()
    of_files: bool = True

    def is_main(self, name: str | None) -> bool:
        """Whether --help shows the parameter."""
        return not self.main or name in self.main.split()

    def rank(self, name: str | None) -> int:
        """The place of a parameter in its group: main ones first."""
        names = self.main.split()
        return names.index(name) if name in names else len(names)


Pages = Mapping[str, Page]


def page_of(command: Any) -> Page:
    """The page of a command; an empty one if it has none."""
    page = command.context_settings.get("obj")
    return page if isinstance(page, Page) else Page()


def print_everything(ctx: typer.Context, param: Any, wanted: bool) -> None:
    """Print the page with all options and exit, if it is wanted."""
    if wanted and not ctx.resilient_parsing:
        typer.echo(ctx.command.full_help(ctx))  # type: ignore[attr-defined]
        raise typer.Exit


HELP_ALL = TyperOption(
    param_decls=["--help-all"],
    type=bool,
    is_flag=True,
    default=False,
    is_eager=True,
    expose_value=False,
    callback=print_everything,
    help="Show all options and exit.",
)


class Command(CommandWithShared):
    """A command with a help page in groups; `--help-all` shows the options that --help does not."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with --help and --help-all."""
        return [*super().get_params(ctx), HELP_ALL]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line. An option with one dash, -model, is not `-m odel`."""
        names = {name for param in self.params for name in param.opts}
        for before, word in zip(["", *args], args, strict=False):
            if before == "--":
                break
            option = word.partition("=")[0]
            if f"-{option}" in names and not (before.startswith("-") or ctx.resilient_parsing):
                raise NoSuchOption(option, ctx=ctx)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The page of --help."""
        return self.page(ctx, False)

    def full_help(self, ctx: Any) -> str:
        """The page of --help-all."""
        return self.page(ctx, True)

    def page(self, ctx: Any, everything: bool) -> str:
        """Usage, description, options in groups and examples."""
        page = page_of(self)
        return "\n\n".join(
            [
                usage([" ".join([ctx.command_path, *usage_pieces(self, ctx)])]),
                *paragraphs(self.help or ""),
                *sections(grouped(self.params, page, ctx, everything)),
                *footer(ctx.command_path, page, has_more(self, page) and not everything),
            ]
        )


class App(typer.Typer):
    """Commands with the pages of these names."""

    def __init__(self, pages: Pages, **settings: Any) -> None:
        super().__init__(rich_markup_mode=None, **settings)
        self.pages = pages

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Add a function as a command; its name is that of the function by default."""

        def decorate(function: F) -> F:
            page = self.pages.get(name or function.__name__, Page())
            settings["context_settings"] = {"obj": page}
            return super(App, self).command(name, cls=Command, **settings)(function)

        return decorate


Row = tuple[str, str]


def columns() -> int:
    """The width of a page: that of the terminal, within limits; 80 elsewhere."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def usage(lines: Iterable[str]) -> str:
    """The lines of usage, one below the other."""
    return "\n".join(
        wrap(line, start=start, indent=" " * 11)
        for line, start in zip(lines, ["Usage: ", *[" " * 7] * 9], strict=False)
    )


def usage_pieces(command: Any, ctx: Any) -> list[str]:
    """The placeholders of a command line: [OPTIONS], and the arguments."""
    arguments = [p for p in command.params if isinstance(p, TyperArgument) and not p.hidden]
    required = [p for p in command.params if isinstance(p, TyperOption) and p.required]
    return [
        "[OPTIONS]",
        *(
            value if argument.required or value.startswith("[") else f"[{value}]"
            for argument in arguments
            for value in [argument_name(argument)]
        ),
        *(option_names(option, ctx)[0].rpartition(", ")[2] for option in required),
    ]


def argument_name(argument: Any) -> str:
    """The placeholder of an argument, as in IMAGES... ."""
    if argument.metavar:
        return str(argument.metavar)
    name = argument.name.upper().replace("_", "-")
    return name if argument.nargs == 1 else f"{name}..."


def option_names(option: Any, ctx: Any) -> Row:
    """An option's names with the placeholder of its value, and its choices if they are many."""
    names = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        return f"{names} / {', '.join(option.secondary_opts)}", ""
    if option.is_flag:
        return names, ""
    choices = [str(choice) for choice in getattr(option.type, "choices", ())]
    listed = "|".join(choices)
    if choices and len(listed) > LONGEST_CHOICES:
        return f"{names} NAME", f" Choices: {', '.join(choices)}."
    value = option.metavar or listed or VALUES.get(option.type.name, option.type.name.upper())
    return f"{names} {value}", ""


def row(param: Any, ctx: Any, everything: bool) -> Row:
    """The line of a parameter: its names, its help with its default, and its limits."""
    names, choices = (
        (argument_name(param), "") if isinstance(param, TyperArgument) else option_names(param, ctx)
    )
    about = param.help or ""
    record = param.get_help_record(ctx)[1]
    extra = [part for part in record[len(about) :].strip(" []").split("; ") if part]
    if isinstance(param, TyperArgument):
        extra = [part for part in extra if part != "required"]
    elif param.secondary_opts:
        extra = [f"default: {'on' if param.default else 'off'}"]
    extra = [limits_in_words(part) for part in extra]
    if not everything:
        extra = [part for part in extra if part.startswith(("default: ", "required"))]
    limits = f" [{'; '.join(extra)}]".replace(": ", f":{NO_BREAK}") if extra else ""
    return names, about + choices + limits


def limits_in_words(limits: str) -> str:
    """Click's limits of a number, such as 0<=x<=1, in words; another text as it is."""
    between = re.fullmatch(r"(\S+)<=x<=(\S+)", limits)
    if between:
        return f"from {between[1]} to {between[2]}"
    return re.sub(r"^x>=", "at least ", re.sub(r"^x<=", "at most ", limits))


def grouped(params: Iterable[Any], page: Page, ctx: Any, everything: bool) -> dict[str, list[Row]]:
    """The lines of the parameters in their groups, main ones first."""
    shown = [p for p in params if not p.hidden and (everything or page.is_main(p.name))]
    shown.sort(key=lambda p: page.rank(p.name))
    groups: dict[str, list[Row]] = {name: [] for name in (*GROUPS, "Options")}
    for param in shown:
        groups[param.rich_help_panel or "Options"].append(row(param, ctx, everything))
    return {name: rows for name, rows in groups.items() if rows}


def has_more(command: Any, page: Page) -> bool:
    """Whether a command has options that --help does not show."""
    return any(not (page.is_main(p.name) or p.hidden) for p in command.params)


def sections(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    """Groups as text, all with the same columns."""
    names = [name for rows in groups.values() for name, _ in rows]
    fitting = [len(name) for name in names if len(name) <= FIRST_COLUMN]
    first = max(fitting, default=FIRST_COLUMN)
    return [
        "\n".join([f"{title}:", *(definition(name, text, first) for name, text in rows)])
        for title, rows in groups.items()
    ]


def definition(name: str, text: str, first: int) -> str:
    """A name and its text beside it, or below it if the name is too long or the page too narrow."""
    indent = " " * (first + 4)
    if len(indent) > columns() // 2:
        return f"  {name}\n{wrap(text, start=' ' * 6, indent=' ' * 6)}"
    if len(name) > first:
        return f"  {name}\n{wrap(text, start=indent, indent=indent)}"
    return wrap(text, start=f"  {name}".ljust(len(indent)), indent=indent)


def task_page(task: str) -> Path:
    """The file of a task's page."""
    return Path(__file__).parents[2] / task.replace("-", "_") / "README.md"


def footer(path: str, page: Page, more: bool) -> list[str]:
    """The examples, and the references to --help-all and to the task's page."""
    examples = "\n".join(["Examples:", *(f"  {line}" for line in page.examples)])
    hints = [f"All options: {path} --help-all."] if more else []
    _, *words = path.split()
    if words and task_page(words[0]).exists():
        hints.append(f"Page: dlkit docs {words[0]}.")
    return [*([examples] if page.examples else []), *([wrap(" ".join(hints))] if hints else [])]


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring, wrapped."""
    return [wrap(part) for part in inspect.cleandoc(text).split("\n\n") if part]


def summary(command: Any) -> str:
    """The first paragraph of a command's description."""
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


def wrap(text: str, start: str = "", indent: str = "") -> str:
    """Text in lines of the page's width; words such as --no-flip stay whole."""
    filled = textwrap.fill(
        text,
        columns(),
        initial_indent=start,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return filled.replace(NO_BREAK, " ")
