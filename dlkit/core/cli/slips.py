"""Wrong command lines: one line with the mistake and its correction. Loads no torch."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from typer._click.exceptions import (
    BadOptionUsage,
    BadParameter,
    MissingParameter,
    NoSuchOption,
    UsageError,
)
from typer.core import TyperArgument

from dlkit.core.cli.help import argument_name, limits_in_words, page_of
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists

WORD = re.compile(r"[a-z]+(-[a-z]+)*")


def explain(error: UsageError) -> str:
    """The mistake, and the nearest names or an example."""
    ctx: Any = error.ctx
    if isinstance(error, NoSuchOption):
        return unknown_option(error.option_name, ctx)
    if isinstance(error, MissingParameter):
        return f"missing {name_of(error.param).removesuffix('...')}{example(ctx)}"
    if isinstance(error, BadParameter):
        return f"{name_of(error.param)}: {plain(error.message)}"
    if isinstance(error, BadOptionUsage):
        mistake = error.message.rstrip(".").split(" ", 2)[2].replace("an argument", "a value")
        return f"{error.option_name}: {mistake}"
    extra = re.fullmatch(r"Got unexpected extra argument\(s\) \((.*)\)", error.message)
    if extra is not None:
        return unexpected(extra[1], ctx)
    return plain(error.message)


def unknown_option(name: str, ctx: Any) -> str:
    """The message for an option that a command lacks: who has it, or the nearest ones."""
    path = path_of(ctx)
    owners = [
        f"`{ctx.parent.command_path} {other}`"
        for other, command in siblings(ctx).items()
        if name in options_of(command.params)
    ]
    if owners:
        has = "has" if len(owners) == 1 else "have"
        return f"no option {name} in `{path}`; {' and '.join(owners)} {has} it"
    options = options_of(ctx.command.get_params(ctx))
    near = did_you_mean(nearest(name, options)[:1])
    page = "--help-all" if "--help-all" in options else "--help"
    return f"no option {name} in `{path}`{near or f'; `{path} {page}` lists all'}"


def siblings(ctx: Any) -> dict[str, Any]:
    """The commands of the task that a command belongs to."""
    return {} if ctx.parent is None else getattr(ctx.parent.command, "commands", {})


def unexpected(extra: str, ctx: Any) -> str:
    """The message for arguments that a command does not take."""
    near = did_you_mean(nearest(extra.split()[0], siblings(ctx)))
    return f"unexpected {extra} in `{path_of(ctx)}`{near or example(ctx)}"


def check_command(word: str, ctx: Any, commands: Iterable[str]) -> None:
    """Raise DlkitError for a word that is no file and resembles the name of a command."""
    if not WORD.fullmatch(word) or exists(word):
        return
    near = difflib.get_close_matches(word, list(commands), n=1, cutoff=0.75)
    if near:
        raise DlkitError(
            f"no command {word!r} in `{ctx.command_path}`, and no such file{did_you_mean(near)}"
        )


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The names that resemble a word or of which it is a part, nearest first."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3)
    return close or [name for name in names if word in name.split("-")]


def did_you_mean(near: Sequence[str]) -> str:
    """The question after a mistake; empty without names."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def example(ctx: Any) -> str:
    """The first example of a command, after a mistake; empty if it has none."""
    examples = page_of(ctx.command).examples
    return f"; for example: {examples[0]}" if examples else f"; see `{path_of(ctx)} --help`"


def path_of(ctx: Any) -> str:
    """The command as a person types it: without the name of the default one."""
    group = ctx.parent.command if ctx.parent is not None else None
    is_default = getattr(group, "default", None) == ctx.info_name
    return str(ctx.parent.command_path if is_default else ctx.command_path)


def options_of(params: Iterable[Any]) -> list[str]:
    """The names of options."""
    shown = [p for p in params if not isinstance(p, TyperArgument) and not p.hidden]
    return [name for p in shown for name in (*p.opts, *p.secondary_opts)]


def name_of(param: Any) -> str:
    """The name of a parameter in a message: IMAGES..., --threshold."""
    if isinstance(param, TyperArgument):
        return argument_name(param)
    return str(max(param.opts, key=len))


def plain(message: str) -> str:
    """Click's message in our form: no capital and no period, types and limits in words."""
    message = message[:1].lower() + message[1:].rstrip(".")
    value, sep, choices = message.partition(" is not one of ")
    if sep:
        names = choices.replace("'", "").split(", ")
        near = did_you_mean(nearest(value.strip("'"), names))
        return f"{value} is not one of {', '.join(names)}{near}"
    value, sep, limits = message.partition(" is not in the range ")
    if sep:
        return f"{value} must be {limits_in_words(limits)}"
    message = re.sub("is not a valid int( range)?$", "is not a whole number", message)
    return re.sub("is not a valid float( range)?$", "is not a number", message)
