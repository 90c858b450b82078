"""`dlkit lm-generate`: its arguments. Work is imported when a command runs; help stays quick."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

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
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Record, ShardWriter
from dlkit.lm_generate.config import DEFAULT_MODEL, LmTrainConfig

if TYPE_CHECKING:
    from dlkit.core.generation.sampling import Sampling

app = group("lm-generate", "Language models: continue, score and fill in text; training.")
add_train(app, "lm-generate", LmTrainConfig)
add_models(app, "lm-generate")

TEMPERATURE = 0.8

Prompt = Annotated[
    str | None, typer.Argument(help="A text to continue; default: each line of stdin is one.")
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", help="A file with a prompt in each line; may be given more than once."),
]
Lines = Annotated[
    list[str] | None,
    typer.Argument(help="Files with a text in each line (plain, .gz, .zst); default: stdin."),
]
Model = model_argument("lm-generate")
Samples = Annotated[int, typer.Option("--samples", "-n", help="Texts for each prompt.", min=1)]
MaxTokens = Annotated[int, typer.Option(help="Most tokens of a text.", min=1)]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Below 1 the probable gets more probable, above 1 less; default:"
        f" {TEMPERATURE}; 1: the model's own probabilities."
    ),
]
TopK = Annotated[int | None, typer.Option(help="Draw from the most probable tokens, so many.")]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw from the fewest tokens that together are as probable as this."),
]
MinP = Annotated[
    float | None,
    typer.Option(help="Draw from tokens at least this share as probable as the most probable."),
]
Penalty = Annotated[
    float, typer.Option(help="Makes tokens less probable that the text has; 1: none.")
]
Stop = Annotated[
    list[str] | None,
    typer.Option(help=r"End before this text (\n: a line break); may be given more than once."),
]
Seed = Annotated[
    int,
    typer.Option(help="The same seed makes the same texts, however many are written.", min=0),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always the most probable token.")]
Beam = Annotated[
    int,
    typer.Option(help="Search for the most probable texts, keeping so many; 0: no search.", min=0),
]
BatchSize = Annotated[int, typer.Option(help="Texts computed at once.", min=1)]


@app.command()
def infer(
    prompt: Prompt = None,
    file: Files = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    samples: Samples = 1,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    stop: Stop = None,
    seed: Seed = 0,
    greedy: Greedy = False,
    beam: Beam = 0,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Continue a prompt, printed as it is written; or many, a line each.

    -f jsonl has the log-probability of each token.
    """
    from dlkit.lm_generate import infer as texts
    from dlkit.lm_generate import writers

    how = texts.Generation(
        chosen(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        samples,
        max_tokens,
        tuple(text.replace("\\n", "\n") for text in stop or ()),
        beam,
        seed,
        batch_size,
    )
    if prompt is not None and file:
        raise DlkitError("give a prompt or --file, not both")
    writer = ShardWriter(format, output, shard, resume, is_first_sample if samples > 1 else None)
    prompts = iter([prompt]) if prompt is not None else lines_of(file, "a prompt, --file")
    loaded = texts.load(model, device, precision)
    one = prompt is not None and samples == 1
    if format == Format.text and one:
        writer.write(texts.generate(prompts, loaded, how), writers.write_one)
    elif format == Format.text and world_size() == 1:
        writer.write(texts.generate(prompts, loaded, how), writers.write_many)
    else:  # several processes share the prompts; then texts are printed once they have ended
        write_texts = writers.write_many if format == Format.text else None
        writer.write(texts.continuations(prompts, loaded, how, writer.shard), write_texts)


def is_first_sample(record: Record) -> bool:
    """Whether this record is the first of its prompt."""
    return not record.get("sample")


@app.command()
def score(
    lines: Lines = None,
    text: Annotated[str | None, typer.Option(help="Score this text instead of lines.")] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print each line's log-probability (natural), perplexity and tokens, and the line.

    -f jsonl has the log-probability of each token.
    """
    from dlkit.lm_generate import infer as texts

    if lines and text is not None:
        raise DlkitError("give files or --text, not both")
    writer = ShardWriter(format, output, shard, resume)
    some = iter([text]) if text is not None else lines_of(lines, "files, --text")
    loaded = texts.load(model, device, precision)
    writer.write(texts.score(some, loaded, batch_size, writer.shard))


@app.command()
def evaluate(
    texts: Annotated[
        list[str], typer.Argument(help="Text files (plain, .gz, .zst), folders, or - for stdin.")
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    split: Annotated[
        str,
        typer.Option(help="all; or what a training on these texts holds out: val, or not: train."),
    ] = "all",
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens by which the window of a gpt or bilm moves on; default: half the context.",
            min=1,
        ),
    ] = None,
    errors: Annotated[
        Literal["strict", "replace"],
        typer.Option(help="Bytes that are not UTF-8: an error, or replaced."),
    ] = "strict",
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print perplexity per token and per word and bits per character, for each text and all."""
    from dlkit.lm_generate.evaluate import evaluate_checkpoint

    scores = evaluate_checkpoint(texts, split, model, stride, device, precision, errors)
    write(scores, format, output)


@app.command()
def fill(
    text: Annotated[
        str | None,
        typer.Argument(help="A text with [MASK] in it; default: the lines of stdin."),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    count: Annotated[int, typer.Option("--count", "-n", help="Tokens to print.", min=1)] = 5,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the most probable tokens for each [MASK]: a bert's, `-m hf:OWNER/NAME` too.

    A t5 fills <extra_id_0>, <extra_id_1>, ... with texts.
    """
    from dlkit.lm_generate import fill as gaps
    from dlkit.lm_generate.infer import load

    writer = ShardWriter(format, output, shard, resume)
    some = iter([text]) if text is not None else lines_of(None, "a text")
    writer.write(gaps.fill(some, load(model, device, precision), count, writer.shard))


@app.command()
def features(
    text: Annotated[
        str | None, typer.Argument(help="A text; default: each line of stdin is one.")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    layer: Annotated[
        int | None,
        typer.Option(help="bilm: the layer, 0 for the embedding; default: the last one.", min=0),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print a vector for each token of a text in its context: a bilm's (ELMo) or a bert's."""
    from dlkit.lm_generate import features as vectors
    from dlkit.lm_generate.infer import load

    writer = ShardWriter(format, output, shard, resume)
    some = iter([text]) if text is not None else lines_of(None, "a text")
    writer.write(vectors.features(some, load(model, device, precision), layer, writer.shard))


@app.command()
def chat(
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    user: Annotated[
        str, typer.Option(help="What your lines begin with in the model's dialogues; '': nothing.")
    ] = "User:",
    bot: Annotated[
        str, typer.Option(help="What the model's lines begin with; '': nothing.")
    ] = "Bot:",
    turns: Annotated[
        int | None,
        typer.Option(
            help="Exchanges before a message that the model sees: 0: none (single-turn);"
            " default: all that its context holds.",
            min=0,
        ),
    ] = None,
    max_tokens: MaxTokens = 100,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = 0,
    greedy: Greedy = False,
    beam: Beam = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Talk with a model that was trained on dialogues; without a terminal, lines in, lines out."""
    from dlkit.lm_generate import chat as dialogue
    from dlkit.lm_generate import infer as texts

    how = texts.Generation(
        chosen(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        max_tokens=max_tokens,
        beam=beam,
        seed=seed,
    )
    talking = texts.load(model, device, precision)
    answers = dialogue.chat(messages(), talking, how, dialogue.Speakers(user, bot), turns)
    if format == Format.text:
        write(answers, format, output, dialogue.write_replies)
    else:
        write(dialogue.replies(answers), format, output)


def chosen(
    greedy: bool,
    beam: int,
    repetition_penalty: float,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> "Sampling":
    """How tokens are chosen; refuses what would have no effect."""
    from dlkit.core.generation.sampling import Sampling

    sampling = Sampling(
        temperature=TEMPERATURE if temperature is None else temperature,
        top_k=0 if top_k is None else top_k,
        top_p=1.0 if top_p is None else top_p,
        min_p=0.0 if min_p is None else min_p,
        repetition_penalty=repetition_penalty,
    )
    if not (greedy or beam):
        return sampling
    if greedy and beam:
        raise DlkitError("--greedy is a search with --beam 1: give one of them")
    given = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--min-p": min_p}
    for name, value in given.items():
        if value is not None:
            other = "--greedy" if greedy else "--beam"
            raise DlkitError(f"{name} is for drawing at random: give it or {other}")
    return Sampling(greedy=greedy, repetition_penalty=repetition_penalty)


def lines_of(files: list[str] | None, what: str) -> Iterator[str]:
    """The lines of the files, or of stdin, unless someone would have to type them."""
    from dlkit.core.io.text import lines

    if not files and sys.stdin.isatty():
        raise DlkitError(f"nothing to read: give {what}, or lines on stdin")
    return (line for file in files or ["-"] for line in lines(file))


def messages() -> Iterator[str]:
    """What is typed, or the lines of stdin, up to its end."""
    if not sys.stdin.isatty():
        yield from lines_of(None, "messages")
        return
    import readline  # noqa: F401  (editing and history of what is typed)

    while True:
        try:
            yield input("> ")
        except EOFError:
            return
