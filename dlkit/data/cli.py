"""The commands of `dlkit data`. Code that needs torch is imported when a command runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from dlkit.core.cli.command import AnyFormat, Output, PlainGroup, Workers, existing_data
from dlkit.core.cli.help import App
from dlkit.core.errors import DlkitError, ExitStatus
from dlkit.core.io.splits import SPLITS
from dlkit.core.io.writers import Format, write, write_rows
from dlkit.core.progress import log
from dlkit.data.help import PAGES

if TYPE_CHECKING:
    from dlkit.core.datasets.samples import Source

To = StrEnum(  # type: ignore[misc]
    "To", {name: name for name in ("coco", "voc", "yolo", "csv", "folder", "webdataset")}
)
Data = Annotated[
    Path,
    typer.Argument(
        help="Folder or file of a data set, in any layout that a task trains on.",
        callback=existing_data,
        rich_help_panel="Input",
    ),
]
Splits = Annotated[
    list[str] | None,
    typer.Option("--split", help="Only this split; may be repeated.", rich_help_panel="Input"),
]
ToOption = Annotated[To, typer.Option("--to", help="The new layout.", rich_help_panel="Output")]
Folder = Annotated[
    Path, typer.Option("--output", "-o", help="A new folder.", rich_help_panel="Output")
]
Copy = Annotated[
    bool,
    typer.Option(
        "--copy", help="Copy images instead of linking to them.", rich_help_panel="Output"
    ),
]
Lossy = Annotated[
    bool,
    typer.Option(
        "--lossy",
        help="Convert without the annotations that the new layout cannot hold.",
        rich_help_panel="Output",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the draw.", rich_help_panel="Data")]
app = App(
    PAGES,
    name="data",
    cls=PlainGroup,
    help="Check, convert, split and fetch data sets.",
    add_completion=False,
    no_args_is_help=True,
)


@dataclass(frozen=True)
class LabelCount:
    """The number of images and annotations of a label in a split."""

    split: str
    label: str
    images: int
    annotations: int
    noun: ClassVar[str] = "label"


@dataclass(frozen=True)
class Published:
    """A public data set that can be fetched."""

    name: str
    content: str
    terms: str


@dataclass(frozen=True)
class Written:
    """The folder of a new data set."""

    path: str


def source_of(data: Path, chosen: list[str] | None) -> tuple["Source", list[str]]:
    """The source of the data, and the splits to read: train, val and test, or the chosen ones."""
    from dlkit.core.datasets.sources import find_source

    source = find_source(data)
    known = list(source.splits)
    for name in chosen or []:
        if name not in known:
            raise DlkitError(f"no split {name!r}; choose from {', '.join(known)}", data)
    # Other lists, such as trainval, are of the same images.
    main = [name for name in known if name in SPLITS] or known
    if not chosen and len(main) < len(known):
        others = ", ".join(name for name in known if name not in main)
        log(f"splits {', '.join(main)}; --split reads others: {others}")
    return source, chosen or main


@app.command()
def check(
    data: Data,
    split: Splits = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another data set, none of whose images should be in this one.",
            callback=existing_data,
            rich_help_panel="Input",
        ),
    ] = None,
    notes: Annotated[
        bool,
        typer.Option(
            help="Also print notes, about which nothing must be done.", rich_help_panel="Results"
        ),
    ] = True,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, with pictures.", rich_help_panel="Output"),
    ] = None,
    workers: Workers = 2,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Find faults of a data set; exit with 1 if there are any.

    Decodes every image and prints damaged, doubled and similar ones, leaks between splits, boxes
    without area or outside their image, labels spelled alike, classes without samples.
    """
    from dlkit.core.datasets.sources import find_source
    from dlkit.data.check import Level, compare, examine

    source, splits = source_of(data, split)
    other = find_source(against) if against is not None else None
    examination = examine(source, splits, workers)
    log(f"{source.layout}: {data}")
    for ledger in examination.ledgers:
        labels = len(examination.counts(ledger.name))
        ledger.report({"annotations": f"of {labels} labels"} if labels else None)
    unread = False
    if other is not None:
        account = compare(examination, other, workers)
        account.report()
        unread = bool(account.places)
    warnings = [f for f in examination.findings if f.level == Level.warning]
    write(iter(examination.findings if notes else warnings), format, output)
    if save is not None:
        from dlkit.data.report import save_report

        save_report(examination, save)
    counts = {"finding": len(warnings), "note": len(examination.findings) - len(warnings)}
    log(", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items()))
    if warnings or unread:
        raise typer.Exit(ExitStatus.FAILED_INPUTS)


@app.command()
def suspects(
    data: Data,
    split: Splits = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Labels: the classifier whose features are used (caltech101). Boxes: a detector"
            " that did not see these images; default: detectors trained on the other folds.",
            rich_help_panel="Model",
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Parts of the data, each predicted by models of the others.",
            min=2,
            rich_help_panel="Model",
        ),
    ] = 5,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Epochs of each model. Labels: train networks from --model; default: only a"
            " regression on its features. Boxes: 30.",
            min=1,
            rich_help_panel="Model",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy",
            help="Labels: probabilities of other models that did not see them, a row an image.",
            rich_help_panel="Model",
        ),
    ] = None,
    seed: Seed = 0,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, with pictures.", rich_help_panel="Output"),
    ] = None,
    workers: Workers = 2,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Find labels and boxes that are probably wrong; exit with 1 if there are any.

    Models predict the parts of the data that they were not trained on (confident learning); the
    most suspect come first.
    """
    from dlkit.data.suspects import Settings, find_suspects, save_suspects

    source, splits = source_of(data, split)
    settings = Settings(model, folds, seed, predictions, epochs, workers)
    found, ledgers = find_suspects(source, splits, settings)
    for ledger in ledgers:
        ledger.report()
    write(iter(found), format, output)
    if save is not None:
        save_suspects(found, source.root, save)
    log(f"{len(found):,} suspect{'' if len(found) == 1 else 's'}")
    if found:
        raise typer.Exit(ExitStatus.FAILED_INPUTS)


@app.command()
def stats(
    data: Data, split: Splits = None, format: AnyFormat = Format.text, output: Output = None
) -> None:
    """Print the numbers of images and annotations of each label."""
    source, splits = source_of(data, split)
    write(count_labels(source, splits), format, output)


def count_labels(source: "Source", splits: list[str]) -> Iterator[LabelCount]:
    """Count the labels of each split; skipped things are printed on stderr."""
    from collections import Counter

    from dlkit.core.ledger import Ledger

    for name in splits:
        ledger = Ledger(name)
        images: Counter[str] = Counter()
        annotations: Counter[str] = Counter()
        for sample in source.read(name, ledger):
            ledger.use("images")
            ledger.use("annotations", len(sample.annotations))
            annotations.update(annotation.label for annotation in sample.annotations)
            images.update({*sample.labels, *(a.label for a in sample.annotations)})
        ledger.report()
        for label in dict.fromkeys([*source.classes.names, *sorted(images)]):
            yield LabelCount(name, label, images[label], annotations[label])


@app.command()
def convert(
    data: Data,
    to: ToOption,
    folder: Folder,
    split: Splits = None,
    copy: Copy = False,
    lossy: Lossy = False,
) -> None:
    """Write a data set in another layout; print the new folder."""
    from dlkit.data.convert import convert as convert_content
    from dlkit.data.convert import read_content

    source, splits = source_of(data, split)
    content, ledgers = read_content(source, splits)
    for ledger in ledgers:
        ledger.report()
    convert_content(content, to, folder, copy, lossy)
    finish(folder, ledgers)


@app.command("split")
def split_data(
    data: Data,
    to: ToOption,
    folder: Folder,
    val: Annotated[
        float, typer.Option(help="Share of the split val.", min=0, max=1, rich_help_panel="Data")
    ] = 0.1,
    test: Annotated[
        float, typer.Option(help="Share of the split test.", min=0, max=1, rich_help_panel="Data")
    ] = 0.0,
    seed: Seed = 0,
    stratify: Annotated[
        bool,
        typer.Option("--stratify", help="Keep the shares of labels.", rich_help_panel="Data"),
    ] = False,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Keep images together whose paths agree in its first group.",
            rich_help_panel="Data",
        ),
    ] = None,
    copy: Copy = False,
    lossy: Lossy = False,
) -> None:
    """Write a data set with new splits, drawn by a seed from all of its samples."""
    from dlkit.data.convert import convert as convert_content
    from dlkit.data.convert import read_content, split_content

    if val + test >= 1:
        raise DlkitError("--val and --test leave nothing for the split train")
    source, splits = source_of(data, None)
    content, ledgers = read_content(source, splits)
    for ledger in ledgers:
        ledger.report()
    divided = split_content(content, val, test, seed, stratify, group_by)
    counts = ", ".join(f"{name} {len(samples):,}" for name, samples in divided.splits.items())
    convert_content(divided, to, folder, copy, lossy)
    log(f"images: {counts}")
    finish(folder, ledgers)


@app.command()
def get(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The data set; without a name, all are listed.", rich_help_panel="Input"
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A new folder; by default of that name.",
            rich_help_panel="Output",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Folder with the same files, instead of the publisher's addresses.",
            rich_help_panel="Input",
        ),
    ] = None,
    accept_terms: Annotated[
        bool,
        typer.Option(
            "--accept-terms", help="Accept the data set's terms of use.", rich_help_panel="Input"
        ),
    ] = False,
) -> None:
    """Fetch a public data set from its publisher; print its folder."""
    from dlkit.data.get import DATA_SETS
    from dlkit.data.get import get as fetch

    if name is None:
        listed = [Published(name, found.summary, found.terms) for name, found in DATA_SETS.items()]
        write(iter(listed))
        return
    out = folder or Path(name)
    fetch(name, out, mirror, accept_terms)
    write([Written(str(out))], writer=write_rows)


def finish(folder: Path, ledgers: list[Any]) -> None:
    """Print the new folder; exit with 1 if samples were skipped."""
    write([Written(str(folder))], writer=write_rows)
    if any(ledger.places for ledger in ledgers):
        raise typer.Exit(ExitStatus.FAILED_INPUTS)
