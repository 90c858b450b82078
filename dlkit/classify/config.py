"""Settings of `dlkit classify`. Loads no torch."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dlkit.core.config import Optimizer, Schedule, SkipSettings, SplitSettings, TrainConfig, option
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.weights import find

DEFAULT_MODEL = "cifar10"

Arch = Literal[
    "perceptron", "adaline", "knn", "linear", "mlp",
    "lenet", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "nin", "googlenet", "inception-v3",
    "resnet9", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "preact-resnet",
    "densenet121", "densenet169", "densenet201", "mobilenet-v2", "mobilenet-v3", "airbench",
    "encoder", "fasttext", "bilstm", "attention", "transformer", "nbsvm", "tfidf",
]  # fmt: skip
TEXT_NETWORKS = ("fasttext", "bilstm", "attention", "transformer")
NGRAMS = ("nbsvm", "tfidf")  # linear models of n-grams, which are fitted at once
TEXTS = (*TEXT_NETWORKS, *NGRAMS)
IMAGES = tuple(arch for arch in get_args(Arch) if arch not in TEXTS)
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "preact-resnet")
MOBILENETS = ("mobilenet-v2", "mobilenet-v3")
# The architectures of each option that not all of them have.
OWN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("tokenizer", "vocab_size", "max_length", "cost", "interpolation", "ratios_from"), TEXTS
    ),
    **dict.fromkeys(("word_dropout", "embedding_size", "vote"), TEXT_NETWORKS),
    **dict.fromkeys(
        (
            "pretrained", "freeze", "image_size", "fit", "color", "activation", "init", "flip",
            "shift", "rotate", "zoom", "color_jitter", "cutout", "mixup", "cutmix", "randaugment",
            "group_by", "alternate_flip",
        ),
        IMAGES,
    ),
    "ngrams": ("fasttext", *NGRAMS),
    "sentences": ("attention",),
    "layers": ("bilstm", "transformer"),
    "neighbors": ("knn",),
    "features_from": ("knn",),
    "hidden": ("mlp",),
    "norm": ("mlp", *VGGS),
    "width_multiplier": (*VGGS, "resnet9", *RESNETS, *MOBILENETS, "airbench"),
    "drop_path": RESNETS,
}  # fmt: skip
# Options of training by gradient descent, which fits of n-grams do not use.
DESCENT_ONLY = (
    "init_from", "epochs", "batch_size", "optimizer", "lr", "schedule", "warmup", "weight_decay",
    "clip_grad", "bias_lr", "ema", "lookahead", "swa_epochs", "accumulate", "patience",
    "save_every", "label_smoothing", "class_weights", "l1", "dropout",
)  # fmt: skip
# Options of models of n-grams, alone or in a vote.
OF_NGRAMS = {"cost": NGRAMS, "interpolation": ("nbsvm",), "ratios_from": ("nbsvm",)}
# Options of cross-entropy training, which the learning rules, knn and triplets do not use.
CROSS_ENTROPY_ONLY = ("label_smoothing", "class_weights", "mixup", "cutmix")
# The values of settings that are None; those of the learning rules are their papers'.
DEFAULTS: dict[str, dict[str, Any]] = {
    arch: {
        "optimizer": "adamw", "schedule": "cosine", "batch_size": 128, "lr": 1e-3, "warmup": 1.0,
        "weight_decay": 0.05, "clip_grad": 10.0, "shift": 0.1 if arch in IMAGES else None,
    }
    for arch in get_args(Arch)
}  # fmt: skip
DEFAULTS["nbsvm"] |= {"epochs": 1, "cost": 1.0}
DEFAULTS["tfidf"] |= {"epochs": 1, "cost": 10.0}
DEFAULTS["linear"] |= {"shift": 0.0, "flip": 0.0}
DEFAULTS["mlp"] |= {"shift": 0.0}
DEFAULTS["knn"] |= {"shift": 0.0}
DEFAULTS["perceptron"] |= {
    "optimizer": "sgd", "schedule": "constant", "batch_size": 1, "lr": 1.0, "warmup": 0.0,
    "weight_decay": 0.0, "clip_grad": 0.0, "shift": 0.0, "flip": 0.0,
}  # fmt: skip
DEFAULTS["adaline"] |= DEFAULTS["perceptron"] | {"lr": 1e-4}
# torchvision's ImageNet weights, downloaded on first use; the hash is part of the file name.
HUB = "https://download.pytorch.org/models/"
PUBLISHED = {
    "vgg11-imagenet": f"{HUB}vgg11-8a719046.pth#sha256=8a719046",
    "vgg11-bn-imagenet": f"{HUB}vgg11_bn-6002323d.pth#sha256=6002323d",
    "vgg13-imagenet": f"{HUB}vgg13-19584684.pth#sha256=19584684",
    "vgg13-bn-imagenet": f"{HUB}vgg13_bn-abd245e5.pth#sha256=abd245e5",
    "vgg16-imagenet": f"{HUB}vgg16-397923af.pth#sha256=397923af",
    "vgg16-bn-imagenet": f"{HUB}vgg16_bn-6c64b313.pth#sha256=6c64b313",
    "vgg19-imagenet": f"{HUB}vgg19-dcbb9e9d.pth#sha256=dcbb9e9d",
    "vgg19-bn-imagenet": f"{HUB}vgg19_bn-c79401a0.pth#sha256=c79401a0",
    "googlenet-imagenet": f"{HUB}googlenet-1378be20.pth#sha256=1378be20",
    "inception-v3-imagenet": f"{HUB}inception_v3_google-0cc3c7bd.pth#sha256=0cc3c7bd",
    "resnet18-imagenet": f"{HUB}resnet18-f37072fd.pth#sha256=f37072fd",
    "resnet34-imagenet": f"{HUB}resnet34-b627a593.pth#sha256=b627a593",
    "resnet50-imagenet": f"{HUB}resnet50-11ad3fa6.pth#sha256=11ad3fa6",
    "resnet101-imagenet": f"{HUB}resnet101-cd907fc2.pth#sha256=cd907fc2",
    "resnet152-imagenet": f"{HUB}resnet152-f82ba261.pth#sha256=f82ba261",
    "densenet121-imagenet": f"{HUB}densenet121-a639ec97.pth#sha256=a639ec97",
    "densenet169-imagenet": f"{HUB}densenet169-b2777c0a.pth#sha256=b2777c0a",
    "densenet201-imagenet": f"{HUB}densenet201-c1103571.pth#sha256=c1103571",
    "mobilenet-v2-imagenet": f"{HUB}mobilenet_v2-7ebf99e0.pth#sha256=7ebf99e0",
    "mobilenet-v3-imagenet": f"{HUB}mobilenet_v3_large-5c1a4163.pth#sha256=5c1a4163",
}


def is_text_model(model: str) -> bool:
    """Whether the model with this name, file or URL classifies texts."""
    if model in PUBLISHED:
        return False
    return read_header(find("classify", model, PUBLISHED)).arch in TEXTS


TestViews = Literal["one", "mirror"]
SCHEDULE = next(f.metadata["help"] for f in fields(TrainConfig) if f.name == "schedule")
Activation = Literal["auto", "relu", "leaky-relu", "elu", "prelu", "swish", "sigmoid", "tanh"]


@dataclass(kw_only=True)
class ClassifyTrainConfig(TrainConfig, SkipSettings, SplitSettings):
    """Settings of a training run; a None default depends on the architecture (`DEFAULTS`)."""

    arch: Arch = option("resnet9", "The last six are for texts.", group="Architecture")
    pretrained: bool = option(
        False, "Start from torchvision's ImageNet weights for --arch.", group="Architecture"
    )
    freeze: str = option(
        "",
        "Do not train these: features (all but the head), or the first N layers with weights.",
        group="Optimization",
    )
    epochs: int = option(30, "Passes over the training data.", min=1)
    batch_size: int = option(
        None, "Samples per step over all processes (128; perceptron, adaline: 1).", min=1
    )
    optimizer: Optimizer = option(
        None,
        "momentum and nesterov are sgd with momentum 0.9 (adamw; perceptron, adaline: sgd).",
    )
    lr: float = option(
        None, "Learning rate after warm-up (0.001; perceptron: 1, adaline: 0.0001).", min=0
    )
    schedule: Schedule = option(None, f"{SCHEDULE} (cosine; perceptron, adaline: constant)")
    warmup: float = option(
        None,
        "Epochs over which the learning rate rises from zero (1; perceptron, adaline: 0).",
        min=0,
    )
    weight_decay: float = option(
        None,
        "Weight decay; biases and norms have none (0.05; perceptron, adaline: 0).",
        min=0,
    )
    clip_grad: float = option(
        None, "Maximum norm of the gradient; 0: no limit (10; perceptron, adaline: 0).", min=0
    )
    loss: Literal["auto", "cross-entropy", "bce", "triplet"] = option(
        "auto", "auto: bce for multi-label data, else cross-entropy.", group="Loss"
    )
    label_smoothing: float = option(
        0.0,
        "Label smoothing: share of the target spread over all labels.",
        min=0,
        max=1,
        group="Loss",
    )
    class_weights: bool = option(
        False, "Weight labels inversely to their frequency in the loss.", group="Loss"
    )
    l1: float = option(0.0, "Weight of the L1 penalty in the loss.", min=0, group="Loss")
    embedding: int = option(
        64, "Dimension of the descriptor that --loss triplet learns.", min=2, group="Loss"
    )
    margin: float = option(0.2, "Margin of the triplet loss.", min=0, group="Loss")

    image_size: int | None = option(
        None,
        "Pixels per side; default: the images' own size, at most 224.",
        min=16,
        max=2048,
        group="Data",
    )
    fit: Literal["auto", "crop", "squash"] = option(
        "auto",
        "How images become square; auto: as in the model of --init-from, else crop.",
        group="Data",
    )
    color: Literal["auto", "rgb", "gray"] = option(
        "auto", "auto: gray if the images are gray.", group="Data"
    )
    width_multiplier: float = option(
        1.0,
        "Channels of resnet, vgg, mobilenet, airbench, as a share of the paper's.",
        min=0.1,
        max=4,
        group="Architecture",
    )
    hidden: str = option("512,256", "Hidden layer widths of mlp.", group="Architecture")
    neighbors: int = option(5, "Number of neighbors that vote in knn.", min=1, group="Architecture")
    features_from: str | None = option(
        None, "Model whose features knn compares instead of pixels.", group="Architecture"
    )
    activation: Activation = option(
        "auto", "Activation; auto: the architecture's own.", group="Architecture"
    )
    norm: Literal["auto", "none", "batch", "layer"] = option(
        "auto", "Normalization of mlp and vgg; auto: the architecture's own.", group="Architecture"
    )
    init: Literal["auto", "xavier", "he", "normal", "zeros"] = option(
        "auto", "Weight initialization; auto: the architecture's own.", group="Architecture"
    )
    dropout: float | None = option(
        None,
        "Dropout rate; default: the architecture's own.",
        min=0,
        max=0.95,
        group="Architecture",
    )
    drop_path: float = option(
        0.0,
        "Stochastic depth: probability of dropping the last block of a resnet.",
        min=0,
        max=0.9,
        group="Architecture",
    )

    flip: float | None = option(
        None,
        "Probability of a horizontal flip (0.5; gray images, perceptron, adaline, linear: 0).",
        min=0,
        max=1,
        group="Augmentation",
    )
    alternate_flip: bool = option(
        False,
        "Mirror each image in every other epoch, half of them in each, not at random as --flip.",
        group="Augmentation",
    )
    shift: float | None = option(
        None,
        "Shift by up to this share of the side (0.1; knn, linear, mlp, perceptron, adaline: 0).",
        min=0,
        max=0.5,
        group="Augmentation",
    )
    rotate: float = option(
        0.0, "Rotate by up to this many degrees.", min=0, max=180, group="Augmentation"
    )
    zoom: float = option(1.0, "Zoom in or out by up to this factor.", min=1, group="Augmentation")
    color_jitter: float = option(
        0.0, "Change brightness, contrast, colors by this share.", min=0, group="Augmentation"
    )
    cutout: float = option(
        0.0,
        "Cutout: side of the erased square, as a share of the image's side.",
        min=0,
        max=1,
        group="Augmentation",
    )
    mixup: float = option(
        0.0, "Mixup: alpha of the beta distribution; 0: none.", min=0, group="Augmentation"
    )
    cutmix: float = option(
        0.0, "CutMix: alpha of the beta distribution; 0: none.", min=0, group="Augmentation"
    )
    randaugment: int = option(
        0,
        "RandAugment: magnitude of two random operations per image; 0: none.",
        max=30,
        group="Augmentation",
    )

    tokenizer: str = option("words", "words, or a tokenizer's name or file.", group="Tokenizer")
    vocab_size: int = option(30_000, "Maximum vocabulary size.", min=10, group="Tokenizer")
    max_length: int = option(
        400, "Maximum number of tokens read from a text.", min=8, group="Tokenizer"
    )
    word_dropout: float = option(
        0.0, "Share of a text's words to drop at random.", min=0, max=0.9, group="Augmentation"
    )
    ngrams: int = option(
        2,
        "fasttext, nbsvm, tfidf: longest n-gram of words.",
        min=1,
        max=5,
        group="Architecture",
    )
    vote: Literal["none", "nbsvm", "tfidf"] = option(
        "none",
        "Average the probabilities of a network for texts with those of this model of words and"
        " bigrams, which is fitted first.",
        group="Architecture",
    )
    cost: float = option(
        None,
        "nbsvm, tfidf: weight of the loss beside the L2 penalty (1; tfidf: 10).",
        min=1e-6,
        max=1e6,
        group="Loss",
    )
    interpolation: float = option(
        0.25,
        "nbsvm: share of the fitted weights; the rest is their mean absolute value.",
        min=0,
        max=1,
        group="Architecture",
    )
    ratios_from: str | None = option(
        None,
        "nbsvm: further texts with the same labels, which count for its log-count ratios only.",
        group="Data",
    )
    embedding_size: int = option(128, "Dimension of the word vectors.", min=8, group="Architecture")
    layers: int = option(
        2, "Number of layers of bilstm and transformer.", min=1, group="Architecture"
    )
    sentences: bool = option(
        False,
        "attention: hierarchical attention, over the words of each sentence, then over sentences.",
        group="Architecture",
    )
