"""`dlkit lm-generate`: its arguments. Work is imported when a command runs; help stays fast."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.core.cli.command import (
    AnyFormat,
    Device,
    ErrorsOption,
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
    write_carrying,
)
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import TopK, TopP
from dlkit.core.io.streams import is_terminal, streams
from dlkit.core.io.text import check_sources, lines, lines_or_stdin
from dlkit.core.io.writers import Format, write
from dlkit.core.parallel.sharding import Record, ShardWriter
from dlkit.lm_generate.config import DEFAULT_MODEL, TEMPERATURE, LmTrainConfig, make_sampling
from dlkit.lm_generate.help import PAGES

# Fields and columns of scores, which no carried column may have.
SCORE_FIELDS = {"text", "logprob", "perplexity", "tokens"}


def train_model(config: LmTrainConfig) -> Path:
    from dlkit.lm_generate.train import train

    return train(config)


def evaluate_model(*args: Any, **options: Any) -> Iterator[Any]:
    from dlkit.lm_generate.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(*args, **options)


def next_command(config: LmTrainConfig, model: str) -> list[str]:
    """A command to try after a training."""
    if config.arch in {"bert", "t5"}:
        mask = "[MASK]" if config.arch == "bert" else "<extra_id_0>"
        return ["lm-generate", "fill", f"A text with {mask} in it", "-m", model]
    if config.arch == "bilm":
        return ["lm-generate", "score", "--text", "A TEXT", "-m", model]
    return ["lm-generate", "A TEXT TO CONTINUE", "-m", model]


TASK = Task(
    "lm-generate",
    "Language models: continue, score and fill in text; training.",
    LmTrainConfig,
    DEFAULT_MODEL,
    train_model,
    evaluate_model,
    main_metrics=("perplexity",),
    pages=PAGES,
    next_command=next_command,
)
app = TASK.group(evaluate=False)

Prompt = Annotated[
    str | None,
    typer.Argument(
        help="A text to continue; default: each line of stdin.", rich_help_panel="Input"
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        help="File with a prompt in each line; may be repeated.",
        rich_help_panel="Input",
    ),
]
Lines = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files with a text in each line (plain or compressed); default: stdin.",
        rich_help_panel="Input",
    ),
]
Model = model_argument("lm-generate")
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        "-n",
        help="Texts for each prompt.",
        min=1,
        rich_help_panel="Search and sampling",
    ),
]
MaxTokens = Annotated[
    int, typer.Option(help="Most tokens of a text.", min=1, rich_help_panel="Search and sampling")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help=f"Below 1 less random, above 1 more; default: {TEMPERATURE}.",
        rich_help_panel="Search and sampling",
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Sample from tokens with at least this share of the largest probability.",
        rich_help_panel="Search and sampling",
    ),
]
Penalty = Annotated[
    float,
    typer.Option(
        help="Makes tokens less probable that the text already has; 1: off.",
        rich_help_panel="Search and sampling",
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        help=r"Stop before this text (\n: a line break); may be repeated.",
        rich_help_panel="Search and sampling",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        help="The same seed generates the same texts.",
        min=0,
        rich_help_panel="Search and sampling",
    ),
]
Greedy = Annotated[
    bool,
    typer.Option(
        "--greedy",
        help="Always take the most probable token.",
        rich_help_panel="Search and sampling",
    ),
]
Beam = Annotated[
    int,
    typer.Option(
        help="Beam size; 0 samples instead.", min=0, rich_help_panel="Search and sampling"
    ),
]
ParseSpecial = Annotated[
    bool | None,
    typer.Option(
        "--parse-special/--no-parse-special",
        help="Read special tokens written in texts as such; default: in Hugging Face's models.",
        rich_help_panel="Input",
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Texts per batch.", min=1, rich_help_panel="Batch and cluster")
]
ReadAhead = Annotated[
    int,
    typer.Option(
        "--batch-size",
        help="Texts read at once; the scores do not depend on it.",
        min=1,
        rich_help_panel="Batch and cluster",
    ),
]


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
    parse_special: ParseSpecial = None,
    errors: ErrorsOption = "strict",
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
    prompts = lines_or_stdin(file, "prompts", prompt, errors)
    loaded = lm.load(model, device, precision, parse_special)
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
    text: Annotated[
        str | None, typer.Option(help="Score this text instead of lines.", rich_help_panel="Input")
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    parse_special: ParseSpecial = None,
    errors: ErrorsOption = "strict",
    batch_size: ReadAhead = 16,
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
    """Print each line's log-probability, perplexity and tokens.

    The log-probability is a natural one; the line comes last. -f jsonl includes the
    log-probability of each token.
    """
    from dlkit.lm_generate import infer as lm

    table = table_of(table_format, field, id, text, format, SCORE_FIELDS, errors)
    check_sources(lines, "texts", text)
    writer = ShardWriter(format, output, shard, resume)
    loaded = lm.load(model, device, precision, parse_special)
    write_carrying(
        table,
        lines,
        writer,
        lambda: lines_or_stdin(lines, "texts", text, errors),
        lambda inputs: lm.score(inputs, loaded, batch_size, writer.shard),
    )


@app.command()
def evaluate(
    texts: Annotated[
        list[str],
        typer.Argument(
            help="Text files (plain or compressed), folders, or - for stdin.",
            rich_help_panel="Input",
        ),
    ],
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    split: Annotated[
        str,
        typer.Option(
            help="all; val or train: the part that training on these texts validates or learns on.",
            rich_help_panel="Input",
        ),
    ] = "all",
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens by which the window of a gpt or bilm moves; default: half the context.",
            min=1,
            rich_help_panel="Results",
        ),
    ] = None,
    parse_special: ParseSpecial = None,
    errors: ErrorsOption = "strict",
    device: Device = "auto",
    precision: PrecisionOption = "fp32",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Print perplexity and bits per character of texts.

    Perplexity is per token and per word, of each text and of all.
    """
    scores = evaluate_model(
        texts,
        split,
        model,
        device=device,
        precision=precision,
        stride=stride,
        errors=errors,
        parse_special=parse_special,
    )
    write(scores, format, output, view=TASK.view)


