"""Settings of `dlkit caption`. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlkit.core.config import (
    Optimizer,
    SkipSettings,
    SplitSettings,
    TrainConfig,
    non_defaults,
    option,
    option_name,
    refuse_unused,
    with_defaults,
)
from dlkit.core.errors import DlkitError
from dlkit.core.generation.options import Search

DEFAULT_MODEL = "flickr8k"
NO_REPEAT = 3  # default length of the n-grams that may not repeat, where tokens are words

Arch = Literal["nic", "attend", "transformer"]
# Algorithms by which `train` learns a tokenizer; any other name refers to an existing one.
LEARNED = ("words", "byte-bpe", "sentencepiece-bpe", "unigram", "bpe", "wordpiece", "whitespace",
           "char", "byte")  # fmt: skip


@dataclass(kw_only=True)
class CaptionTrainConfig(TrainConfig, SkipSettings, SplitSettings):
    """Settings of `dlkit caption train`.

    A setting whose default is None has a default for each architecture: `by_arch` fills it in.
    """

    arch: Arch = option("attend", "Architecture to train.", group="Architecture")
    backbone: str = option(
        "caltech101",
        "Encoder: a model of dlkit classify, also torchvision's (resnet50-imagenet).",
        group="Architecture",
    )
    image_size: int | None = option(
        None,
        "Input size of the encoder in pixels; default: its own (--patch: 112).",
        min=16,
        group="Data",
    )
    fit: Literal["squash", "crop"] = option(
        "squash",
        "How images become square: squash the whole image, or crop its center.",
        group="Data",
    )
    grid: int = option(
        7,
        "Pool the encoder's map to at most this many rows and columns.",
        min=1,
        group="Architecture",
    )
    patch: int | None = option(
        None,
        "transformer: image patches of this many pixels a side instead of an encoder.",
        min=2,
        group="Architecture",
    )
    finetune_encoder_after: int | None = option(
        None,
        "Also train the encoder after this many epochs; default: never.",
        min=0,
        group="Optimization",
    )
    encoder_lr: float = option(
        0.1, "Learning rate of the encoder, as a share of --lr.", min=0, max=1, group="Optimization"
    )
    features: Path | None = option(
        None,
        "File that caches the frozen encoder's features, computed if it does not exist (default:"
        " features.safetensors in --out).",
        group="Data",
    )

    tokenizer: str = option(
        "words",
        "words, byte-bpe, sentencepiece-bpe, unigram, bpe, wordpiece, char or byte, trained on the"
        " captions; or the name or file of a model of `dlkit tokenize`.",
        group="Tokenizer",
    )
    vocab_size: int = option(
        3000, "Largest vocabulary of a tokenizer that is learned.", min=6, group="Tokenizer"
    )
    keep_case: bool = option(
        False, "Keep the captions' capital letters and punctuation.", group="Tokenizer"
    )
    max_tokens: int = option(40, "Skip captions of more tokens; 0: no limit.", min=0, group="Data")
    width: int = option(256, "Model dimension.", min=1, group="Architecture")
    layers: int | None = option(
        None,
        "nic, transformer: layers of the decoder (nic 1, transformer 3).",
        min=1,
        group="Architecture",
    )
    encoder_layers: int = option(
        2, "transformer: encoder layers on the image features.", min=0, group="Architecture"
    )
    heads: int = option(4, "transformer: attention heads.", min=1, group="Architecture")
    ffn_width: int | None = option(
        None,
        "transformer: units of the feed-forward layers (4 x width).",
        min=1,
        group="Architecture",
    )
    pre_norm: bool = option(
        False, "transformer: layer norm before each block, not after it.", group="Architecture"
    )
    dropout: float = option(0.4, "Dropout.", min=0, max=0.95, group="Architecture")
    hard_attention: bool = option(
        False,
        "attend: attend to one location at a time, trained by REINFORCE.",
        group="Architecture",
    )
    penalty: float = option(
        1.0, "attend: weight of the doubly stochastic penalty.", min=0, group="Loss"
    )

    epochs: int = option(20, "Passes over the captions.", min=1)
    batch_size: int = option(64, "Captions of one step, over all processes together.", min=1)
    optimizer: Optimizer = option("adamw", "momentum and nesterov are sgd with momentum 0.9.")
    lr: float = option(None, "Highest learning rate (2e-3; transformer: 5e-4).", min=0)
    weight_decay: float = option(0.01, "Weight decay; biases and norms have none.", min=0)
    clip_grad: float = option(5.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    label_smoothing: float = option(
        0.1, "Share of each label that is spread over the vocabulary.", min=0, max=0.9, group="Loss"
    )
    flip: float = option(
        0.5, "Share of images mirrored left to right.", min=0, max=1, group="Augmentation"
    )
    zoom: float = option(
        1.0,
        "While the encoder is trained: zoom images in or out by up to this factor.",
        min=1,
        group="Augmentation",
    )
    color_jitter: float = option(
        0.0,
        "While the encoder is trained: change brightness, contrast and colors by up to this share.",
        min=0,
        max=1,
        group="Augmentation",
    )
    best_metric: Literal["cider-d", "bleu-4", "loss"] = option(
        "cider-d", "Metric by which the best epoch is chosen.", group="Validation"
    )
    val_limit: int = option(
        400,
        "Images to caption at each validation, for the metrics; 0: none.",
        min=0,
        group="Validation",
    )
    workers: int = option(2, "Threads or processes that read images.", min=0)


# The architectures of each option that only some of them have.
OWN: dict[str, tuple[str, ...]] = {
    "patch": ("transformer",),
    "layers": ("nic", "transformer"),
    "encoder_layers": ("transformer",),
    "heads": ("transformer",),
    "ffn_width": ("transformer",),
    "pre_norm": ("transformer",),
    "hard_attention": ("attend",),
    "penalty": ("attend",),
}
ENCODER_OPTIONS = ("backbone", "grid", "finetune_encoder_after", "encoder_lr")
FINETUNING_OPTIONS = ("color_jitter", "encoder_lr", "zoom")
# Options that the model of --init-from determines, in addition to its architecture's.
FIXED = ("backbone", "image_size", "fit", "grid", "patch", "tokenizer", "vocab_size", "keep_case")
INHERITED = ("image_size", "fit", "grid", "patch", "keep_case")  # those that its header holds
DEFAULTS: dict[str, dict[str, Any]] = {
    "nic": {"layers": 1, "lr": 2e-3},
    "attend": {"lr": 2e-3},
    "transformer": {"layers": 3, "lr": 5e-4},
}
PATCHED_SIZE = 112


def by_arch(config: CaptionTrainConfig) -> CaptionTrainConfig:
    """The settings, with the architecture's defaults for those left at None.

    Raises DlkitError for an option that was given and would have no effect.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    own = dict(DEFAULTS[config.arch])
    if config.patch:
        for name in sorted(changed & set(ENCODER_OPTIONS)):
            raise DlkitError(f"{option_name(name)}: no encoder is used with --patch; remove one")
        own["image_size"] = PATCHED_SIZE
    if config.arch == "transformer":
        own["ffn_width"] = 4 * config.width
    if config.tokenizer not in LEARNED and "vocab_size" in changed:
        raise DlkitError(
            f"--vocab-size: the tokenizer {config.tokenizer} is not learned; remove the option"
        )
    if config.tokenizer == "byte" and "vocab_size" in changed:
        raise DlkitError("--vocab-size: bytes always have 256 tokens; remove the option")
    if config.finetune_encoder_after is None:
        for name in sorted(changed & set(FINETUNING_OPTIONS)):
            raise DlkitError(
                f"{option_name(name)}: the encoder is frozen; give --finetune-encoder-after, too"
            )
    if config.features and config.finetune_encoder_after == 0:
        raise DlkitError(
            "--features: needs a frozen encoder; remove it or --finetune-encoder-after 0"
        )
    if config.best_metric != "loss" and not config.val_limit:
        raise DlkitError(
            f"--best-metric {config.best_metric}: needs captions of validation images; give a"
            " --val-limit above 0, or --best-metric loss"
        )
    return with_defaults(config, own)


@dataclass(frozen=True, kw_only=True)
class CaptionSearch(Search):
    """Settings of decoding captions.

    `max_length` is by default the length of the longest caption that the model was trained on. No
    caption repeats an n-gram of `no_repeat` tokens; 0 allows it, None is 3 where tokens are words,
    else 0.
    """

    count_option = "--captions"

    no_repeat: int | None = None


DEFAULT_SEARCH = CaptionSearch()
