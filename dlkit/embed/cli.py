"""`dlkit embed`: its arguments. The work is imported when a command runs; help stays quick."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Output,
    ResumeOption,
    ShardOption,
    Trained,
    add_models,
    add_train,
    group,
    model_argument,
)
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write, write_blocks
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.embed.config import DEFAULT_MODEL, EmbedTrainConfig

LINES_AT_ONCE = 1024  # of stdin, which are answered together

app = group("embed", "Word vectors: nearest words, analogies, training.")
add_train(app, "embed", EmbedTrainConfig)
add_models(app, "embed")


class Kind(StrEnum):
    """The files that `convert` writes."""

    dlkit = "dlkit"
    word2vec = "word2vec"
    word2vec_binary = "word2vec-binary"
    glove = "glove"
    fasttext = "fasttext"
    numpy = "numpy"


Queries = Annotated[
    list[str] | None,
    typer.Argument(
        help="Words, or sentences in quotes; default: the lines of stdin. A word that is not known "
        "as it is given is looked up in lower case."
    ),
]
Words = Annotated[list[str], typer.Argument(help="Words.")]
Model = model_argument("embed")
Top = Annotated[int, typer.Option(help="Words to print.", min=1)]
Restrict = Annotated[
    int | None, typer.Option(help="Search only this many words, the most frequent.", min=1)
]
CosMul = Annotated[
    bool,
    typer.Option("--3cosmul", help="Multiply cosines (Levy and Goldberg 2014), not add vectors."),
]


@app.command()
def infer(
    words: Queries = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    top: Top = 10,
    restrict: Restrict = None,
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the words nearest to each word or sentence, with their cosines; so does `similar`."""
    from dlkit.embed import infer as queries

    writer = ShardWriter(format, output, shard, resume)
    batches = ([line for line in lines if words or line.strip()] for lines in texts_of(words))
    writer.write(queries.similar(batches, queries.load(model), top, restrict, writer.shard))


app.command("similar")(infer)


@app.command()
def analogy(
    a: Annotated[str, typer.Argument(help="A word: paris.")],
    b: Annotated[str, typer.Argument(help="What it belongs to: france.")],
    c: Annotated[str, typer.Argument(help="What the answer belongs to: italy.")],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    cosmul: CosMul = False,
    top: Top = 10,
    restrict: Restrict = None,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the words nearest to A - B + C: `paris france italy` asks for Italy's paris."""
    from dlkit.embed import infer as queries

    vocabulary = queries.load(model)
    answer = queries.analogy(a, b, c, vocabulary, objective(cosmul), top, restrict)
    write([answer], format, output)


@app.command()
def vector(
    words: Queries = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the vector of each word or sentence; -o FILE.npy writes them as an array.

    A sentence has the mean of its words' vectors, each scaled to length 1, as in fastText.
    """
    from dlkit.embed import infer as queries

    writer = ShardWriter(format, output, shard, resume)
    texts = chain.from_iterable(texts_of(words))
    vocabulary = queries.load(model)
    if output is not None and output.suffix == ".npy":
        if format != Format.text:
            raise DlkitError("-o FILE.npy is a format of its own: leave --format out")
        queries.write_array(texts, vocabulary, output)
    else:
        writer.write(queries.vectors(texts, vocabulary, writer.shard))


@app.command("odd-one-out")
def odd_one_out(
    words: Words,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the word that is least like the mean of all, and its cosine with it."""
    from dlkit.embed import infer as queries

    write(queries.odd_one_out(words, queries.load(model)), format, output)


@app.command()
def plot(
    words: Annotated[str | None, typer.Option(help="Words, separated by spaces.")] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="A file with a group of words a line, `name: word word ...`; each has its color."
        ),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Join the words of each line of --groups.")
    ] = False,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    method: Annotated[
        Literal["pca", "tsne"], typer.Option(help="Principal components, or t-SNE.")
    ] = "pca",
    seed: Annotated[int, typer.Option(help="Seed of t-SNE.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture's file, a PNG.")
    ] = Path("words.png"),
    format: AnyFormat = Format.text,
) -> None:
    """Draw words in a plane, near each other if they are alike; prints the picture's path."""
    from dlkit.embed import plot as picture
    from dlkit.embed.infer import load

    if (words is None) == (groups is None):
        raise DlkitError("give --words or --groups")
    if lines and groups is None:
        raise DlkitError("--lines goes with --groups")
    if groups is not None:
        of_words = picture.read_groups(groups)
    else:
        of_words = [picture.Group("", (words or "").split())]
    write([picture.plot(load(model), of_words, output, method, lines, seed)], format)


@app.command()
def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Pairs of words with scores (WordSim-353, SimLex-999, MEN, RW, ...), analogies "
            "(questions-words.txt), or folders of such files."
        ),
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    cosmul: CosMul = False,
    restrict: Annotated[
        int | None,
        typer.Option(
            help="Take only this many words, the most frequent, as known; word2vec's own "
            "evaluation takes 30000.",
            min=1,
        ),
    ] = None,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print how well vectors agree with human judgments, and solve analogies."""
    from dlkit.embed.evaluate import evaluate_files

    write(evaluate_files(model, files, objective(cosmul), restrict), format, output)


@app.command()
def phrases(
    corpus: Annotated[
        list[str],
        typer.Argument(help="Text files (plain, .gz, .zst), folders of them, or - for stdin."),
    ],
    passes: Annotated[int, typer.Option(help="Passes; each joins longer phrases.", min=1)] = 1,
    threshold: Annotated[
        float, typer.Option(help="Score above which a pair is joined; lower joins more.", min=0)
    ] = 100.0,
    min_count: Annotated[
        int, typer.Option(help="Leave out words and pairs that occur less often.", min=1)
    ] = 5,
    lower: Annotated[bool, typer.Option("--lower", help="Lower-case the text.")] = False,
    words: Annotated[
        bool,
        typer.Option("--words", help="Take runs of letters, digits and apostrophes as words."),
    ] = False,
    errors: Annotated[
        Literal["strict", "replace"],
        typer.Option(help="Bytes that are not UTF-8: an error, or replaced."),
    ] = "strict",
    output: Output = None,
) -> None:
    """Print a corpus with pairs joined that stand together often: new york as new_york."""
    from dlkit.embed.phrases import join

    config = EmbedTrainConfig(
        corpus=corpus,
        phrases=passes,
        threshold=threshold,
        min_count=min_count,
        lower=lower,
        words=words,
        errors=errors,
    )
    write(join(config), output=output, writer=write_blocks)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A model's name, or a file: .safetensors, word2vec's text or binary, GloVe's "
            "text, fastText's .vec or .bin, .npy beside a .txt of its words; .gz of these."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    to: Annotated[
        Kind | None, typer.Option(help="The kind of file, where its name does not say it.")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="dlkit: store the vectors in half precision.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> None:
    """Make other tools' vectors dlkit's, and dlkit's theirs; prints the path written."""
    from dlkit.embed.convert import convert as converted

    write([Trained(str(converted(source, out, to, half, force)))])


def objective(cosmul: bool) -> Literal["3cosadd", "3cosmul"]:
    return "3cosmul" if cosmul else "3cosadd"


def texts_of(words: list[str] | None) -> Iterable[list[str]]:
    """The words given, or batches of the lines of stdin, unless someone would have to type them."""
    from dlkit.core.io.text import line_batches

    if words:
        return [words]
    if sys.stdin.isatty():
        raise DlkitError("nothing to look up: give words, or lines on stdin")
    return line_batches("-", LINES_AT_ONCE)
