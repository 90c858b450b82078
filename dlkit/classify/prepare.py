"""Setup of a training: reads the data and completes the settings."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from dlkit.classify import layouts
from dlkit.classify.config import (
    CROSS_ENTROPY_ONLY,
    DEFAULTS,
    DESCENT_ONLY,
    NGRAMS,
    OF_NGRAMS,
    OWN,
    PUBLISHED,
    ClassifyTrainConfig,
)
from dlkit.classify.data import (
    ImageDataset,
    Preprocessing,
    choose_preprocessing,
    image_classifier_settings,
)
from dlkit.classify.encoders import EncoderInit, encoder_init
from dlkit.classify.text import (
    TextDataset,
    WordVocabulary,
    read_texts,
    text_classifier_settings,
)
from dlkit.classify.torchvision_zoo import find_model
from dlkit.core.config import given_option, non_defaults, option_name, refuse_unused
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.core.store.checkpoint import read_header
from dlkit.core.train.run import Run

MAX_COUNTED = 100_000  # tokens of a text that is only counted
CHOICES = ["width_multiplier", "hidden", "norm", "dropout", "drop_path", "activation", "init"]


@dataclass(frozen=True)
class ImageSetup:
    """The data and settings of the training of an image classifier; `config` is complete."""

    config: ClassifyTrainConfig
    labels: list[str]
    loss: str
    inputs: Preprocessing
    training: ImageDataset
    validation: ImageDataset
    encoder: EncoderInit | None = None  # if the training starts from an autoencoder


def prepare_images(config: ClassifyTrainConfig) -> ImageSetup:
    """Read the data and complete the settings that depend on it."""
    training, held_out = layouts.read_training(config)
    names = training.labels
    splits = [split for split in (training, held_out) if split.samples or split.ledger.places]
    for split in splits:
        split.ledger.use("images", len(split.samples))
    training.ledger.require("images", config.data)
    for split in splits:
        split.ledger.check(config.allowed, config.data)
    if len(names) < 2:
        raise DlkitError(f"only one label ({names[0]}); at least two are needed", config.data)
    loss = config.loss
    if loss == "auto":
        loss = "bce" if training.multi_label else "cross-entropy"
    if training.multi_label and loss != "bce":
        raise DlkitError("images with several labels; give --loss bce", config.data)

    model = find_init_model(config)
    encoder = find_encoder(model, config)
    inherited = encoder.inputs if encoder else read_preprocessing(config.features_from or model)
    inputs = inherited or choose_preprocessing(training.samples, config)
    if config.image_size is not None:
        inputs = replace(inputs, image_size=config.image_size)
    if config.fit != "auto":
        inputs = replace(inputs, fit=config.fit)
    multi_label = loss == "bce"
    pictures = ImageDataset(training.samples, inputs, len(names), multi_label, training.ledger)
    validation = ImageDataset(held_out.samples, inputs, len(names), multi_label, held_out.ledger)
    for split in splits:
        present = {label for sample in split.samples for label in sample.labels}
        split.ledger.report({"images": f"of {len(present)} label{'s' * (len(present) != 1)}"})
        split.ledger.check(config.allowed, config.data)
    training.ledger.require("images", config.data)
    if inherited is None:
        mean, std = pictures.statistics()
        inputs = replace(inputs, mean=mean, std=std)
    flip = config.flip
    if flip is None:
        flip = 0.5 if inputs.channels == 3 else 0.0
    config = replace(config, init_from=model, image_size=inputs.image_size, flip=flip)
    return ImageSetup(config, names, loss, inputs, pictures, validation, encoder)


@dataclass(frozen=True)
class TextSetup:
    """The data and vocabulary of the training of a text classifier.

    `further` are texts that count for the ratios of nbsvm only.
    """

    labels: list[str]
    vocabulary: WordVocabulary
    training: TextDataset
    validation: TextDataset
    ledgers: list[Ledger]
    further: TextDataset | None = None


def prepare_texts(config: ClassifyTrainConfig) -> TextSetup:
    """Read the texts; learn a vocabulary, or take that of the model of --init-from."""
    if config.loss not in {"auto", "cross-entropy"} or config.pretrained:
        raise DlkitError(
            f"--arch {config.arch}: text classifiers have no --pretrained and no other --loss;"
            " remove these options"
        )
    share, seed = config.val_share, config.seed
    texts = read_texts(config.data, config.allowed_rows)
    labels, samples = texts.split("train", None, share, seed)
    _, held_out = texts.split("val", labels, share, seed)
    if config.init_from:
        settings = text_classifier_settings(read_header(find_model(config.init_from)))
        if "vocabulary" not in settings:
            raise DlkitError(
                f"--init-from {config.init_from}: classifies images; give a text model"
            )
        vocabulary = WordVocabulary.from_settings(settings["vocabulary"])
    else:
        known = (text for text, _ in samples)
        vocabulary = WordVocabulary.learn(known, config.vocab_size, config.tokenizer)
    further = None
    if config.ratios_from is not None:
        source = read_texts(Path(config.ratios_from), config.allowed_rows)
        _, counted = source.split("all", labels)
        further = TextDataset(counted, vocabulary, MAX_COUNTED)
        texts.ledgers.extend(source.ledgers)
    return TextSetup(
        labels,
        vocabulary,
        TextDataset(samples, vocabulary, config.max_length, config.word_dropout),
        TextDataset(held_out, vocabulary, config.max_length),
        texts.ledgers,
        further,
    )


def check_options(config: ClassifyTrainConfig) -> None:
    """Raise DlkitError for an option that has no effect on this training."""
    refuse_unused(config, OWN)
    kinds = {config.arch, config.vote}
    for name in non_defaults(config):
        # In the settings of a model that is trained again, defaults are filled in.
        is_default = getattr(config, name) == DEFAULTS[config.arch].get(name)
        if config.arch in NGRAMS and name in DESCENT_ONLY and not is_default:
            raise DlkitError(
                f"{given_option(config, name)} is for gradient descent, not {config.arch}"
            )
        if not kinds & {*OF_NGRAMS.get(name, kinds)}:
            raise DlkitError(
                f"{option_name(name)} is for {', '.join(OF_NGRAMS[name])}; choose that with --arch"
                " or --vote"
            )
    learning_rule = config.arch in {"perceptron", "adaline", "knn"} or config.loss == "triplet"
    for name in non_defaults(config):
        option = option_name(name)
        if name in {"embedding", "margin"} and config.loss != "triplet":
            raise DlkitError(f"{option} goes with --loss triplet; add that or remove {option}")
        if name in CROSS_ENTROPY_ONLY and learning_rule:
            raise DlkitError(f"{option} goes with the cross-entropy loss; remove {option}")


def find_init_model(config: ClassifyTrainConfig) -> str | None:
    """Return the model that initializes the weights; download it if it is a published one."""
    model = config.init_from
    if config.pretrained:
        if model is not None:
            raise DlkitError("--pretrained and --init-from are both given; choose one")
        with_norms = config.arch.startswith("vgg") and config.norm == "batch"
        model = f"{config.arch}{'-bn' if with_norms else ''}-imagenet"
        if model not in PUBLISHED:
            raise DlkitError(
                f"--pretrained: no ImageNet weights of {config.arch}; choose from"
                f" {', '.join(name.removesuffix('-imagenet') for name in PUBLISHED)}"
            )
    if model is not None:
        find_model(model)
    return model


def find_encoder(model: str | None, config: ClassifyTrainConfig) -> EncoderInit | None:
    """Return how an autoencoder initializes this classifier; None for another model."""
    if model is None:
        return None
    encoder = encoder_init(read_header(find_model(model)))
    if encoder is None:
        return None
    if encoder.arch != config.arch:
        raise DlkitError(f"--init-from {model}: its encoder needs --arch {encoder.arch}")
    for name in sorted(encoder.settings.keys() & set(non_defaults(config))):
        raise DlkitError(
            f"{option_name(name)}: the encoder of {model} has {encoder.settings[name]};"
            f" remove {option_name(name)}"
        )
    return encoder


def read_preprocessing(model: str | None) -> Preprocessing | None:
    """Read the preprocessing of the model that initializes the weights."""
    if model is None:
        return None
    header = read_header(find_model(model))
    if header.task != "classify":
        return None
    described = image_classifier_settings(header).get("preprocessing")  # a text model has none
    return Preprocessing(**described) if described else None


def network_settings(
    config: ClassifyTrainConfig,
    num_labels: int,
    inputs: Preprocessing,
    encoder: EncoderInit | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `build()`."""
    outputs = config.embedding if config.loss == "triplet" else num_labels
    settings: dict[str, Any] = {
        "num_labels": outputs,
        "image_size": inputs.image_size,
        "channels": inputs.channels,
    }
    defaults = {field.name: field.default for field in fields(config)}
    # build() rejects settings that the architecture lacks.
    chosen = {name: getattr(config, name) for name in CHOICES}
    settings |= {name: value for name, value in chosen.items() if value != defaults[name]}
    if encoder:
        settings |= encoder.settings
    if config.loss == "triplet":
        settings["unit_length"] = True
    return settings


