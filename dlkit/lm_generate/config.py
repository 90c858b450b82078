"""Settings of `dlkit lm-generate`. Loads no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dlkit.core.config import (
    TrainConfig,
    argument,
    non_defaults,
    option,
    option_name,
    refuse_unused,
    with_defaults,
)
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import refuse_given

if TYPE_CHECKING:
    from dlkit.core.generation.sampling import Sampling

DEFAULT_MODEL = "shakespeare"
TEMPERATURE = 0.8  # of sampling

Arch = Literal[
    "ngram", "bengio", "rnn-elman", "rnn-jordan", "gru", "lstm", "bilm", "gpt", "bert", "t5"
]  # fmt: skip
# Algorithms of tokenizers that `train` learns from the text; other names are models.
LEARNED = (
    "char", "byte", "words", "whitespace", "byte-bpe", "bpe", "wordpiece", "unigram",
    "sentencepiece-bpe",
)  # fmt: skip


@dataclass(kw_only=True)
class LmTrainConfig(TrainConfig):
    """Settings of the training of a language model.

    The default of a setting that is None depends on the architecture: see `by_arch`.
    """

    data: list[str] = argument(  # type: ignore[assignment]
        "Text files (plain or compressed), folders of them; -: stdin."
    )
    arch: Arch = option("gpt", "Architecture to train.", group="Architecture")
    tokenizer: str = option(
        "char",
        "char, byte, words, whitespace, byte-bpe, bpe, wordpiece or unigram, learned from the text;"
        " or a model of `dlkit tokenize`.",
        group="Tokenizer",
    )
    vocab_size: int = option(
        8000, "Largest vocabulary of a tokenizer that is learned.", min=2, group="Tokenizer"
    )
    lower: bool = option(
        False, "Lower-case the text (of a tokenizer that is learned).", group="Tokenizer"
    )
    val: list[str] = option(
        (),
        "Validation text, a file or folder; default: the text's end.",
        group="Validation",
    )
    val_share: float = option(
        0.1,
        "Share of the text, at its end, that validates without --val.",
        min=0,
        max=0.9,
        group="Validation",
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: an error, or replaced.", group="Data"
    )
    eval_tokens: int = option(
        500_000, "Most tokens of the validation while training; 0: all.", min=0, group="Validation"
    )
    sample_tokens: int = option(
        200,
        "Tokens of the sample generated at each evaluation; 0: no sample.",
        min=0,
        group="Validation",
    )
    epochs: int = option(10, "Passes over the text, or over --steps-per-epoch steps.", min=1)
    steps_per_epoch: int = option(
        0,
        "Steps of an epoch, which ends with an evaluation; 0: one pass over the text.",
        min=0,
        group="Optimization",
    )
    batch_size: int = option(32, "Windows or streams of one step, over all processes.", min=1)
    lr: float = option(None, "Learning rate after warm-up (1e-3; recurrent networks 2e-3).", min=0)
    warmup: float = option(0.1, "Epochs over which the learning rate rises from zero.", min=0)
    weight_decay: float = option(0.1, "Weight decay, but for biases and norms.", min=0)
    beta2: float = option(
        0.99,
        "adam, adamw: decay of the mean of squared gradients.",
        min=0,
        max=1,
        group="Optimization",
    )
    clip_grad: float = option(1.0, "Largest norm of the gradient; 0: no limit.", min=0)
    workers: int = option(2, "Threads that tokenize the text.", min=1)
    compile: bool = option(
        False,
        "Compile the network with torch.compile: faster steps after a slow start.",
        group="Run and cluster",
    )

    parallel: Literal["ddp", "fsdp"] = option(
        "ddp",
        "gpt, under torchrun or srun: each process holds the whole network, or (fsdp) a shard of"
        " it, to train a network too large for one device.",
        group="Run and cluster",
    )
    context: int | None = option(
        None,
        "Tokens of the window of gpt, bert, t5 and bilm (default 256); of truncated backpropagation"
        " in recurrent networks (64); of bengio's context (4).",
        min=1,
        group="Architecture",
    )
    layers: int | None = option(
        None,
        "Layers (4; recurrent networks 1; bilm 2).",
        min=1,
        group="Architecture",
    )
    width: int = option(128, "Model dimension.", min=1, group="Architecture")
    heads: int = option(4, "gpt, bert, t5: attention heads.", min=1, group="Architecture")
    hidden: int = option(256, "bengio: width of the hidden layer.", min=1, group="Architecture")
    dropout: float = option(0.1, "Dropout.", min=0, max=0.95, group="Architecture")
    positions: Literal["learned", "sinusoidal", "rotary"] = option(
        "learned", "gpt: position encoding.", group="Architecture"
    )
    tie_embeddings: bool = option(
        True,
        "gpt, recurrent networks: share the embedding's matrix with the output layer.",
        group="Architecture",
    )
    direct: bool = option(
        False, "bengio: also connect the embeddings directly to the output.", group="Architecture"
    )
    learn_start: bool = option(
        False, "Recurrent networks: learn the initial state instead of zeros.", group="Architecture"
    )
    next_sentence: bool = option(False, "bert: also learn next-sentence prediction.", group="Loss")

    order: int = option(
        5, "ngram: tokens of the longest n-gram.", min=1, max=6, group="Architecture"
    )
    smoothing: Literal["kneser-ney", "katz", "jelinek-mercer", "add-k"] = option(
        "kneser-ney",
        "ngram: smoothing of the probabilities of rare and unseen n-grams.",
        group="Architecture",
    )
    add_k: float = option(
        1.0, "ngram: count that add-k adds; 0: maximum likelihood.", min=0, group="Architecture"
    )
    prune: str = option(
        "",
        "ngram: drop n-grams that occur this often or less, order by order: '0 0 1'.",
        group="Architecture",
    )
    max_ngrams: int = option(
        0,
        "ngram: keep only the n-grams, at most this many, that matter most to the text; 0: all.",
        min=0,
        group="Architecture",
    )
    quantize: bool = option(False, "ngram: store each probability in a byte.", group="Architecture")
    arpa: bool = option(
        False, "ngram: also write the model as an ARPA file, best.arpa.", group="Run and cluster"
    )
    memory: float = option(
        2.0, "ngram: gigabytes of memory for counting.", min=0.1, group="Run and cluster"
    )


RECURRENT = ("rnn-elman", "rnn-jordan", "gru", "lstm")
STREAMED = ("bengio", *RECURRENT)  # read streams of text: each step continues the last one
TRANSFORMERS = ("gpt", "bert", "t5")
NEURAL = (*STREAMED, "bilm", *TRANSFORMERS)

# The architectures of options that not all have.
OWN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "init_from", "eval_tokens", "epochs", "steps_per_epoch", "batch_size", "optimizer",
            "lr", "schedule", "warmup", "weight_decay", "beta2", "clip_grad", "bias_lr", "ema",
            "lookahead", "swa_epochs", "accumulate", "save_every", "patience", "device",
            "precision", "compile", "context", "width", "dropout",
        ),
        NEURAL,
    ),
    "sample_tokens": (*STREAMED, "gpt"),
    "layers": (*RECURRENT, "bilm", *TRANSFORMERS),
    "heads": TRANSFORMERS,
    "hidden": ("bengio",),
    "direct": ("bengio",),
    "positions": ("gpt",),
    "parallel": ("gpt",),
    "tie_embeddings": (*RECURRENT, "gpt"),
    "learn_start": RECURRENT,
    "next_sentence": ("bert",),
    **dict.fromkeys(
        (
            "order", "smoothing", "add_k", "prune", "max_ngrams", "quantize", "arpa", "memory",
        ),
        ("ngram",),
    ),
}  # fmt: skip

WINDOWED = {"lr": 1e-3, "context": 256, "layers": 4}
DEFAULTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(TRANSFORMERS, WINDOWED),
    **dict.fromkeys(RECURRENT, {"lr": 2e-3, "context": 64, "layers": 1}),
    "bilm": {"lr": 2e-3, "context": 256, "layers": 2},
    "bengio": {"lr": 1e-3, "context": 4},
    "ngram": {},
}


class ResolvedConfig(LmTrainConfig):
    """Settings with a value for each one that the architecture uses; those it lacks may be None."""

    context: int
    layers: int


def by_arch(config: LmTrainConfig) -> ResolvedConfig:
    """Complete the settings with the architecture's defaults.

    Raises DlkitError for an option that was given and has no effect.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    if config.tokenizer not in LEARNED:
        for name in sorted(changed & {"vocab_size", "lower"}):
            raise DlkitError(
                f"{option_name(name)} is for a tokenizer that is learned from the text; omit it"
            )
    if config.tokenizer == "byte" and "vocab_size" in changed:
        raise DlkitError(
            "--vocab-size has no use with --tokenizer byte, which has 256 tokens; omit it"
        )
    if config.parallel == "fsdp":
        for name in sorted(changed & {"ema", "lookahead", "swa_epochs", "compile"}):
            raise DlkitError(
                f"{option_name(name)} does not work with --parallel fsdp; omit one of them"
            )
        if config.precision == "fp16":
            raise DlkitError(
                "--precision fp16 does not work with --parallel fsdp; give bf16 or fp32"
            )
    if "beta2" in changed and config.optimizer not in {"adam", "adamw"}:
        raise DlkitError(f"--beta2 is for adam and adamw, not for {config.optimizer}; omit it")
    if "val_share" in changed and config.val:
        raise DlkitError("--val-share is for training without --val; omit one of them")
    if "add_k" in changed and config.smoothing != "add-k":
        raise DlkitError("--add-k is for --smoothing add-k; omit it")
    if config.smoothing == "add-k" and changed & {"prune", "max_ngrams"}:
        raise DlkitError(
            "--prune and --max-ngrams need a model that backs off; give another --smoothing"
        )
    if config.smoothing == "add-k" and config.add_k and config.arpa:
        raise DlkitError(
            "--arpa needs a model that backs off; give --add-k 0 or another --smoothing"
        )
    return with_defaults(ResolvedConfig(**vars(config)), DEFAULTS[config.arch])


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
