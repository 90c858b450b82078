"""The commands beside the tasks: models, merge, doctor, docs, publish. Loads no torch."""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.core.cli.command import AnyFormat, Output
from dlkit.core.cli.help import App, Page
from dlkit.core.errors import ExitStatus
from dlkit.core.io import streams
from dlkit.core.io.views import shows_table
from dlkit.core.io.writers import Format, write
from dlkit.core.progress import log
from dlkit.core.store.weights import bundled, cached
from dlkit.tasks import TASKS, task_module

app = App(
    {
        "models": Page(examples=("dlkit models", "dlkit models detect", "dlkit models animals")),
        "merge": Page(examples=("dlkit merge out.*.jsonl -o out.jsonl",)),
        "verify": Page(examples=("dlkit verify results.jsonl --share 0.1",)),
        "doctor": Page(examples=("dlkit doctor",)),
        "docs": Page(examples=("dlkit docs detect", "dlkit docs --search mosaic")),
        "help": Page(examples=("dlkit help detect", "dlkit help detect train")),
    }
)


def task_names(incomplete: str) -> list[str]:
    """Completion of a task's name."""
    return [name for name in TASKS if name.startswith(incomplete)]


def task_and_model_names(incomplete: str) -> list[str]:
    """Completion of `dlkit models`: the names of tasks, and of models that are here."""
    models = (path.stem for task in TASKS for path in [*bundled(task), *cached(task)])
    return [n for n in dict.fromkeys([*TASKS, *models]) if n.startswith(incomplete)]


@app.command()
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A task, to list its models; or a model's name or file, to show its card.",
            autocompletion=task_and_model_names,
            rich_help_panel="Input",
        ),
    ] = None,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """List the models that are bundled or cached, or show the card of one."""
    from dlkit.core.cli.models import Catalog, show

    tasks = [task_module(task).TASK for task in ([name] if name in TASKS else TASKS)]
    catalog = Catalog(
        {task.name: task.published for task in tasks},
        {task.name: task.default_model for task in tasks},
    )
    show(catalog, None if name in TASKS else name, format, output)


@app.command()
def merge(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of all shards, as in out.*.jsonl.", rich_help_panel="Input"),
    ],
    output: Output = None,
) -> None:
    """Merge results of shards in the order of the inputs; exit with 1 if any is missing."""
    from dlkit.core.parallel.merge import merge as merge_files

    merge_files(files, output)


@app.command()
def verify(
    file: Annotated[
        Path, typer.Argument(help="Results in -o FILE.jsonl.", rich_help_panel="Input")
    ],
    share: Annotated[
        float,
        typer.Option(
            help="Share of the results that is computed again.",
            min=0,
            max=1,
            rich_help_panel="Input",
        ),
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Seed of the draw.", rich_help_panel="Input")] = 0,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Compute some results again; exit with 1 if any differs."""
    from dlkit.core.parallel.verify import verify as compare

    found = list(compare(file, share, seed))
    write(iter(found), format, output)
    equal = sum(result.equal for result in found)
    log(f"{equal} of {len(found)} results are equal")
    if equal < len(found):
        raise typer.Exit(ExitStatus.FAILED_INPUTS)


@app.command()
def doctor(format: AnyFormat = Format.text, output: Output = None) -> None:
    """Print versions, devices, precision and folders, and check every bundled file."""
    from dlkit.core.cli.doctor import examine, write_findings
    from dlkit.tokenize import load

    findings = examine(TASKS, {"tokenize": load})
    on_terminal = format == Format.text and output is None and shows_table(streams.stdout())
    write(findings, format, output, write_findings if on_terminal else None)


def page_names(incomplete: str) -> list[str]:
    """Completion of `dlkit docs`: the names of the pages."""
    return [name for name in (*TASKS, "data", "cluster", "core") if name.startswith(incomplete)]


@app.command()
def docs(
    page: Annotated[
        str | None,
        typer.Argument(
            help="A task, cluster, core, or readme (default).",
            autocompletion=page_names,
            rich_help_panel="Input",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Print the lines of this page, or all, that contain it.",
            rich_help_panel="Input",
        ),
    ] = None,
) -> None:
    """Show the page of a task, or search all pages."""
    from dlkit.core.cli import docs

    pages = docs.find_pages(TASKS, page)
    if search is None:
        docs.show(pages[page or docs.README].read_text(encoding="utf-8"))
        return
    hits = [str(hit) for hit in docs.search(search, pages)]
    if not hits:
        log(f"dlkit: nothing found about {search!r}")
        raise typer.Exit(ExitStatus.FAILED_INPUTS)
    typer.echo("\n".join(hits))


@app.command("help")
def show_help(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK [COMMAND]]",
            help="The task or command; default: dlkit itself.",
            autocompletion=task_names,
            rich_help_panel="Input",
        ),
    ] = None,
) -> None:
    """Show the options of a task, or of a command of it."""
    ctx.find_root().command.main([*(words or []), "--help"], prog_name="dlkit")


@app.command(hidden=True)
def publish(
    run: Annotated[Path, typer.Argument(help="A run's folder.", rich_help_panel="Input")],
    name: Annotated[str, typer.Argument(help="The bundled model's name.", rich_help_panel="Input")],
    test: Annotated[
        list[Path],
        typer.Option(
            help="Data whose test split measures the model; given more than once, the files of it.",
            rich_help_panel="Input",
        ),
    ],
    metric: Annotated[
        str,
        typer.Option(help="The score to quote, by its name in evaluate.", rich_help_panel="Input"),
    ],
    data: Annotated[
        str, typer.Option(help="A description of the training data.", rich_help_panel="Input")
    ],
    terms: Annotated[
        str, typer.Option(help="The terms of use of that data.", rich_help_panel="Input")
    ],
    split: Annotated[
        str,
        typer.Option(
            help="The split to measure on; '' for data without splits.", rich_help_panel="Input"
        ),
    ] = "test",
    measure: Annotated[
        str | None,
        typer.Option(
            help="The command that measures it; default: evaluate with the files.",
            rich_help_panel="Input",
        ),
    ] = None,
    bits: Annotated[
        int, typer.Option(help="Bits of a stored weight: 32, 16 or 8.", rich_help_panel="Input")
    ] = 16,
    knows: Annotated[
        str, typer.Option(help="Content of the model in a few words.", rich_help_panel="Input")
    ] = "",
    limits: Annotated[
        str, typer.Option(help="As in: good at A; not for B.", rich_help_panel="Input")
    ] = "",
    license: Annotated[
        str, typer.Option(help="The terms in a word or two.", rich_help_panel="Input")
    ] = "",
) -> None:
    """Measure a run's best checkpoint on held-out data and add it to the bundled models."""
    from dlkit.core.cli.publish import publish as publish_run
    from dlkit.core.store.checkpoint import read_header

    task = task_module(read_header(run / "best.safetensors").task).TASK
    about = {"knows": knows, "limits": limits, "license": license}
    write(publish_run(task, run, name, test, metric, data, terms, split, measure, bits, about))
