"""`dlkit tokenize`: its arguments. The work is imported when a command runs; help stays quick."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    ErrorsOption,
    Output,
    ResumeOption,
    ShardOption,
    Task,
    Trained,
    model_argument,
)
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.text import check_sources
from dlkit.core.io.writers import Format, write, write_blocks, write_rows
from dlkit.core.parallel.sharding import Shard, ShardWriter
from dlkit.tokenize.config import DEFAULT_MODEL, FileFormat, TokenizeTrainConfig
from dlkit.tokenize.help import PAGES


def train_model(config: TokenizeTrainConfig) -> Path:
    from dlkit.tokenize.train import train_file

    return train_file(config)


def evaluate_model(*arguments: Any, **options: Any) -> Iterator[Any]:
    from dlkit.tokenize.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*arguments, **options)


def next_command(config: TokenizeTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    return ["tokenize", "--text", "A TEXT", "-m", model]


TASK = Task(
    "tokenize",
    "Cut text into tokens.",
    TokenizeTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

Texts = Annotated[
    list[str] | None,
    typer.Argument(
        help="Text files, folders, or -; default: stdin.",
        rich_help_panel="Input",
    ),
]
Text = Annotated[
    str | None, typer.Option(help="A text to encode instead of files.", rich_help_panel="Input")
]
MODELS = "A name, file, folder, hf:OWNER/NAME or URL"
Model = model_argument("tokenize", about=MODELS)
Models = model_argument("tokenize", several=True, about=f"{MODELS}; may be repeated")
Whole = Annotated[
    bool,
    typer.Option(
        "--whole", help="Each file is one text, with its line ends.", rich_help_panel="Input"
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        help="Threads that encode large inputs.", min=1, rich_help_panel="Batch and cluster"
    ),
]


@app.command()
def infer(
    texts: Texts = None,
    text: Text = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    ids: Annotated[
        bool, typer.Option("--ids", help="Print ids, not tokens.", rich_help_panel="Results")
    ] = False,
    offsets: Annotated[
        bool,
        typer.Option(
            "--offsets",
            help="Add the characters of each token: start-end.",
            rich_help_panel="Results",
        ),
    ] = False,
    parse_special: Annotated[
        bool,
        typer.Option(
            "--parse-special",
            help="Encode special tokens written in the text as such.",
            rich_help_panel="Input",
        ),
    ] = False,
    no_special: Annotated[
        bool,
        typer.Option(
            "--no-special",
            help="Without the tokens that the tokenizer's file puts around each text.",
            rich_help_panel="Results",
        ),
    ] = False,
    whole: Whole = False,
    dropout: Annotated[
        float,
        typer.Option(
            help="Probability of skipping a merge (BPE-dropout; bpe, byte-bpe).",
            min=0,
            rich_help_panel="Model",
        ),
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of --dropout.", rich_help_panel="Model")
    ] = None,
    errors: ErrorsOption = "strict",
    workers: Workers = 2,
    format: AnyFormat = Format.text,
    output: Output = None,
    end_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help="-o FILE.bin, .npy: a token after the ids of each text; default: none.",
            rich_help_panel="Output",
        ),
    ] = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the tokens of each line.

    -o FILE.bin or FILE.npy writes all ids one after another, as uint16 or uint32, and their layout
    to FILE.bin.json.
    """
    import random

    from dlkit.tokenize import infer as encoding

    to_ids = output is not None and encoding.is_ids_file(output)
    if to_ids and (format != Format.text or offsets):
        option = "--offsets" if offsets else "--format"
        raise DlkitError(f"-o FILE.bin or FILE.npy has ids alone; remove {option}")
    if end_token is not None and not to_ids:
        raise DlkitError("--end-token is for -o FILE.bin or FILE.npy")
    writer = ShardWriter(format, output, shard, resume)
    if writer.shard is not None:
        output = None if resume else writer.output
    sources, tokenizer = open_inputs(texts, text, model)
    encoding.check_dropout(dropout, offsets)
    if dropout and (world_size() > 1 or writer.shard not in (None, Shard())):
        raise DlkitError(
            "--dropout: draws random numbers line by line; do not add --shard, --resume or torchrun"
        )
    random.seed(seed)
    bar = text is None and not (output is None and is_terminal(streams().stdout))
    options = encoding.EncodeOptions(
        ids, offsets, parse_special, dropout, errors, workers, bar, not no_special, whole
    )
    if output is not None and to_ids:
        from dlkit.tokenize.ids_files import find_end, write_ids

        end = find_end(tokenizer, end_token)
        ids_blocks = encoding.encode_ids(sources, text, tokenizer, options, end)
        write_ids(ids_blocks, output, tokenizer, model, end)
    elif format == Format.text:
        blocks = encoding.encode_text(sources, text, tokenizer, options)
        write(blocks, format, output, write_blocks)
    else:
        writer.write(encoding.encode_lines(sources, text, tokenizer, options, writer.shard))


