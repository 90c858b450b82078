"""Options that all commands share: `--color`, and `--force` of those that write files.

Loads no torch.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from typer._types import TyperChoice
from typer.core import TyperArgument, TyperCommand, TyperOption

from dlkit.core.config import option_name
from dlkit.core.environment import Coloring, use_coloring
from dlkit.core.errors import DlkitError

MAX_NUMBER = 2**31 - 1  # of an option
MAX_SEED = 2**63 - 1

# Parameters that name files or folders that a command writes.
WRITTEN = {
    "output", "save", "crops", "annotate", "probabilities", "grid", "save_latents", "separate",
}  # fmt: skip


# Groups of options that do not change results.
UNRELATED = {"Output", "Batch and cluster"}


class CommandWithShared(TyperCommand):
    """A command with `--color` if it prints results, and `--force` if it writes files.

    Files that exist are kept unless `--force` or `--resume` is given; the paths that were written
    are printed at the end.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        names = {parameter.name for parameter in self.params}
        self.written = {p.name for p in self.params if p.type.name == "path"} & WRITTEN
        if self.written and "force" not in names:
            self.params.append(force_option())
        if "format" in names:
            self.params.append(color_option())
        if {"shard", "resume", "format"} <= names:
            self.params += [retry_option(), only_option()]

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        check_numbers(ctx.params)
        from dlkit.core.failures import drop_notes, report_notes
        from dlkit.core.io.files import check_free, is_file, keep_existing, report_saved
        from dlkit.core.io.provenance import describing
        from dlkit.core.parallel.sharding import select_inputs
        from dlkit.core.progress import spinning

        added = {p.name for p in self.params if isinstance(p, AddedOption)}
        given = {name: ctx.params.pop(name) for name in added & ctx.params.keys()}
        selection = select(given.get("retry_failed", False), given.get("only"))
        keep = not (given.get("force", True) or ctx.params.get("resume") or selection.retry_failed)
        with (
            use_coloring(given.get("color", Coloring.auto)),
            keep_existing(keep),
            spinning("loading"),
            select_inputs(selection),
            describing(
                partial(self.provenance, ctx, dict(ctx.params)) if "model" in ctx.params else None
            ),
        ):
            drop_notes()  # of calls from Python
            # Before the work; a shard's writer checks its own file.
            own = {"output"} if ctx.params.get("shard") else set()
            for name in self.written - own:
                path = Path(ctx.params[name] or "")
                # An input is never overwritten; the command names the mistake.
                if is_file(path) and not {path, path.parent} & self.inputs(ctx):
                    check_free(path)
            try:
                return super().invoke(ctx)
            finally:
                report_notes()
                report_saved()

    def provenance(self, ctx: Any, values: dict[str, Any]) -> Any:
        """The command with its model and the options that change its results."""
        from dlkit import __version__
        from dlkit.core.environment import command_arguments
        from dlkit.core.io.provenance import Provenance
        from dlkit.core.store.weights import digest

        task = ctx.parent.info_name if ctx.parent is not None else ""
        given = values["model"]
        models = given if isinstance(given, list | tuple) else [given]
        options = {
            parameter.name: plain(values[parameter.name])
            for parameter in self.params
            if isinstance(parameter, TyperOption)
            and parameter.name in values
            and (parameter.rich_help_panel not in UNRELATED or parameter.name == "precision")
            and parameter.name not in ("model", "text", "file")
        }
        return Provenance(
            __version__,
            ctx.command_path,
            command_arguments(),
            options,
            {str(model): digest(task, str(model)) for model in models if model is not None},
        )

    def inputs(self, ctx: Any) -> set[Path]:
        """The arguments as paths."""
        values = [ctx.params.get(p.name) for p in self.params if isinstance(p, TyperArgument)]
        lists = [value if isinstance(value, list | tuple) else [value] for value in values]
        return {Path(value) for given in lists for value in given if value is not None}


def plain(value: Any) -> Any:
    """The value of an option as JSON has it."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def check_numbers(values: Mapping[str, Any]) -> None:
    """Raise DlkitError for an integer that no computation takes, such as one of twenty digits."""
    for name, value in values.items():
        most = MAX_SEED if name == "seed" else MAX_NUMBER
        if isinstance(value, int) and not -most <= value <= most:
            raise DlkitError(f"{option_name(name)} {value}: too large; give at most {most}")


class AddedOption(TyperOption):
    """An option that the command's function does not have."""


def force_option() -> AddedOption:
    """`--force`."""
    return AddedOption(
        param_decls=["--force"],
        is_flag=True,
        is_eager=True,
        help="Overwrite files that exist.",
        rich_help_panel="Output",
    )


def retry_option() -> AddedOption:
    """`--retry-failed`."""
    return AddedOption(
        param_decls=["--retry-failed"],
        is_flag=True,
        help="Compute the failed inputs of a finished -o FILE.jsonl again.",
        rich_help_panel="Batch and cluster",
    )


def only_option() -> AddedOption:
    """`--only`, with which `dlkit verify` repeats some inputs of a command."""
    return AddedOption(
        param_decls=["--only"],
        metavar="FILE",
        hidden=True,
        help="Only the inputs whose numbers are in this JSON file.",
        rich_help_panel="Batch and cluster",
    )


def select(retry_failed: bool, only: str | None) -> Any:
    """The inputs that these two options choose."""
    from dlkit.core.parallel.sharding import Selection

    if only is None:
        return Selection(retry_failed)
    import json

    return Selection(only=frozenset(json.loads(Path(only).read_bytes())))


def color_option() -> AddedOption:
    """`--color`."""
    return AddedOption(
        param_decls=["--color"],
        type=TyperChoice(list(Coloring)),
        default=Coloring.auto,
        show_default=True,
        help="always prints the table of a terminal in a pipe, too.",
        rich_help_panel="Output",
    )
