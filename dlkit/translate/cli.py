"""The command line of `dlkit translate`. Each command imports its work when it runs."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Device,
    FieldOption,
    IdOption,
    InOption,
    Output,
    PrecisionOption,
    ResumeOption,
    ShardOption,
    Task,
    model_argument,
    table_of,
)
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.options import (
    BEAM,
    LengthPenalty,
    Sample,
    Scores,
    Seed,
    Temperature,
    TopK,
    TopP,
    refuse_given,
    search_settings,
)
from dlkit.core.io.files import note_saved
from dlkit.core.io.streams import is_terminal, stdin, streams
from dlkit.core.io.text import batches_or_failures, check_files, count_lines
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.progress import Inputs, log
from dlkit.translate.config import DEFAULT_MODEL, TranslateTrainConfig, TranslationSearch
from dlkit.translate.help import PAGES


def train_model(config: TranslateTrainConfig) -> Path:
    """Train a translator; return the path of the best checkpoint."""
    from dlkit.translate.train import train

    return train(config)


def evaluate_model(*args: Any, **options: Any) -> Iterator[Any]:
    """The scores of a translator, as `evaluate_checkpoint`."""
    from dlkit.translate.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*args, **options)


def next_command(config: TranslateTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["translate", "--text", "A SENTENCE", "-m", model]


TASK = Task(
    "translate",
    "Translate sentences, or answer them (sequence to sequence).",
    TranslateTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    main_metrics=("bleu",),
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

# Lines that are sorted by length together; few at first, so that the first results come soon.
FIRST_WINDOW, LARGEST_WINDOW = 64, 1024
# Fields and columns of translations, which no carried column may have.
FIELDS = {
    "line", "source", "translation", "hypotheses", "rank", "score", "logprob", "alignment",
}  # fmt: skip

Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, a sentence a line (also compressed); default: stdin.",
        rich_help_panel="Input",
    ),
]
Text = Annotated[
    str | None, typer.Option(help="Translate this text instead of lines.", rich_help_panel="Input")
]
Model = model_argument("translate", check=True)
Beam = Annotated[
    int | None,
    typer.Option(
        help=f"Beam size; 1: greedy search; default: {BEAM}.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
NBest = Annotated[
    int,
    typer.Option(
        help="How many translations to print; at most --beam.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of a translation; default: 50 more than the source.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
Alignment = Annotated[
    bool,
    typer.Option(
        "--alignment",
        help="Also print the aligned words as source-target.",
        rich_help_panel="Results",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        help="Dialogues: number of previous turns to read with a line; an empty line ends a"
        " dialogue; default: as in training.",
        min=0,
        rich_help_panel="Input",
    ),
]


@app.command()
def infer(
    files: Files = None,
    text: Text = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    n_best: NBest = 1,
    max_length: MaxLength = None,
    sample: Sample = False,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    scores: Scores = False,
    alignment: Alignment = False,
    context: Context = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
    table_format: InOption = None,
    field: FieldOption = None,
    id: IdOption = None,
) -> None:
    """Translate line by line: one output line for each input line, in order.

    -f jsonl has the source, all translations, their scores and log-probabilities.
    """
    settings = search_settings(sample, beam, length_penalty, temperature, top_k, top_p, seed)
    if format != Format.text and scores:
        raise DlkitError(f"--scores: -f {format} always has the scores; remove the option")
    search = TranslationSearch(count=n_best, max_length=max_length, alignment=alignment, **settings)
    if files and text is not None:
        raise DlkitError("--text: has no effect with files; remove one")
    if text is None and not files:
        stdin()  # raises if it is closed
    table = table_of(table_format, field, id, text, format, FIELDS)
    check_files(files or [])
    writer = ShardWriter(format, output, shard, resume)

    from dlkit.translate.infer import context_turns, load, translate
    from dlkit.translate.writers import line_writer

    predictor = load(model, device, precision)
    turns = context_turns(predictor, context, alignment)
    lines: Inputs[Sequence[str] | Failure]
    if table is None:
        lines = Inputs(windows(files, text), partial(count_lines, files or ["-"]))
    else:
        read = table.read(files or ["-"], writer.last_result())
        lines = Inputs(table.windows(read, LARGEST_WINDOW), lambda: None)
    results = translate(lines, predictor, search, turns, writer.shard)
    if table is not None:
        results = table.carry(results, writer.number_of)
    writers = {Format.text: line_writer(n_best > 1, scores, alignment)}
    writer.write(results, writers.get(format))


def windows(files: list[str] | None, text: str | None) -> Iterator[Sequence[str] | Failure]:
    """The lines that are available at once; a Failure for a file that cannot be read."""
    if text is not None:
        yield text.split("\n")
        return
    if not files and is_terminal(streams().stdin):
        log("type a line to translate it; Ctrl-D ends")
    size = FIRST_WINDOW
    for lines in batches_or_failures(files or ["-"], LARGEST_WINDOW, "replace"):
        if isinstance(lines, Failure):
            yield lines
            continue
        start = 0
        while start < len(lines):
            yield lines[start : start + size]
            start, size = start + size, min(2 * size, LARGEST_WINDOW)


@app.command()
def evaluate(
    source: Annotated[
        str | None, typer.Option(help="File of sentences, one a line.", rich_help_panel="Input")
    ] = None,
    ref: Annotated[
        list[str] | None,
        typer.Option(
            help="File of their translations; given more than once: several references.",
            rich_help_panel="Input",
        ),
    ] = None,
    hyp: Annotated[
        str | None,
        typer.Option(
            help="File of translations to score instead of a model's.", rich_help_panel="Input"
        ),
    ] = None,
    model: Model = None,  # type: ignore[valid-type]
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    lowercase: Annotated[
        bool,
        typer.Option("--lowercase", help="Ignore case in the scores.", rich_help_panel="Results"),
    ] = False,
    by_length: Annotated[
        bool,
        typer.Option(
            "--by-length",
            help="Also print BLEU by the words of the source.",
            rich_help_panel="Results",
        ),
    ] = False,
    worst: Annotated[
        int,
        typer.Option(
            help="Print this number of worst translations instead.",
            min=0,
            rich_help_panel="Results",
        ),
    ] = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print BLEU and chrF of translations, and a model's loss.

    sacreBLEU's signatures follow the scores.
    """
    if worst and by_length:
        raise DlkitError("--worst: prints sentences, but --by-length scores; choose one")
    if hyp is None and source is None:
        raise DlkitError("nothing to evaluate; give --source, or --hyp with translations")
    if hyp is not None:
        model_options = {"--model": model, "--beam": beam, "--length-penalty": length_penalty}
        refuse_given(model_options, "--hyp", True)

    from dlkit.translate.evaluate import (
        read_translations,
        scores,
        translate_file,
        worst_translations,
    )
    from dlkit.translate.infer import load

    if hyp is not None:
        found = read_translations(hyp, ref or [], source)
    else:
        assert source is not None
        search = TranslationSearch(**search_settings(False, beam, length_penalty))
        predictor = load(model or DEFAULT_MODEL, device, precision)
        found = translate_file(source, ref or [], predictor, search)
    results: Iterator[Any] = (
        worst_translations(found, worst, lowercase)
        if worst
        else scores(found, lowercase, by_length)
    )
    write(results, format, output, view=TASK.view)


@app.command()
def align(
    sentence: Annotated[
        str, typer.Argument(help="Sentence of the source language.", rich_help_panel="Input")
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Its translation; default: the model's own.", rich_help_panel="Input"),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="PNG file for a figure of the attention weights.", rich_help_panel="Output"
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the source word that each translated word attends to most.

    The attention weight follows. -f json has the attention weights of all pairs of words.
    """
    from dlkit.translate import infer as translation

    predictor = translation.load(model, device, precision)
    found = translation.align(sentence, target, predictor)
    if save is not None:
        found.draw(save)
        note_saved(save)
    write([found], format, output)