@app.command()
def decode(
    texts: Texts = None,
    text: Annotated[
        str | None, typer.Option(help="Ids to decode instead of files.", rich_help_panel="Input")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Read tokens, not ids.", rich_help_panel="Results")
    ] = False,
    skip_special: Annotated[
        bool, typer.Option("--skip-special", help="Omit special tokens.", rich_help_panel="Results")
    ] = False,
    output: Output = None,
) -> None:
    """Print the text of each line of ids, or of files of ids (.bin, .npy)."""
    from dlkit.tokenize import infer as encoding

    if text is None and any(map(encoding.is_ids_file, texts or [])):
        sources, tokenizer = texts or [], encoding.load(model)
    else:
        sources, tokenizer = open_inputs(texts, text, model)
    blocks = encoding.decode_lines(sources, text, tokenizer, tokens, skip_special)
    write(blocks, Format.text, output, write_blocks)


@app.command()
def count(
    texts: Texts = None,
    model: Models = [DEFAULT_MODEL],  # type: ignore[valid-type]  # noqa: B006
    whole: Whole = False,
    errors: ErrorsOption = "strict",
    workers: Workers = 2,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Count the tokens of each file by one or several models.

    Each line is a text, without its end; --whole counts the tokens of files with their line ends.
    Tokens that a tokenizer puts around a text, such as [CLS], are not counted.
    """
    from dlkit.tokenize.token_counts import count_tokens

    sources = choose_sources(texts, None)
    write(count_tokens(sources, model, whole, errors, workers), format, output)


@app.command()
def evaluate(
    texts: Texts = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    errors: ErrorsOption = "strict",
    workers: Workers = 2,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print the scores of a tokenizer on texts, file by file."""
    sources = choose_sources(texts, None)
    write(evaluate_model(sources, model=model, workers=workers, errors=errors), format, output)


@app.command()
def show(
    word: Annotated[
        str | None, typer.Argument(help="A word to build, merge by merge.", rich_help_panel="Input")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    merges: Annotated[
        bool,
        typer.Option("--merges", help="Print the merges, in order.", rich_help_panel="Results"),
    ] = False,
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print a tokenizer's vocabulary, its merges, or the merges of a word."""
    from dlkit.tokenize import show as inside
    from dlkit.tokenize.infer import load

    tokenizer = load(model)
    if word is not None:
        write(inside.steps(tokenizer, word), format, output)
    elif merges:
        write(inside.merges(tokenizer), format, output)
    else:
        write(inside.vocabulary(tokenizer), format, output)


@app.command()
def convert(
    files: Annotated[
        list[str],
        typer.Argument(
            help="A tokenizer: a name or file of dlkit, tokenizer.json of Hugging Face, vocab.json "
            "and merges.txt, vocab.txt, .tiktoken, sentencepiece's .model, a model's folder, or "
            "hf:OWNER/NAME.",
            rich_help_panel="Input",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The file to write; for gpt2 a folder.", rich_help_panel="Output"
        ),
    ],
    to: Annotated[
        FileFormat, typer.Option(help="The format of the file to write.", rich_help_panel="Output")
    ] = FileFormat.dlkit,
    split: Annotated[
        str | None,
        typer.Option(
            help="The split, if the file does not contain it: gpt2, gpt4, o200k, llama3, qwen, "
            "kimi, ..., or a pattern.",
            rich_help_panel="Input",
        ),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            help="vocab.txt: the normalization, such as clean,space-cjk,strip-nonspacing,lower.",
            rich_help_panel="Input",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite files that exist.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Convert tokenizers from and to other tools' files.

    It prints the paths written.
    """
    from dlkit.tokenize.convert import convert as convert_files

    paths = convert_files(files, out, to, split, force, normalize)
    write([Trained(str(path)) for path in paths], writer=write_rows)


ChangedOut = Annotated[
    Path, typer.Option("--out", "-o", help="The file to write.", rich_help_panel="Output")
]
Network = Annotated[
    Path | None,
    typer.Option(
        help="A network of lm-generate, translate or caption with this tokenizer: its rows move "
        "along; written beside the tokenizer.",
        rich_help_panel="Input",
    ),
]
To = Annotated[
    FileFormat, typer.Option(help="The format of the file to write.", rich_help_panel="Output")
]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite files that exist.", rich_help_panel="Output")
]
Tokenizers = Annotated[
    str,
    typer.Argument(
        help="A tokenizer: a name, a file or folder, or a network that carries one.",
        rich_help_panel="Input",
    ),
]


@app.command()
def extend(
    model: Tokenizers,
    out: ChangedOut,
    add: Annotated[
        list[str] | None,
        typer.Option(help="A token that is found in every text.", rich_help_panel="Tokenizer"),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option(
            help="A special token, found only with --parse-special.", rich_help_panel="Tokenizer"
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file with a token to add in each line.", rich_help_panel="Input"),
    ] = None,
    network: Network = None,
    to: To = FileFormat.dlkit,
    force: Force = False,
) -> None:
    """Add tokens to a tokenizer; prints the paths."""
    from dlkit.tokenize.change import extend_file

    paths = extend_file(model, add or (), special or (), file, out, network, to, force)
    write([Trained(str(path)) for path in paths], writer=write_rows)


@app.command()
def prune(
    model: Tokenizers,
    corpus: Annotated[
        list[str],
        typer.Argument(
            help="Text files (plain or compressed), folders, or -.", rich_help_panel="Input"
        ),
    ],
    out: ChangedOut,
    size: Annotated[
        int | None,
        typer.Option(
            help="Number of tokens to keep, the most used; default: all that the corpus uses.",
            min=1,
            rich_help_panel="Tokenizer",
        ),
    ] = None,
    network: Network = None,
    to: To = FileFormat.dlkit,
    errors: ErrorsOption = "strict",
    workers: Workers = 2,
    force: Force = False,
) -> None:
    """Cut a tokenizer's vocabulary to a corpus; prints the paths."""
    from dlkit.tokenize.change import prune_file

    paths = prune_file(model, corpus, size, out, network, to, errors, workers, force)
    write([Trained(str(path)) for path in paths], writer=write_rows)


def open_inputs(texts: list[str] | None, text: str | None, model: str) -> tuple[list[str], Any]:
    """The files to read and the tokenizer. Raises DlkitError for a bad combination of options."""
    from dlkit.tokenize.infer import load

    sources = choose_sources(texts, text)
    return sources, load(model)


def choose_sources(texts: list[str] | None, text: str | None) -> list[str]:
    """The files to read, by default stdin. Raises DlkitError as `check_sources` does."""
    check_sources(texts, "texts", text)
    return texts or ["-"]