def freeze(model: nn.Module, what: str) -> list[nn.Module]:
    """Freeze `features`, or the first N layers with weights; return the frozen modules.

    Keep these in eval mode, so that their batch norm statistics stay fixed, too.
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
        raise DlkitError(f"--freeze {what}: unknown; give a number of layers, or features")
    for module in frozen:
        module.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise DlkitError(f"--freeze {what}: freezes the whole network; freeze fewer layers")
    return frozen


def check_frozen(run: Run, frozen: Sequence[nn.Module], config: ClassifyTrainConfig) -> None:
    """Raise DlkitError if a frozen layer does not have the weights of --init-from.

    The frozen layers of a resumed run were checked when it started.
    """
    if not frozen or run.state:
        return
    if config.init_from is None:
        raise DlkitError(
            f"--freeze {config.freeze}: the frozen layers have no trained weights; add --init-from"
            " or --pretrained"
        )
    tensors = {id(t) for module in frozen for t in (*module.parameters(), *module.buffers())}
    for name, tensor in run.model.state_dict(keep_vars=True).items():
        if id(tensor) in tensors and name in run.misfits:
            raise DlkitError(
                f"--freeze {config.freeze}: the weights of {config.init_from} do not fit:"
                f" {run.misfits[name]}; train with the settings of that model, or freeze fewer"
                " layers"
            )
