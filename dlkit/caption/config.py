"""Settings of `dlkit caption`. Loads no torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dlkit.core.config import (
    Optimizer,
    TrainConfig,
    non_defaults,
    option,
    option_name,
    refuse_unused,
)
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "flickr8k"
BEAM, ALPHA = 5, 0.6  # of the search, unless asked for otherwise
NO_REPEAT = 3  # words in a row that a caption has once only, where tokens are words

Arch = Literal["nic", "attend", "transformer"]
# Tokenizers that `train` learns from the captions, by their algorithms; other names are models.
LEARNED = ("words", "byte-bpe", "sentencepiece-bpe", "unigram", "bpe", "wordpiece", "whitespace",
          "char", "byte")  # fmt: skip


@dataclass(kw_only=True)
class CaptionTrainConfig(TrainConfig):
    """What a captioner is trained on, and how.

    A setting whose default is None has one for each architecture: `by_arch` fills it in.
    """

    arch: Arch = option("attend", "Architecture to train.")
    backbone: str = option(
        "caltech101",
        "Encoder to start from: a model of dlkit classify, bundled, a file, or torchvision's by"
        " name (resnet50-imagenet).",
    )
    image_size: int | None = option(
        None, "Pixels a side of what the encoder sees; default: its own (--patch: 112).", min=16
    )
    fit: Literal["squash", "crop"] = option(
        "squash", "How images become square: the whole image, or its middle."
    )
    grid: int = option(7, "Average the encoder's map to at most so many places a side.", min=1)
    patch: int | None = option(
        None, "transformer: no encoder, but squares of the image, of so many pixels a side.", min=2
    )
    finetune_encoder_after: int | None = option(
        None, "Train the encoder, too, after so many epochs; default: never.", min=0
    )
    encoder_lr: float = option(
        0.1, "Learning rate of the encoder, as a share of --lr.", min=0, max=1
    )
    features: Path | None = option(
        None,
        "File of what the frozen encoder makes of the images; it is made if it is not there"
        " (default: features.safetensors in --out).",
    )

    tokenizer: str = option(
        "words",
        "words, byte-bpe, sentencepiece-bpe, unigram, bpe, wordpiece, char or byte, trained on the"
        " captions; or the name or file of a model of `dlkit tokenize`.",
    )
    vocab_size: int = option(3000, "Most tokens of a tokenizer that is learned.", min=6)
    raw: bool = option(False, "Keep the captions' capital letters and punctuation.")
    max_tokens: int = option(40, "Leave out captions of more tokens; 0: none.", min=0)
    val_share: float = option(
        0.1, "Share of the images to validate on, where there is no such split.", min=0, max=0.9
    )

    width: int = option(256, "Numbers that describe a token.", min=1)
    layers: int = option(None, "nic, transformer: layers of the decoder (nic 1, transformer 3).",
                         min=1)  # fmt: skip
    encoder_layers: int = option(2, "transformer: layers on what the encoder made.", min=0)
    heads: int = option(4, "transformer: attention heads.", min=1)
    ffn_width: int = option(None, "transformer: units of the feed-forward layers (4 x width).",
                        min=1)  # fmt: skip
    pre_norm: bool = option(False, "transformer: norms before each block, not after it.")
    dropout: float = option(0.4, "Dropout.", min=0, max=0.95)
    hard: bool = option(False, "attend: look at one place at a time, learned by REINFORCE.")
    penalty: float = option(
        1.0, "attend: weight of the penalty on places that are looked at less than others.", min=0
    )

    epochs: int = option(20, "Passes over the captions.", min=1)
    batch_size: int = option(64, "Captions of one step, over all processes together.", min=1)
    optimizer: Optimizer = option("adamw", "momentum and nesterov are sgd with momentum 0.9.")
    lr: float = option(None, "Highest learning rate (2e-3; transformer: 5e-4).", min=0)
    weight_decay: float = option(0.01, "Weight decay; biases and norms have none.", min=0)
    clip_grad: float = option(5.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    label_smoothing: float = option(
        0.1, "Share of each label that is spread over the vocabulary.", min=0, max=0.9
    )
    flip: float = option(0.5, "Share of images mirrored left to right.", min=0, max=1)
    zoom: float = option(
        1.0, "While the encoder learns: zoom images in or out by up to this factor.", min=1
    )
    color_jitter: float = option(
        0.0,
        "While the encoder learns: change brightness, contrast and colors by up to this share.",
        min=0,
        max=1,
    )
    select: Literal["cider-d", "bleu-4", "loss"] = option(
        "cider-d", "What makes an epoch's model the best one."
    )
    val_images: int = option(
        400, "Images to describe at each validation, for the scores; 0: none.", min=0
    )
    workers: int = option(2, "Threads or processes that read images.", min=0)


# Options that not all architectures have.
OWN: dict[str, tuple[str, ...]] = {
    "patch": ("transformer",),
    "layers": ("nic", "transformer"),
    "encoder_layers": ("transformer",),
    "heads": ("transformer",),
    "ffn_width": ("transformer",),
    "pre_norm": ("transformer",),
    "hard": ("attend",),
    "penalty": ("attend",),
}
# Options of the encoder, which there is not with --patch.
OF_ENCODER = ("backbone", "grid", "finetune_encoder_after", "encoder_lr")
DEFAULTS: dict[str, dict[str, Any]] = {
    "nic": {"layers": 1, "lr": 2e-3},
    "attend": {"lr": 2e-3},
    "transformer": {"layers": 3, "lr": 5e-4},
}
PATCHED_SIZE = 112


def by_arch(config: CaptionTrainConfig) -> CaptionTrainConfig:
    """The settings, with the architecture's own for those left at None.

    Raises DlkitError for an option that was given and would do nothing.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    own = dict(DEFAULTS[config.arch])
    if config.patch:
        for name in sorted(changed & set(OF_ENCODER)):
            raise DlkitError(f"{option_name(name)} is for an encoder, and --patch has none")
        own["image_size"] = PATCHED_SIZE
    if config.arch == "transformer":
        own["ffn_width"] = 4 * config.width
    if config.tokenizer not in LEARNED and "vocab_size" in changed:
        raise DlkitError("--vocab-size is for a tokenizer that is learned from the captions")
    if config.tokenizer == "byte" and "vocab_size" in changed:
        raise DlkitError("--vocab-size has no use with bytes: there are 256")
    if config.finetune_encoder_after is None:
        for name in sorted(changed & {"encoder_lr", "zoom", "color_jitter"}):
            raise DlkitError(f"{option_name(name)} goes with --finetune-encoder-after")
    if config.features and config.finetune_encoder_after == 0:
        raise DlkitError("--features is of a frozen encoder: leave out --finetune-encoder-after 0")
    if config.select != "loss" and not config.val_images:
        raise DlkitError(f"--select {config.select} needs --val-images, or take --select loss")
    return replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