@app.command()
def fill(
    text: Annotated[
        str | None,
        typer.Argument(
            help="A text with [MASK] in it; default: each line of stdin.", rich_help_panel="Input"
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    count: Annotated[
        int,
        typer.Option("--count", "-n", help="Candidates per gap.", min=1, rich_help_panel="Results"),
    ] = 5,
    parse_special: ParseSpecial = None,
    errors: ErrorsOption = "strict",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print the most probable tokens for each [MASK] in a text.

    The model is a bert (also `-m hf:OWNER/NAME`). A t5 fills <extra_id_0>, <extra_id_1>, ...
    with texts.
    """
    from dlkit.lm_generate import infer as lm

    writer = ShardWriter(format, output, shard, resume)
    inputs = lines_or_stdin(None, "texts", text, errors)
    loaded = lm.load(model, device, precision, parse_special)
    writer.write(lm.fill(inputs, loaded, count, writer.shard))


@app.command()
def features(
    text: Annotated[
        str | None,
        typer.Argument(help="A text; default: each line of stdin.", rich_help_panel="Input"),
    ] = None,
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    layer: Annotated[
        int | None,
        typer.Option(
            help="bilm: the layer, 0 for the embedding; default: the last one.",
            min=0,
            rich_help_panel="Results",
        ),
    ] = None,
    parse_special: ParseSpecial = None,
    errors: ErrorsOption = "strict",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
    shard: ShardOption = None,
    resume: ResumeOption = False,
) -> None:
    """Print a vector for each token of a text in its context.

    The model is a bilm (ELMo) or a bert.
    """
    from dlkit.lm_generate import infer as lm

    writer = ShardWriter(format, output, shard, resume)
    inputs = lines_or_stdin(None, "texts", text, errors)
    loaded = lm.load(model, device, precision, parse_special)
    writer.write(lm.features(inputs, loaded, layer, writer.shard))


@app.command()
def chat(
    model: Model = DEFAULT_MODEL,  # type: ignore[valid-type]
    user: Annotated[
        str,
        typer.Option(
            help="Beginning of your lines in the model's dialogues; '': nothing.",
            rich_help_panel="Input",
        ),
    ] = "User:",
    bot: Annotated[
        str,
        typer.Option(help="Beginning of the model's lines; '': nothing.", rich_help_panel="Input"),
    ] = "Bot:",
    turns: Annotated[
        int | None,
        typer.Option(
            help="Earlier exchanges that the model sees; 0: none (single-turn);"
            " default: all that its context holds.",
            min=0,
            rich_help_panel="Input",
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
    parse_special: ParseSpecial = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    format: AnyFormat = Format.text,
    output: Output = None,
) -> None:
    """Chat with a model that was trained on dialogues.

    Without a terminal it prints a reply for each line.
    """
    from dlkit.lm_generate import chat as dialogue
    from dlkit.lm_generate import infer as lm

    config = lm.GenerationConfig(
        make_sampling(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        max_tokens=max_tokens,
        beam=beam,
        seed=seed,
    )
    loaded = lm.load(model, device, precision, parse_special)
    replies = dialogue.chat(read_messages(), loaded, config, dialogue.Speakers(user, bot), turns)
    if format == Format.text:
        write(replies, format, output, dialogue.write_replies)
    else:
        write(dialogue.finished_replies(replies), format, output)


def read_messages() -> Iterator[str]:
    """Messages typed at a terminal, or the lines of stdin."""
    if not is_terminal(streams().stdin):
        yield from lines("-")
        return
    import readline  # noqa: F401  (editing and history of typed lines)

    while True:
        try:
            yield input("> ")
        except EOFError:
            return
