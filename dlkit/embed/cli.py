"""`dlkit embed`: its arguments. The work is imported when a command runs; help stays quick."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dlkit.core.cli.command import (
    AllowSkipped,
    AnyFormat,
    ErrorsOption,
    Output,
    ResumeOption,
    ShardOption,
    Strict,
    Task,
    Trained,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import note_saved
from dlkit.core.io.text import flatten
from dlkit.core.io.writers import Format, write, write_blocks, write_rows
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.embed.config import DEFAULT_MODEL, EmbedTrainConfig, VectorFormat
from dlkit.embed.help import PAGES

LINES_AT_ONCE = 1024  # of stdin, answered in one search


def train_model(config: EmbedTrainConfig) -> Path:
    from dlkit.embed.train import train

    return train(config)


def evaluate_model(*arguments: Any, **options: Any) -> Iterator[Any]:
    from dlkit.embed.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: EmbedTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["embed", "WORD", "-m", model]


TASK = Task(
    "embed",
    "Word vectors: nearest words, analogies, training.",
    EmbedTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

Queries = Annotated[
    list[str] | None,
    typer.Argument(
        help="Words, or sentences in quotes; default: the lines of stdin. Unknown words are looked "
        "up in lower case.",
        rich_help_panel="Input",
    ),
]
Words = Annotated[list[str], typer.Argument(help="Words.", rich_help_panel="Input")]
Model = model_argument("embed")
Top = Annotated[
    int, typer.Option(help="Number of words to print.", min=1, rich_help_panel="Results")
]
Restrict = Annotated[
    int | None,
    typer.Option(
        help="Search only this many of the most frequent words.", min=1, rich_help_panel="Results"
    ),
]
CosMul = Annotated[
    bool,
    typer.Option(
        "--3cosmul",
        help="Multiply cosines (Levy and Goldberg 2014) instead of adding vectors.",
        rich_help_panel="Results",
    ),
]


@app.command()
def infer(
    words: Queries = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    top: Top = 10,
    restrict: Restrict = None,
    errors: ErrorsOption = "strict",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the words nearest to each word or sentence, with their cosines."""
    from dlkit.embed.infer import similar
    from dlkit.embed.vectors import load

    writer = ShardWriter(format, output, shard, resume)
    batches = (
        lines if isinstance(lines, Failure) else [line for line in lines if words or line.strip()]
        for lines in read_queries(words, errors)
    )
    writer.write(similar(batches, load(model), top, restrict, writer.shard))


app.command("similar")(infer)


