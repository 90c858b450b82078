"""What a training starts from: its data, and the settings that the data or the start decides."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from dlkit.classify import layouts, torchvision_zoo
from dlkit.classify.config import (
    OF_CROSS_ENTROPY,
    ONLY,
    PUBLISHED,
    RECIPES,
    TEXTS,
    ClassifyTrainConfig,
)
from dlkit.classify.data import Pictures, Preprocessing, preprocessing
from dlkit.classify.encoders import Start, start_of
from dlkit.classify.text import Texts, Vocabulary, read_texts
from dlkit.core.config import non_defaults, option_name
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.weights import find

CHOICES = ["width_multiplier", "hidden", "norm", "dropout", "drop_path", "activation", "init"]


@dataclass(frozen=True)
class Prepared:
    """What a training starts from; `config` has everything decided that was left open."""

    config: ClassifyTrainConfig
    labels: list[str]
    loss: str
    inputs: Preprocessing
    training: Pictures
    validation: Pictures
    encoder: Start | None = None  # where an autoencoder's is taken over


def prepared(config: ClassifyTrainConfig) -> Prepared:
    """Read the data, and decide what the settings leave to it."""
    share, seed = config.val_share, config.seed
    training = layouts.read_split(config.data, "train", None, share, seed)
    held_out = layouts.read_split(config.data, "val", training.labels, share, seed)
    names = training.labels
    if len(names) < 2:
        raise DlkitError(f"{config.data}: one label only ({names[0]}): there is nothing to tell")
    loss = config.loss
    if loss == "auto":
        loss = "bce" if training.multi_label else "cross-entropy"
    if training.multi_label and loss != "bce":
        raise DlkitError(f"{config.data}: images with several labels need --loss bce")

    model = start(config)
    encoder = encoder_of(model, config)
    taken_over = encoder.inputs if encoder else source(config.features_from or model)
    inputs = taken_over or preprocessing(training.samples, config)
    if config.image_size is not None:
        inputs = replace(inputs, image_size=config.image_size)
    if config.fit != "auto":
        inputs = replace(inputs, fit=config.fit)
    multi_label = loss == "bce"
    pictures = Pictures(training.samples, inputs, len(names), multi_label, training.skipped)
    validation = Pictures(held_out.samples, inputs, len(names), multi_label, held_out.skipped)
    if taken_over is None:
        mean, std = pictures.statistics()
        inputs = replace(inputs, mean=mean, std=std)
    flip = config.flip
    if flip is None:
        flip = 0.5 if inputs.channels == 3 else 0.0
    for part in (training, held_out):
        part.skipped.report()
    skipped = training.skipped.lines() + held_out.skipped.lines()
    if skipped and config.strict:
        raise DlkitError(f"--strict: {len(skipped)} samples cannot be used; first: {skipped[0]}")
    config = replace(config, init_from=model, image_size=inputs.image_size, flip=flip)
    return Prepared(config, names, loss, inputs, pictures, validation, encoder)


@dataclass(frozen=True)
class PreparedTexts:
    """What the training of a text classifier starts from."""

    labels: list[str]
    vocabulary: Vocabulary
    training: Texts
    validation: Texts


def prepared_texts(config: ClassifyTrainConfig) -> PreparedTexts:
    """Read the texts, and learn their words, or take over those of the model to start from."""
    if config.loss not in {"auto", "cross-entropy"} or config.pretrained:
        raise DlkitError(
            f"{config.arch} has one label a text: no --pretrained, and no other --loss"
        )
    share, seed = config.val_share, config.seed
    labels, samples, skipped = read_texts(config.data, "train", None, share, seed)
    _, held_out, left_out = read_texts(config.data, "val", labels, share, seed)
    lines = skipped.lines() + left_out.lines()
    if lines and config.strict:
        raise DlkitError(f"--strict: {len(lines)} samples cannot be used; first: {lines[0]}")
    if config.init_from:
        settings = read_header(find("classify", config.init_from)).settings
        if "vocabulary" not in settings:
            raise DlkitError(f"{config.init_from} classifies images: its weights do not fit texts")
        vocabulary = Vocabulary.from_settings(settings["vocabulary"])
    else:
        known = (text for text, _ in samples)
        vocabulary = Vocabulary.learn(known, config.vocab_size, config.tokenizer)
    return PreparedTexts(
        labels,
        vocabulary,
        Texts(samples, vocabulary, config.max_length, config.word_dropout),
        Texts(held_out, vocabulary, config.max_length),
    )


def refuse_unused(config: ClassifyTrainConfig) -> None:
    """Raise DlkitError for an option that was given and would do nothing."""
    kinds = {config.arch, "texts" if config.arch in TEXTS else "images"}
    refused = {name: archs for archs, names in ONLY.items() for name in names}
    for name in non_defaults(config):
        option = option_name(name)
        if name in refused and not kinds & set(refused[name]):
            raise DlkitError(f"{option} is for {', '.join(refused[name])}, not for {config.arch}")
        if name in {"embedding", "margin"} and config.loss != "triplet":
            raise DlkitError(f"{option} goes with --loss triplet")
        rule = config.arch in {"perceptron", "adaline", "knn"} or config.loss == "triplet"
        if name in OF_CROSS_ENTROPY and rule:
            raise DlkitError(f"{option} goes with cross-entropy, which is not learned by here")


def with_recipe(config: ClassifyTrainConfig) -> ClassifyTrainConfig:
    """The settings, with the architecture's own where they were left at their defaults."""
    defaults = {field.name: field.default for field in fields(config)}
    recipe: dict[str, Any] = RECIPES.get(config.arch, {})
    left = {name: v for name, v in recipe.items() if getattr(config, name) == defaults[name]}
    return replace(config, **left)


