"""`dlkit lm-generate`: its arguments. Work is imported when a command runs; help stays fast."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import TopK, TopP, refuse_given
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Record, ShardWriter
from dlkit.lm_generate.config import DEFAULT_MODEL, LmTrainConfig

if TYPE_CHECKING:
    from dlkit.core.generation.sampling import Sampling


def train_model(config: LmTrainConfig) -> Path:
    from dlkit.lm_generate.train import train

    return train(config)


def evaluate_model(*args: Any, **options: Any) -> Iterator[Any]:
    from dlkit.lm_generate.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*args, **options)


TASK = Task(
    "lm-generate",
    "Language models: continue, score and fill in text; training.",
    LmTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
)
app = TASK.group(evaluate=False)

TEMPERATURE = 0.8

Prompt = Annotated[
    str | None, typer.Argument(help="A text to continue; default: each line of stdin.")
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
        help="Sharpens the distribution below 1, flattens it above 1; default:"
        f" {TEMPERATURE}; 1: the model's own probabilities."
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(help="Sample from tokens with at least this share of the largest probability."),
]
Penalty = Annotated[
    float, typer.Option(help="Makes tokens less probable that the text already has; 1: off.")
]
Stop = Annotated[
    list[str] | None,
    typer.Option(help=r"Stop before this text (\n: a line break); may be given more than once."),
]
Seed = Annotated[
    int,
    typer.Option(help="The same seed generates the same texts, whatever their number.", min=0),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the most probable token.")]
Beam = Annotated[
    int,
    typer.Option(help="Beam size; 0 samples instead.", min=0),
]
BatchSize = Annotated[int, typer.Option(help="Texts per batch.", min=1)]


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
    """Continue a prompt, printed while it is generated; or many, a line each.

    -f jsonl includes the log-probability of each token.
    """
    from dlkit.lm_generate import infer as lm
    from dlkit.lm_generate import writers

    config = lm.GenerationConfig(
        make_sampling(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        samples,
        max_tokens,
        tuple(text.replace("\\n", "\n") for text in stop or ()),
        beam,
        seed,
        batch_size,
    )
    if prompt is not None and file:
        raise DlkitError("both a prompt and --file are given; give one of them")
    writer = ShardWriter(format, output, shard, resume, is_first_sample if samples > 1 else None)
    prompts = read_texts("prompts", prompt, file)
    loaded = lm.load(model, device, precision)
    one = prompt is not None and samples == 1
    if format == Format.text and one:
        writer.write(lm.generate(prompts, loaded, config), writers.write_one)
    elif format == Format.text and world_size() == 1:
        writer.write(lm.generate(prompts, loaded, config), writers.write_many)
    else:  # several processes share the prompts: texts are printed once they have ended
        write_texts = writers.write_many if format == Format.text else None
        writer.write(lm.continuations(prompts, loaded, config, writer.shard), write_texts)


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

    -f jsonl includes the log-probability of each token.
    """
    from dlkit.lm_generate import infer as lm

    writer = ShardWriter(format, output, shard, resume)
    inputs = read_texts("texts", text, lines)
    loaded = lm.load(model, device, precision)
    writer.write(lm.score(inputs, loaded, batch_size, writer.shard))


@app.command()
def evaluate(
    texts: Annotated[
        list[str], typer.Argument(help="Text files (plain, .gz, .zst), folders, or - for stdin.")
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    split: Annotated[
        str,
        typer.Option(
            help="all; val or train: the part that training on these texts validates or learns on."
        ),
    ] = "all",
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens by which the window of a gpt or bilm moves; default: half the context.",
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
    """Print perplexity per token and per word, and bits per character, of each text and of all."""
    scores = evaluate_model(
        texts, split, model, device=device, precision=precision, stride=stride, errors=errors
    )
    write(scores, format, output)


@app.command()
def fill(
    text: Annotated[
        str | None,
        typer.Argument(help="A text with [MASK] in it; default: each line of stdin."),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    count: Annotated[int, typer.Option("--count", "-n", help="Candidates per gap.", min=1)] = 5,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the most probable tokens for each [MASK], by a bert (also `-m hf:OWNER/NAME`).

    A t5 fills <extra_id_0>, <extra_id_1>, ... with texts.
    """
    from dlkit.lm_generate import infer as lm

    writer = ShardWriter(format, output, shard, resume)
    inputs = read_texts("texts", text)
    loaded = lm.load(model, device, precision)
    writer.write(lm.fill(inputs, loaded, count, writer.shard))


@app.command()
def features(
    text: Annotated[str | None, typer.Argument(help="A text; default: each line of stdin.")] = None,
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
    """Print a vector for each token of a text in its context, by a bilm (ELMo) or a bert."""
    from dlkit.lm_generate import infer as lm

    writer = ShardWriter(format, output, shard, resume)
    inputs = read_texts("texts", text)
    loaded = lm.load(model, device, precision)
    writer.write(lm.features(inputs, loaded, layer, writer.shard))


@app.command()
def chat(
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    user: Annotated[
        str, typer.Option(help="Beginning of your lines in the model's dialogues; '': nothing.")
    ] = "User:",
    bot: Annotated[str, typer.Option(help="Beginning of the model's lines; '': nothing.")] = "Bot:",
    turns: Annotated[
        int | None,
        typer.Option(
            help="Earlier exchanges that the model sees; 0: none (single-turn);"
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
    """Chat with a model that was trained on dialogues; without a terminal, a reply per line."""
    from dlkit.lm_generate import chat as dialogue
    from dlkit.lm_generate import infer as lm

    config = lm.GenerationConfig(
        make_sampling(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        max_tokens=max_tokens,
        beam=beam,
        seed=seed,
    )
    loaded = lm.load(model, device, precision)
    replies = dialogue.chat(read_messages(), loaded, config, dialogue.Speakers(user, bot), turns)
    if format == Format.text:
        write(replies, format, output, dialogue.write_replies)
    else:
        write(dialogue.finished_replies(replies), format, output)


def make_sampling(
    greedy: bool,
    beam: int,
    repetition_penalty: float,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> "Sampling":
    """Settings of the choice of tokens; raises DlkitError for options without effect."""
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
        raise DlkitError("--greedy is a search with --beam 1; give one of them")
    given = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--min-p": min_p}
    refuse_given(given, "--greedy" if greedy else "--beam", True)
    return Sampling(greedy=greedy, repetition_penalty=repetition_penalty)


def read_texts(what: str, text: str | None = None, files: list[str] | None = None) -> Iterator[str]:
    """The text that was given, or the lines of the files or of stdin."""
    from dlkit.core.io.text import check_sources, lines_or_stdin

    check_sources(files, what, text)
    return lines_or_stdin(files, what) if text is None else iter([text])


def read_messages() -> Iterator[str]:
    """Messages typed at a terminal, or the lines of stdin."""
    if not is_terminal(streams().stdin):
        yield from read_texts("messages")
        return
    import readline  # noqa: F401  (editing and history of typed lines)

    while True:
        try:
            yield input("> ")
        except EOFError:
            return
