"""Settings of `dlkit lm-generate`. Loads no torch."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from dlkit.core.config import (
    TrainConfig,
    argument,
    non_defaults,
    option,
    option_name,
    refuse_unused,
)
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "shakespeare"

Arch = Literal[
    "ngram", "bengio", "rnn-elman", "rnn-jordan", "gru", "lstm", "bilm", "gpt", "bert", "t5"
]  # fmt: skip
# Tokenizers that `train` learns from the text, by their algorithms; other names are models.
LEARNED = (
    "char", "byte", "words", "whitespace", "byte-bpe", "bpe", "wordpiece", "unigram",
    "sentencepiece-bpe",
)  # fmt: skip


@dataclass(kw_only=True)
class LmTrainConfig(TrainConfig):
    """What a language model is trained on, and how.

    A setting whose default is None has one for each architecture: `by_arch` fills it in.
    """

    data: list[str] = argument(  # type: ignore[assignment]
        "Text files (plain, .gz, .zst), folders of them, or - for stdin."
    )
    arch: Arch = option("gpt", "Architecture to train.")
    tokenizer: str = option(
        "char",
        "char, byte, words, whitespace, byte-bpe, bpe, wordpiece or unigram, learned from the text;"
        " or the name or file of a model of `dlkit tokenize`.",
    )
    vocab_size: int = option(8000, "Most tokens of a tokenizer that is learned.", min=2)
    lower: bool = option(False, "Lower-case the text (a tokenizer that is learned).")
    val: list[str] = option(
        (), "Text to validate on, a file or folder; default: the last share of the text."
    )
    val_share: float = option(
        0.1, "Share of the text, its end, to validate on, where --val names none.", min=0, max=0.9
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: an error, or replaced."
    )
    eval_tokens: int = option(
        500_000, "Validate on this many tokens at most while training; 0: on all.", min=0
    )
    sample_tokens: int = option(
        200, "Tokens of the sample written at each evaluation; 0: none.", min=0
    )
    epochs: int = option(10, "Passes over the text, or stretches of --steps-per-epoch.", min=1)
    steps_per_epoch: int = option(
        0, "Steps after which an epoch ends, with an evaluation; 0: one pass over the text.", min=0
    )
    batch_size: int = option(32, "Windows, or streams, of one step, over all processes.", min=1)
    lr: float = option(None, "Learning rate after warm-up (1e-3; recurrent nets 2e-3).", min=0)
    warmup: float = option(0.1, "Epochs over which the learning rate rises from zero.", min=0)
    weight_decay: float = option(0.1, "Weight decay; biases and norms have none.", min=0)
    beta2: float = option(
        0.99, "adam, adamw: decay of the mean of squared gradients.", min=0, max=1
    )
    clip_grad: float = option(1.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    workers: int = option(2, "Threads that tokenize the text.", min=1)
    compile: bool = option(
        False, "Compile the network with torch.compile: quicker steps after a slow start."
    )

    parallel: Literal["ddp", "fsdp"] = option(
        "ddp",
        "gpt, under torchrun or srun: each process holds the whole network, or (fsdp) a share of"
        " it, so that one trains that is too large for a device.",
    )
    context: int = option(
        None,
        "Tokens that gpt, bert, t5 and bilm see at once (256); that recurrent nets learn through"
        " (64); that bengio looks back on (4).",
        min=1,
    )
    layers: int = option(None, "Layers (gpt, bert, t5: 4; recurrent nets: 1; bilm: 2).", min=1)
    width: int = option(128, "Numbers that describe a token inside the network.", min=1)
    heads: int = option(4, "gpt, bert, t5: attention heads.", min=1)
    hidden: int = option(256, "bengio: units of the hidden layer.", min=1)
    dropout: float = option(0.1, "Dropout.", min=0, max=0.95)
    positions: Literal["learned", "sinusoidal", "rotary"] = option(
        "learned", "gpt: how it knows the order of tokens."
    )
    untied: bool = option(False, "An output layer of its own, not the embedding's matrix.")
    direct: bool = option(False, "bengio: also connect the words directly to the output.")
    learn_start: bool = option(
        False, "Recurrent nets: learn the state that texts start from, not zeros."
    )
    next_sentence: bool = option(False, "bert: also learn which sentence follows which.")

    order: int = option(5, "ngram: words of the longest n-gram.", min=1, max=6)
    smoothing: Literal["kneser-ney", "katz", "jelinek-mercer", "add-k"] = option(
        "kneser-ney", "ngram: how unseen n-grams get their share."
    )
    add_k: float = option(
        1.0, "ngram: what add-k adds to each count; 0: maximum likelihood.", min=0
    )
    prune: str = option(
        "", "ngram: leave out n-grams that occur this often or less, order by order: '0 0 1'."
    )
    max_ngrams: int = option(
        0, "ngram: keep only this many, those that the text would miss most; 0: all.", min=0
    )
    quantize: bool = option(False, "ngram: store each probability in a byte.")
    arpa: bool = option(False, "ngram: also write the model as an ARPA file, best.arpa.")
    memory: float = option(2.0, "ngram: gigabytes of memory for counting.", min=0.1)


RECURRENT = ("rnn-elman", "rnn-jordan", "gru", "lstm")
STREAMED = ("bengio", *RECURRENT)  # they read on where the last step ended
TRANSFORMERS = ("gpt", "bert", "t5")
GENERATING = (*STREAMED, "gpt", "t5")
NEURAL = (*STREAMED, "bilm", *TRANSFORMERS)

# Options that not all architectures have.
OWN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "init_from", "eval_tokens", "epochs", "steps_per_epoch", "batch_size", "optimizer",
            "lr", "schedule", "warmup", "weight_decay", "beta2", "clip_grad", "ema", "swa_epochs",
            "accumulate", "save_every", "patience", "device", "precision", "compile", "context",
            "width", "dropout",
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
    "untied": (*RECURRENT, "gpt"),
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
}


def by_arch(config: LmTrainConfig) -> LmTrainConfig:
    """The settings, with the architecture's own for those left at None.

    Raises DlkitError for an option that was given and would do nothing.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    if config.tokenizer not in LEARNED:
        for name in sorted(changed & {"vocab_size", "lower"}):
            raise DlkitError(
                f"{option_name(name)} is for a tokenizer that is learned from the text"
            )
    if config.tokenizer in {"byte"} and "vocab_size" in changed:
        raise DlkitError("--vocab-size has no use with bytes: there are 256")
    if config.parallel == "fsdp":
        for name in sorted(changed & {"ema", "swa_epochs", "compile"}):
            raise DlkitError(f"{option_name(name)} does not go with --parallel fsdp")
        if config.precision == "fp16":
            raise DlkitError("--precision fp16 does not go with --parallel fsdp: take bf16 or fp32")
    if "beta2" in changed and config.optimizer not in {"adam", "adamw"}:
        raise DlkitError(f"--beta2 is for adam and adamw, not for {config.optimizer}")
    if "val_share" in changed and config.val:
        raise DlkitError("--val-share goes without --val: it takes the end of the text")
    if "add_k" in changed and config.smoothing != "add-k":
        raise DlkitError("--add-k goes with --smoothing add-k")
    if config.smoothing == "add-k" and changed & {"prune", "max_ngrams"}:
        raise DlkitError("add-k backs off to no shorter context: leave no n-grams out")
    if config.smoothing == "add-k" and config.add_k and config.arpa:
        raise DlkitError("--arpa goes with models that back off: --add-k 0, or another --smoothing")
    own = DEFAULTS.get(config.arch, {})
    return replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
