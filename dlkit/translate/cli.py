"""`dlkit translate`: its arguments. Work is imported when a command runs; help stays quick."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Device,
    Output,
    PrecisionOption,
    ResumeOption,
    ShardOption,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.progress import log
from dlkit.translate.config import ALPHA, BEAM, DEFAULT_MODEL, TranslateTrainConfig

if TYPE_CHECKING:
    from dlkit.core.generation.sampling import Sampling

app = group("translate", "Translate sentences, or answer them: sequence to sequence; training.")
add_train(app, "translate", TranslateTrainConfig)
add_models(app, "translate")

# Lines that are sorted by length together: at first few, so that the first ones come soon.
SMALLEST_WINDOW, LARGEST_WINDOW = 64, 1024

Files = Annotated[
    list[str] | None,
    typer.Argument(help="Files with a sentence in each line (plain, .gz, .zst); default: stdin."),
]
Text = Annotated[str | None, typer.Option(help="Translate this text instead of lines.")]
Model = model_argument("translate")
Beam = Annotated[
    int | None,
    typer.Option(help=f"Translations that the search keeps; 1: greedy; default: {BEAM}.", min=1),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Wu's alpha: 0 ranks by probability, more prefers longer translations;"
        f" default: {ALPHA}.",
        min=0,
    ),
]
NBest = Annotated[
    int, typer.Option(help="Print the best translations, so many; needs as large a beam.", min=1)
]
MaxLength = Annotated[
    int | None,
    typer.Option(help="Most tokens of a translation; default: 50 more than the source.", min=1),
]
Sample = Annotated[bool, typer.Option("--sample", help="Draw at random instead of searching.")]
Temperature = Annotated[
    float | None,
    typer.Option(help="Below 1 the probable gets more probable, above 1 less; default: 1."),
]
TopK = Annotated[int | None, typer.Option(help="Draw from the most probable tokens, so many.")]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw from the fewest tokens that together are as probable as this."),
]
Seed = Annotated[
    int | None, typer.Option(help="The same seed draws the same translations; default: 0.", min=0)
]
Scores = Annotated[
    bool, typer.Option("--scores", help="Also print log-probability over length penalty.")
]
Alignment = Annotated[
    bool,
    typer.Option("--alignment", help="Also print which words belong together: source-target."),
]
Context = Annotated[
    int | None,
    typer.Option(
        help="Dialogues: turns before a line that the model also reads; an empty line ends a"
        " dialogue; default: as many as it was trained with.",
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
    """Translate line by line: a line out for each line in, in order, and nothing else.

    -f jsonl has the source, all translations, their scores and log-probabilities.
    """
    from dlkit.translate import infer as translation
    from dlkit.translate.writers import line_writer

    searching = {"--beam": beam, "--length-penalty": length_penalty}
    drawing = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
    refuse(searching if sample else drawing, "--sample", sample)
    if format != Format.text and scores:
        raise DlkitError(f"--scores is for text: -f {format} always has them")
    search = translation.Search(
        beam=BEAM if beam is None else beam,
        alpha=ALPHA if length_penalty is None else length_penalty,
        n_best=n_best,
        max_length=max_length,
        sampling=sampling(temperature, top_k, top_p) if sample else None,
        seed=seed or 0,
        alignment=alignment,
    )
    if files and text is not None:
        raise DlkitError("give files or --text, not both")
    writer = ShardWriter(format, output, shard, resume)
    loaded = translation.load(model, device, precision)
    turns = translation.turns_before(loaded, context, alignment)
    results = translation.translate(windows(files, text), loaded, search, turns, writer.shard)
    writer.write(results, writer_of(format, line_writer(n_best > 1, scores, alignment)))


def writer_of(format: Format, lines: Any) -> Any:
    """What writes this format: `lines` the text, core all others."""
    return lines if format == Format.text else None


def refuse(given: dict[str, Any], other: str, present: bool) -> None:
    """Options that would have no effect with, or without, the `other` one."""
    for name, value in given.items():
        if value is not None:
            raise DlkitError(f"{name} {'goes without' if present else 'is for'} {other}")


def sampling(temperature: float | None, top_k: int | None, top_p: float | None) -> "Sampling":
    from dlkit.core.generation.sampling import Sampling

    return Sampling(
        temperature=1.0 if temperature is None else temperature,
        top_k=top_k or 0,
        top_p=1.0 if top_p is None else top_p,
    )


def windows(files: list[str] | None, text: str | None) -> Iterator[Sequence[str] | Failure]:
    """The lines that are there at once; a Failure for a file that cannot be read."""
    from dlkit.core.io.text import line_batches

    if text is not None:
        yield text.split("\n")
        return
    if not files and sys.stdin.isatty():
        log("a line is translated when you end it; Ctrl-D ends")
    size = SMALLEST_WINDOW
    for file in files or ["-"]:
        said: list[str] = []

        def say(wrong: str, said: list[str] = said) -> None:
            if not said:
                log(f"dlkit: {wrong}: such bytes are replaced")
            said.append(wrong)

        try:
            for lines in line_batches(file, LARGEST_WINDOW, say):
                start = 0
                while start < len(lines):
                    yield lines[start : start + size]
                    start, size = start + size, min(2 * size, LARGEST_WINDOW)
        except DlkitError as error:
            yield Failure(file, str(error).removeprefix(f"{file}: "))


@app.command()
def evaluate(
    source: Annotated[str | None, typer.Option(help="A file of sentences, one a line.")] = None,
    ref: Annotated[
        list[str] | None,
        typer.Option(help="A file of their translations; more than once: several references."),
    ] = None,
    hyp: Annotated[
        str | None, typer.Option(help="A file of translations to score, instead of a model's.")
    ] = None,
    model: Model = None,  # type: ignore[valid-type]
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="Score without regard to case.")
    ] = False,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Also print BLEU by the words of the source.")
    ] = False,
    worst: Annotated[
        int, typer.Option(help="Print the worst translations instead, so many.", min=0)
    ] = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print BLEU and chrF of translations, with sacreBLEU's signatures; a model's loss as well."""
    from dlkit.translate import evaluate as scoring

    if worst and by_length:
        raise DlkitError("--worst prints sentences, --by-length scores: choose one")
    if hyp is not None:
        of_a_model = {"--model": model, "--beam": beam, "--length-penalty": length_penalty}
        refuse(of_a_model, "--hyp", True)
        found = scoring.ready(hyp, ref or [], source)
    elif source is None:
        raise DlkitError("nothing to evaluate: give --source, or --hyp with ready translations")
    else:
        from dlkit.translate.infer import Search, load

        search = Search(
            beam=BEAM if beam is None else beam,
            alpha=ALPHA if length_penalty is None else length_penalty,
        )
        loaded = load(model or DEFAULT_MODEL, device, precision)
        found = scoring.translated(source, ref or [], loaded, search)
    results: Iterator[Any] = (
        scoring.worst(found, worst, lowercase)
        if worst
        else scoring.scores(found, lowercase, by_length)
    )
    write(results, format, output)


@app.command()
def align(
    sentence: Annotated[str, typer.Argument(help="A sentence of the source language.")],
    target: Annotated[
        str | None, typer.Option(help="Its translation; default: the model's own.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="A picture of the attention: a PNG file.")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print which source word each word of a translation attends to most, and how much.

    -f json has the attention of every word to every word.
    """
    from dlkit.translate import infer as translation

    loaded = translation.load(model, device, precision)
    found = translation.align(sentence, target, loaded)
    if save is not None:
        import numpy as np

        from dlkit.core.io.plots import attention

        weights = np.array(found.weights)
        attention(weights, found.target, found.source, "translation", "source", save)
    write([found], format, output)
