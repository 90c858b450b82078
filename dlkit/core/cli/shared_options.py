"""Options that all commands share: `--color`, and `--force` of those that write files.

Loads no torch.
"""

from pathlib import Path
from typing import Any

from typer._types import TyperChoice
from typer.core import TyperArgument, TyperCommand, TyperOption

from dlkit.core.environment import Coloring, use_coloring

# Parameters that name files or folders that a command writes.
WRITTEN = {
    "output", "save", "crops", "annotate", "probabilities", "grid", "save_latents", "separate",
}  # fmt: skip


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

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from dlkit.core.failures import drop_notes, report_notes
        from dlkit.core.io.files import check_free, keep_existing, report_saved
        from dlkit.core.progress import spinning

        added = {p.name for p in self.params if isinstance(p, AddedOption)}
        given = {name: ctx.params.pop(name) for name in added & ctx.params.keys()}
        keep = not (given.get("force", True) or ctx.params.get("resume"))
        with (
            use_coloring(given.get("color", Coloring.auto)),
            keep_existing(keep),
            spinning("loading"),
        ):
            drop_notes()  # of calls from Python
            # Before the work; a shard's writer checks its own file.
            own = {"output"} if ctx.params.get("shard") else set()
            for name in self.written - own:
                path = Path(ctx.params[name] or "")
                # An input is never overwritten; the command names the mistake.
                if path.is_file() and not {path, path.parent} & self.inputs(ctx):
                    check_free(path)
            try:
                return super().invoke(ctx)
            finally:
                report_notes()
                report_saved()

    def inputs(self, ctx: Any) -> set[Path]:
        """The arguments as paths."""
        values = [ctx.params.get(p.name) for p in self.params if isinstance(p, TyperArgument)]
        lists = [value if isinstance(value, list | tuple) else [value] for value in values]
        return {Path(value) for given in lists for value in given if value is not None}


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
