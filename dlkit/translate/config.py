"""Settings of `dlkit translate`. Loads no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from dlkit.core.config import (
    Optimizer,
    Schedule,
    SkipSettings,
    TrainConfig,
    argument,
    non_defaults,
    option,
    option_name,
    refuse_unused,
    with_defaults,
)
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import Search

DEFAULT_MODEL = "en-de"
EXTRA_LENGTH = 50  # tokens by which a translation may exceed its source (Vaswani et al. 2017)

Arch = Literal["rnn", "attention", "transformer"]
# Algorithms by which `train` learns a tokenizer; any other name refers to an existing one.
LEARNED = ("byte-bpe", "sentencepiece-bpe", "unigram", "bpe", "wordpiece", "words", "whitespace",
          "char", "byte")  # fmt: skip


@dataclass(kw_only=True)
class TranslateTrainConfig(SkipSettings, TrainConfig):
    """Settings of `dlkit translate train`.

    A setting whose default is None has a default for each architecture: `by_arch` fills it in.
    """

    data: list[str] = argument(  # type: ignore[assignment]
        "Files of pairs: TSV (source, tab, target), CSV, JSON lines.",
        default=(),
    )
    source: list[str] = option(
        (),
        "File of source sentences (or questions); may be repeated.",
        group="Data",
    )
    target: list[str] = option(
        (), "File of their translations (or answers), line by line.", group="Data"
    )
    val: list[str] = option(
        (), "File of pairs to validate on, in a format of the training data.", group="Validation"
    )
    val_source: list[str] = option(
        (), "Source sentences to validate on; needs --val-target.", group="Validation"
    )
    val_target: list[str] = option((), "The translations of --val-source.", group="Validation")
    val_share: float = option(
        0.02,
        "Share of the pairs to validate on, where no file is given.",
        min=0,
        max=0.9,
        group="Validation",
    )
    keys: str = option(
        "source,target", "CSV, JSON lines: the names of the two fields.", group="Data"
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: an error, or replaced.", group="Data"
    )
    context: int = option(
        0,
        "Dialogues: number of previous turns to read; a blank pair ends a dialogue.",
        min=0,
        group="Data",
    )
    max_tokens: int = option(
        256, "Skip pairs with a side of more tokens; 0: no limit.", min=0, group="Data"
    )
    max_ratio: float = option(
        9.0,
        "Skip pairs whose lengths in tokens have a larger ratio; 0: no limit.",
        min=0,
        group="Data",
    )
    tokenizer: str = option(
        "byte-bpe",
        "byte-bpe, sentencepiece-bpe, unigram, bpe, wordpiece, words, char or byte, learned from"
        " both languages together; or a model of `dlkit tokenize`.",
        group="Tokenizer",
    )
    vocab_size: int = option(
        8000, "Largest vocabulary of a tokenizer that is learned.", min=6, group="Tokenizer"
    )
    lower: bool = option(
        False, "Lower-case the text (a tokenizer that is learned).", group="Tokenizer"
    )

    arch: Arch = option("transformer", "Architecture to train.", group="Architecture")
    layers: int | None = option(
        None,
        "Layers, of encoder and decoder each (4; rnn, attention: 1).",
        min=1,
        group="Architecture",
    )
    width: int | None = option(
        None, "Model dimension (128; rnn, attention: 256).", min=1, group="Architecture"
    )
    dropout: float = option(0.3, "Dropout.", min=0, max=0.95, group="Architecture")
    tie_embeddings: bool = option(
        True, "The output layer shares the embedding's matrix.", group="Architecture"
    )
    heads: int = option(4, "transformer: attention heads.", min=1, group="Architecture")
    ffn_width: int = option(
        256, "transformer: units of the feed-forward layers.", min=1, group="Architecture"
    )
    pre_norm: bool = option(
        False, "transformer: layer norm before each block, not after it.", group="Architecture"
    )
    cell: Literal["gru", "lstm"] = option(
        "gru", "rnn, attention: the recurrent cell.", group="Architecture"
    )
    residual: bool = option(
        False, "rnn, attention: residual connections between layers.", group="Architecture"
    )
    reverse: bool = option(False, "rnn: read the source from its end.", group="Architecture")
    score: Literal["additive", "general", "dot"] = option(
        "additive",
        "attention: Bahdanau's score, Luong's multiplicative one, or the dot product.",
        group="Architecture",
    )
    input_feeding: bool = option(
        False,
        "attention: the last attentional state is part of the next input.",
        group="Architecture",
    )

    epochs: int = option(30, "Passes over the pairs.", min=1)
    batch_size: int = option(
        4096,
        "Tokens of one step: its sentences times their longest side.",
        min=1,
    )
    optimizer: Optimizer = option("adam", "momentum and nesterov are sgd with momentum 0.9.")
    lr: float = option(None, "Highest learning rate (3e-3; rnn, attention: 1e-3).", min=0)
    schedule: Schedule = option(
        "inverse-sqrt",
        "How the learning rate changes after warm-up. inverse-sqrt: by the square root of the"
        " epochs done; step: a tenth after half of the epochs and again after three quarters;"
        " one-cycle: up for 30 % of them, then down; plateau: a tenth whenever 5 epochs brought no"
        " better score.",
    )
    warmup: float = option(4.0, "Epochs over which the learning rate rises from zero.", min=0)
    weight_decay: float = option(1e-4, "Weight decay; biases and norms have none.", min=0)
    beta2: float = option(
        0.98,
        "adam, adamw: decay of the mean of squared gradients.",
        min=0,
        max=1,
        group="Optimization",
    )
    clip_grad: float = option(1.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    label_smoothing: float = option(
        0.1, "Share of each label that is spread over the vocabulary.", min=0, max=0.9, group="Loss"
    )
    scheduled_sampling: float = option(
        0.0,
        "Share of the target's tokens that the model predicts itself in the last epoch; it rises"
        " linearly from 0.",
        min=0,
        max=1,
        group="Optimization",
    )
    best_metric: Literal["bleu", "loss"] = option(
        "bleu", "Metric by which the best epoch is chosen.", group="Validation"
    )
    val_limit: int = option(
        200,
        "Sentences to translate at each validation, for BLEU; 0: none.",
        min=0,
        group="Validation",
    )
    workers: int = option(2, "Threads that tokenize the text.", min=1)


RECURRENT = ("rnn", "attention")
# The architectures of each option that only some of them have.
OWN: dict[str, tuple[str, ...]] = {
    "heads": ("transformer",),
    "ffn_width": ("transformer",),
    "pre_norm": ("transformer",),
    "cell": RECURRENT,
    "residual": RECURRENT,
    "reverse": ("rnn",),
    "score": ("attention",),
    "input_feeding": ("attention",),
}
# Options that the model of --init-from determines, in addition to its architecture's.
FIXED = ("tokenizer", "vocab_size", "lower")
RECURRENT_DEFAULTS = {"layers": 1, "width": 256, "lr": 1e-3}
DEFAULTS: dict[str, dict[str, Any]] = {
    "rnn": RECURRENT_DEFAULTS,
    "attention": RECURRENT_DEFAULTS,
    "transformer": {"layers": 4, "width": 128, "lr": 3e-3},
}


def by_arch(config: TranslateTrainConfig) -> TranslateTrainConfig:
    """The settings, with the architecture's defaults for those left at None.

    Raises DlkitError for an option that was given and would have no effect.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    if config.tokenizer not in LEARNED:
        for name in sorted(changed & {"vocab_size", "lower"}):
            raise DlkitError(
                f"{option_name(name)}: the tokenizer {config.tokenizer} is not learned; remove the"
                " option"
            )
    if config.tokenizer == "byte" and "vocab_size" in changed:
        raise DlkitError("--vocab-size: bytes always have 256 tokens; remove the option")
    if "beta2" in changed and config.optimizer not in {"adam", "adamw"}:
        raise DlkitError(
            f"--beta2: has no effect on {config.optimizer}; remove it, or choose adam or adamw"
        )
    if "val_share" in changed and (config.val or config.val_source):
        raise DlkitError("--val-share: has no effect with a file to validate on; remove one")
    if config.best_metric == "bleu" and not config.val_limit:
        raise DlkitError(
            "--best-metric bleu: needs translations of validation sentences; give a --val-limit"
            " above 0, or --best-metric loss"
        )
    return with_defaults(config, DEFAULTS[config.arch])


@dataclass(frozen=True, kw_only=True)
class TranslationSearch(Search):
    """Settings of decoding translations; `max_length` is by default the source's + EXTRA_LENGTH."""

    count_option = "--n-best"

    alignment: bool = False


DEFAULT_SEARCH = TranslationSearch()