def start(config: ClassifyTrainConfig) -> str | None:
    """The model whose weights the training starts from, fetched if it is a published one."""
    model = config.init_from
    if config.pretrained:
        if model is not None:
            raise DlkitError("--pretrained and --init-from are two starts: choose one")
        with_norms = config.arch.startswith("vgg") and config.norm == "batch"
        model = f"{config.arch}{'-bn' if with_norms else ''}-imagenet"
        if model not in PUBLISHED:
            raise DlkitError(
                f"there are no ImageNet weights of {config.arch}: there are those of"
                f" {', '.join(name.removesuffix('-imagenet') for name in PUBLISHED)}"
            )
    if model in PUBLISHED:
        torchvision_zoo.fetch(model)
    return model


def encoder_of(model: str | None, config: ClassifyTrainConfig) -> Start | None:
    """How the weights of an autoencoder start this classifier; None where they are of another."""
    if model is None:
        return None
    encoder = start_of(read_header(find("classify", model, PUBLISHED)))
    if encoder is None:
        return None
    if encoder.arch != config.arch:
        raise DlkitError(f"{model} is an autoencoder, whose encoder starts --arch {encoder.arch}")
    for name in sorted(encoder.settings.keys() & set(non_defaults(config))):
        raise DlkitError(f"{option_name(name)} is the encoder's own: {encoder.settings[name]}")
    return encoder


def source(model: str | None) -> Preprocessing | None:
    """How the images of the model were prepared from which weights start."""
    if model is None:
        return None
    header = read_header(find("classify", model, PUBLISHED))
    described = header.settings.get("preprocessing") if header.task == "classify" else None
    return Preprocessing(**described) if described else None


def network_settings(
    config: ClassifyTrainConfig,
    num_labels: int,
    inputs: Preprocessing,
    encoder: Start | None = None,
) -> dict[str, Any]:
    """The keyword arguments of `build()`: those settings that the architecture has."""
    outputs = config.embedding if config.loss == "triplet" else num_labels
    settings: dict[str, Any] = {
        "num_labels": outputs,
        "image_size": inputs.image_size,
        "channels": inputs.channels,
    }
    defaults = {field.name: field.default for field in fields(config)}
    # Others are refused by build(), if the architecture does not have them.
    chosen = {name: getattr(config, name) for name in CHOICES}
    settings |= {name: value for name, value in chosen.items() if value != defaults[name]}
    if encoder:
        settings |= encoder.settings
    if config.loss == "triplet":
        settings["unit_length"] = True
    return settings


def freeze(model: nn.Module, what: str) -> list[nn.Module]:
    """Take `features`, or the first N layers with weights, out of training; the frozen modules.

    They are to stay in eval mode, so that the statistics of their norms stay as well.
    """
    if not what:
        return []
    if what == "features":
        frozen: list[nn.Module] = [model.get_submodule("features")]
    elif what.isdigit():
        layers = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
        weighted = [n for n, m in enumerate(layers) if isinstance(m, (nn.Conv2d, nn.Linear))]
        end = weighted[int(what)] if int(what) < len(weighted) else len(layers)
        frozen = layers[:end]
    else:
        raise DlkitError(f"--freeze {what}: give a number of layers, or features")
    for module in frozen:
        module.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise DlkitError(f"--freeze {what} leaves nothing to train")
    return frozen


def name_skipped(folder: Path, data: Prepared, process: Process) -> None:
    """skipped.txt: what was left out, and why."""
    lines = data.training.skipped.lines() + data.validation.skipped.lines()
    if lines and process.is_main:
        with whole_file(folder / "skipped.txt") as partial:
            partial.write_text("\n".join(lines) + "\n")