@app.command()
def analogy(
    a: Annotated[str, typer.Argument(help="A word: paris.", rich_help_panel="Input")],
    b: Annotated[
        str, typer.Argument(help="The word that A belongs to: france.", rich_help_panel="Input")
    ],
    c: Annotated[
        str,
        typer.Argument(help="The word that the answer belongs to: italy.", rich_help_panel="Input"),
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    cosmul: CosMul = False,
    top: Top = 10,
    restrict: Restrict = None,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the words nearest to A - B + C.

    `paris france italy` asks for Italy's paris.
    """
    from dlkit.embed import infer
    from dlkit.embed.vectors import load

    answer = infer.analogy(a, b, c, load(model), objective(cosmul), top, restrict)
    write([answer], format, output)


@app.command()
def vector(
    words: Queries = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    errors: ErrorsOption = "strict",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the vector of each word or sentence.

    -o FILE.npy writes them as an array. The vector of a sentence is the mean of its words'
    vectors, each scaled to length 1, as in fastText.
    """
    from dlkit.embed.infer import text_vectors, write_array
    from dlkit.embed.vectors import load

    writer = ShardWriter(format, output, shard, resume)
    texts = flatten(read_queries(words, errors))
    vectors = load(model)
    if output is not None and output.suffix == ".npy":
        if format != Format.text:
            raise DlkitError("-o FILE.npy is a format of its own; remove --format")
        write_array(texts, vectors, output)
    else:
        writer.write(text_vectors(texts, vectors, writer.shard))


@app.command("odd-one-out")
def odd_one_out(
    words: Words,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the word least similar to the mean of all, and its cosine."""
    from dlkit.embed import infer
    from dlkit.embed.vectors import load

    write(infer.odd_one_out(words, load(model)), format, output)


@app.command()
def plot(
    words: Annotated[
        str | None, typer.Option(help="Words, separated by spaces.", rich_help_panel="Input")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="A file of `name: word word ...`, one group per line, each in its own color.",
            rich_help_panel="Input",
        ),
    ] = None,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines",
            help="Connect the words of each group with a line.",
            rich_help_panel="Results",
        ),
    ] = False,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    method: Annotated[
        Literal["pca", "tsne"],
        typer.Option(help="Principal components, or t-SNE.", rich_help_panel="Results"),
    ] = "pca",
    seed: Annotated[int, typer.Option(help="Seed of t-SNE.", rich_help_panel="Results")] = 0,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The PNG file to write.", rich_help_panel="Output"),
    ] = Path("words.png"),
    format: AnyFormat = Format.text,
) -> None:
    """Plot words in a plane, similar words near each other."""
    if (words is None) == (groups is None):
        raise DlkitError("give either --words or --groups")
    if lines and groups is None:
        raise DlkitError("--lines has no effect without --groups; add --groups FILE")
    from dlkit.embed import plot
    from dlkit.embed.vectors import load

    if groups is not None:
        word_groups = plot.read_groups(groups)
    else:
        word_groups = [plot.WordGroup("", (words or "").split())]
    write([plot.plot(load(model), word_groups, output, method, lines, seed)], format)
    note_saved(output)


@app.command()
def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Word pairs with scores (WordSim-353, SimLex-999, MEN, RW, ...), analogies "
            "(questions-words.txt), or folders of such files.",
            rich_help_panel="Input",
        ),
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    cosmul: CosMul = False,
    restrict: Annotated[
        int | None,
        typer.Option(
            help="Limit the vocabulary to this many of the most frequent words; word2vec's own "
            "evaluation uses 30000.",
            min=1,
            rich_help_panel="Results",
        ),
    ] = None,
    allow_skipped: AllowSkipped = None,
    strict: Strict = False,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print how well vectors match human judgments and solve analogies."""
    scores = evaluate_model(
        files,
        model=model,
        objective=objective(cosmul),
        restrict=restrict,
        allow_skipped=0.0 if strict else allow_skipped,
    )
    write(scores, format, output)


@app.command()
def phrases(
    corpus: Annotated[
        list[str],
        typer.Argument(
            help="Text files (plain or compressed), folders of them, or - for stdin.",
            rich_help_panel="Input",
        ),
    ],
    passes: Annotated[
        int,
        typer.Option(
            help="Number of passes; each joins longer phrases.", min=1, rich_help_panel="Results"
        ),
    ] = 1,
    threshold: Annotated[
        float,
        typer.Option(
            help="Score above which a pair is joined; lower joins more.",
            min=0,
            rich_help_panel="Results",
        ),
    ] = 100.0,
    min_count: Annotated[
        int,
        typer.Option(
            help="Ignore words and pairs that occur less often.", min=1, rich_help_panel="Results"
        ),
    ] = 5,
    lower: Annotated[
        bool, typer.Option("--lower", help="Lower-case the text.", rich_help_panel="Results")
    ] = False,
    words: Annotated[
        bool,
        typer.Option(
            "--words",
            help="Words are runs of letters, digits and apostrophes.",
            rich_help_panel="Results",
        ),
    ] = False,
    errors: ErrorsOption = "strict",
    output: Output = None,
) -> None:
    """Print a corpus with frequent pairs joined, as in new_york."""
    from dlkit.embed.phrases import corpus_with_phrases

    config = EmbedTrainConfig(
        corpus=corpus,
        phrases=passes,
        threshold=threshold,
        min_count=min_count,
        lower=lower,
        words=words,
        errors=errors,
    )
    write(corpus_with_phrases(config), output=output, writer=write_blocks)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A model's name, or a file: .safetensors, word2vec's text or binary, GloVe's "
            "text, fastText's .vec or .bin, .npy beside a .txt of its words; also .gz of these.",
            rich_help_panel="Input",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write.", rich_help_panel="Output")
    ],
    to: Annotated[
        VectorFormat | None,
        typer.Option(
            help="The format to write; by default from the suffix of --out.",
            rich_help_panel="Output",
        ),
    ] = None,
    half: Annotated[
        bool,
        typer.Option(
            "--half", help="dlkit: write the vectors in half precision.", rich_help_panel="Output"
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Convert vectors from and to other tools' formats."""
    from dlkit.embed import convert

    path = convert.convert(source, out, to, half, force)
    write([Trained(str(path))], writer=write_rows)
    note_saved(out)


@app.command()
def join(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Names of models, or files as for convert.",
            rich_help_panel="Input",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write.", rich_help_panel="Output")
    ],
    dim: Annotated[
        int,
        typer.Option(metavar="N", help="Dimension of the vectors.", min=1, rich_help_panel="Model"),
    ] = 100,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="X,X,...",
            help="Scales of the models' unit vectors; default: 1 each.",
            rich_help_panel="Model",
        ),
    ] = None,
    components: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="First principal components removed from each model.",
            min=0,
            rich_help_panel="Model",
        ),
    ] = 2,
    max_vocab: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Keep the first words of the first model only; 0: all.",
            min=0,
            rich_help_panel="Model",
        ),
    ] = 0,
    bucket: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Hash buckets of n-grams, which give vectors to unknown words; 0: none.",
            min=0,
            rich_help_panel="Model",
        ),
    ] = 0,
    minn: Annotated[
        int,
        typer.Option(
            metavar="N", help="Characters of the shortest n-grams.", min=1, rich_help_panel="Model"
        ),
    ] = 3,
    maxn: Annotated[
        int,
        typer.Option(
            metavar="N", help="Characters of the longest n-grams.", min=1, rich_help_panel="Model"
        ),
    ] = 6,
    bits: Annotated[
        int,
        typer.Option(
            metavar="N", help="Bits of a stored number: 32, 16 or 8.", rich_help_panel="Model"
        ),
    ] = 32,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Make one model of the vectors of several; print its path."""
    from dlkit.embed import join as joining

    scales = None if weights is None else joining.parse_weights(weights)
    path = joining.join(
        models, out, dim, scales, components, max_vocab, bucket, minn, maxn, bits, force
    )
    write([Trained(str(path))], writer=write_rows)
    note_saved(out)


def objective(cosmul: bool) -> Literal["3cosadd", "3cosmul"]:
    return "3cosmul" if cosmul else "3cosadd"


def read_queries(words: list[str] | None, errors: str) -> Iterator[list[str] | Failure]:
    """The words, or else batches of the lines of stdin; DlkitError if that is a terminal.

    A Failure where stdin cannot be read any further.
    """
    from dlkit.core.io.text import batches_or_failures, check_sources

    check_sources(None, "words", None if words is None else "")
    return iter([words]) if words else batches_or_failures(["-"], LINES_AT_ONCE, errors)
