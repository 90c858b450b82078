"""The command line of `dlkit translate`. Each command imports its work when it runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Device,
    Output,
    PrecisionOption,
    ResumeOption,
    ShardOption,
    Task,
    model_argument,
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
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.progress import log
from dlkit.translate.config import DEFAULT_MODEL, TranslateTrainConfig, TranslationSearch


def train_model(config: TranslateTrainConfig) -> Path:
    """Train a translator; return the path of the best checkpoint."""
    from dlkit.translate.train import train

    return train(config)


def evaluate_model(*args: Any, **options: Any) -> Iterator[Any]:
    """The scores of a translator, as `evaluate_checkpoint`."""
    from dlkit.translate.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*args, **options)


TASK = Task(
    "translate",
    "Translate sentences, or answer them (sequence to sequence).",
    TranslateTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
)
app = TASK.group(evaluate=False)

# Lines that are sorted by length together; few at first, so that the first results come soon.
FIRST_WINDOW, LARGEST_WINDOW = 64, 1024

Files = Annotated[
    list[str] | None,
    typer.Argument(help="Files with one sentence a line (plain, .gz, .zst); default: stdin."),
]
Text = Annotated[str | None, typer.Option(help="Translate this text instead of lines.")]
Model = model_argument("translate", check=True)
Beam = Annotated[
    int | None,
    typer.Option(help=f"Beam size; 1: greedy search; default: {BEAM}.", min=1),
]
NBest = Annotated[int, typer.Option(help="How many translations to print; at most --beam.", min=1)]
MaxLength = Annotated[
    int | None,
    typer.Option(help="Most tokens of a translation; default: 50 more than the source.", min=1),
]
Alignment = Annotated[
    bool,
    typer.Option("--alignment", help="Also print the aligned words as source-target."),
]
Context = Annotated[
    int | None,
    typer.Option(
        help="Dialogues: number of previous turns to read with a line; an empty line ends a"
        " dialogue; default: as in training.",
        min=0,
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
    writer = ShardWriter(format, output, shard, resume)

    from dlkit.translate.infer import context_turns, load, translate
    from dlkit.translate.writers import line_writer

    predictor = load(model, device, precision)
    turns = context_turns(predictor, context, alignment)
    results = translate(windows(files, text), predictor, search, turns, writer.shard)
    writers = {Format.text: line_writer(n_best > 1, scores, alignment)}
    writer.write(results, writers.get(format))


def windows(files: list[str] | None, text: str | None) -> Iterator[Sequence[str] | Failure]:
    """The lines that are available at once; a Failure for a file that cannot be read."""
    from dlkit.core.io.text import line_batches

    if text is not None:
        yield text.split("\n")
        return
    if not files and is_terminal(streams().stdin):
        log("type a line to translate it; Ctrl-D ends")
    size = FIRST_WINDOW
    for file in files or ["-"]:
        reported: list[str] = []

        def report_once(wrong: str, reported: list[str] = reported) -> None:
            if not reported:
                log(f"dlkit: {wrong}: such bytes are replaced")
            reported.append(wrong)

        try:
            for lines in line_batches(file, LARGEST_WINDOW, report_once):
                start = 0
                while start < len(lines):
                    yield lines[start : start + size]
                    start, size = start + size, min(2 * size, LARGEST_WINDOW)
        except DlkitError as error:
            yield Failure(file, error.reason_for(file))


@app.command()
def evaluate(
    source: Annotated[str | None, typer.Option(help="File of sentences, one a line.")] = None,
    ref: Annotated[
        list[str] | None,
        typer.Option(help="File of their translations; given more than once: several references."),
    ] = None,
    hyp: Annotated[
        str | None, typer.Option(help="File of translations to score instead of a model's.")
    ] = None,
    model: Model = None,  # type: ignore[valid-type]
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="Ignore case in the scores.")
    ] = False,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Also print BLEU by the words of the source.")
    ] = False,
    worst: Annotated[
        int, typer.Option(help="Print this number of worst translations instead.", min=0)
    ] = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print BLEU and chrF of translations, with sacreBLEU's signatures, and a model's loss."""
    if worst and by_length:
        raise DlkitError("--worst: prints sentences, but --by-length scores; choose one")
    if hyp is None and source is None:
        raise DlkitError("nothing to evaluate; give --source, or --hyp with translations")
    if hyp is not None:
        model_options = {"--model": model, "--beam": beam, "--length-penalty": length_penalty}
        refuse_given(model_options, "--hyp", True)

    from dlkit.translate import evaluate as scoring
    from dlkit.translate.infer import load

    if hyp is not None:
        found = scoring.read_translations(hyp, ref or [], source)
    else:
        assert source is not None
        search = TranslationSearch(**search_settings(False, beam, length_penalty))
        predictor = load(model or DEFAULT_MODEL, device, precision)
        found = scoring.translate_file(source, ref or [], predictor, search)
    results: Iterator[Any] = (
        scoring.worst_translations(found, worst, lowercase)
        if worst
        else scoring.scores(found, lowercase, by_length)
    )
    write(results, format, output)


@app.command()
def align(
    sentence: Annotated[str, typer.Argument(help="Sentence of the source language.")],
    target: Annotated[
        str | None, typer.Option(help="Its translation; default: the model's own.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="PNG file for a figure of the attention weights.")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the source word that each word of a translation attends to most, and the weight.

    -f json has the attention weights of all pairs of words.
    """
    from dlkit.translate import infer as translation

    predictor = translation.load(model, device, precision)
    found = translation.align(sentence, target, predictor)
    if save is not None:
        import numpy as np

        from dlkit.core.io.plots import attention

        weights = np.array(found.weights)
        attention(weights, found.target, found.source, "translation", "source", save)
    write([found], format, output)
