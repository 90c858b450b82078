"""From image files to labels: `classify()`, and what evaluation, search and training share with it.

Shapes: B images of a batch, C channels, S x S pixels, L labels, D numbers of a descriptor.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from dlkit.classify import torchvision_zoo
from dlkit.classify.config import DEFAULT_MODEL, PUBLISHED
from dlkit.classify.data import Preprocessing
from dlkit.classify.model import build
from dlkit.classify.models.dense import dense
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.network import Network
from dlkit.classify.models.text import TEXT_ARCHITECTURES
from dlkit.classify.text import Vocabulary, padded
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.parallel import device
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture


@dataclass(frozen=True)
class Prediction:
    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """The labels of one image or text, best first."""

    columns: ClassVar = ["path", "label", "score"]

    path: str
    labels: list[Prediction]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(guess)} for guess in self.labels]


@dataclass(frozen=True)
class Classifier:
    """A network ready to predict, and what belongs to it.

    `several` where an image may have any number of labels; `descriptor` where the network was
    trained to describe images (triplet loss), not to name them.
    """

    network: nn.Module  # a Network, or one that wraps it
    labels: list[str]
    preprocessing: Preprocessing
    device: torch.device
    multi_label: bool = False
    descriptor: bool = False
    autocast: str = "fp32"  # in training, whose weights stay fp32; prepared ones need none
    dealt: tuple[float, int] = (0.1, 0)  # share and seed by which splits that lack were made

    @torch.inference_mode()
    def outputs(self, pixels: Tensor) -> Tensor:
        """What the network says (B, L), in fp32 on the CPU, of uint8 images (B, C, S, S)."""
        dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        with device.autocast(self.device, self.autocast):
            inputs = self.preprocessing.normalize(pixels.to(self.device)).to(dtype)
            logits: Tensor = self.network(inputs)
        return logits.float().cpu()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Of each label (..., L): they sum to one, or with `several` each stands for itself."""
        return outputs.sigmoid() if self.multi_label else outputs.softmax(dim=-1)


@dataclass(frozen=True)
class TextClassifier:
    """A network for texts, and what belongs to it."""

    network: Any  # one of models.text.TEXT_ARCHITECTURES
    labels: list[str]
    vocabulary: Vocabulary
    max_length: int
    device: torch.device
    autocast: str = "auto"
    dealt: tuple[float, int] = (0.1, 0)  # share and seed by which splits that lack were made

    @torch.inference_mode()
    def outputs(self, ids: Tensor) -> Tensor:
        """Logits (B, L) in fp32 on the CPU of texts' ids (B, T)."""
        with device.autocast(self.device, self.autocast):
            logits: Tensor = self.network(ids.to(self.device))
        return logits.float().cpu()


def is_for_texts(model: str) -> bool:
    """Whether the model of that name, file or URL classifies texts, not images."""
    if model in PUBLISHED:
        return False
    path = weights.find("classify", model, PUBLISHED)
    return checkpoint.read_header(path).arch in TEXT_ARCHITECTURES


def load_for_texts(
    model: str, device_name: str = "auto", precision: str = "auto"
) -> TextClassifier:
    """The text classifier of that name, file or URL, in its inference form on the device."""
    header, network = read(model)
    if header.arch not in TEXT_ARCHITECTURES:
        raise DlkitError(f"{model} classifies images, not texts")
    chosen = device.choose(device_name)
    return TextClassifier(
        network.eval().to(chosen),
        header.labels,
        Vocabulary.from_settings(header.settings["vocabulary"]),
        header.settings["max_length"],
        chosen,
        precision,
        dealt_of(header),
    )


def dealt_of(header: checkpoint.Header) -> tuple[float, int]:
    return header.config.get("val_share", 0.1), header.config.get("seed", 0)


def load(
    model: str = DEFAULT_MODEL, device_name: str = "auto", precision: str = "auto"
) -> Classifier:
    """The image classifier of that name, file or URL, in its inference form on the device."""
    header, network = read(model)
    if not isinstance(network, Network):
        raise DlkitError(f"{model} classifies texts, not images")
    chosen = device.choose(device_name)
    device.tune_malloc()
    network = fuse(network).to(chosen).to(memory_format=torch.channels_last)
    # Near neighbors differ by less than bf16 can tell.
    network.to(torch.float32 if header.arch == "knn" else device.dtype(chosen, precision))
    settings = header.settings
    return Classifier(
        network,
        header.labels,
        Preprocessing(**settings["preprocessing"]),
        chosen,
        multi_label=settings["loss"] == "bce",
        descriptor=settings["loss"] == "triplet",
        dealt=dealt_of(header),
    )


def read(model: str) -> tuple[checkpoint.Header, nn.Module]:
    """Header and network of a model, on the CPU in fp32."""
    if model in PUBLISHED:
        path = torchvision_zoo.fetch(model)
    else:
        path = weights.find("classify", model, PUBLISHED)
    header, tensors = checkpoint.load(path, "classify")
    try:
        make = TEXT_ARCHITECTURES.get(header.arch) or partial(build, header.arch)
        network = make(**header.settings["network"])
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{model}: its weights or settings do not fit the architecture {header.arch};"
            f" it was made by dlkit {header.dlkit}"
        ) from error
    return header, network


def ensemble(models: Sequence[str], device_name: str, precision: str) -> list[Classifier]:
    """Classifiers whose probabilities can be averaged: they know the same labels."""
    classifiers = [load(model, device_name, precision) for model in models]
    check_votes(models, classifiers)
    return classifiers


def check_votes(models: Sequence[str], classifiers: Sequence[Classifier]) -> None:
    """Raise DlkitError unless the classifiers, which came of `models`, can vote together."""
    first = classifiers[0]
    for model, classifier in zip(models, classifiers, strict=True):
        if classifier.descriptor:
            raise DlkitError(f"{model} describes images and names no labels: use it in search")
        if (
            sorted(classifier.labels) != sorted(first.labels)
            or classifier.multi_label != first.multi_label
        ):
            raise DlkitError(f"{model} knows other labels than {models[0]}: they cannot vote")


def classify(
    paths: Iterable[str],
    classifiers: Sequence[Classifier],
    top: int = 1,
    threshold: float | None = None,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Classification | Failure]:
    """The labels of each image, in input order; a Failure for one that cannot be read.

    Labels below `threshold` are left out: by default below 0.5 where an image may have several,
    else none. Of several classifiers the probabilities are averaged. Only the `shard` of the images
    is classified; without one, the processes under torchrun share them.
    """
    names, multi_label = classifiers[0].labels, classifiers[0].multi_label
    lowest = threshold if threshold is not None else 0.5 if multi_label else 0.0
    most = len(names) if multi_label and top == 1 else top

    def results(shared: Iterator[str]) -> Iterator[Classification | Failure]:
        shared = track(shared, "classifying")
        for path, found in averaged(shared, classifiers, batch_size, workers):
            if isinstance(found, Failure):
                yield found
            else:
                yield Classification(path, best(found, names, most, lowest))

    return map_shard(results, images.files(paths), str(classifiers[0].device), shard)


@dataclass(frozen=True)
class ClassMap:
    """What an image shows where: the best label at each place, rows from the top.

    `scores` are its probabilities; x and y are the middles of the places' windows, in pixels of
    the image as shown.
    """

    columns: ClassVar = ["path", "x", "y", "label", "score"]

    path: str
    x: list[float]
    y: list[float]
    labels: list[list[str]]
    scores: list[list[float]]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"path": self.path, "x": x, "y": y, "label": label, "score": score}
            for y, labels, scores in zip(self.y, self.labels, self.scores, strict=True)
            for x, label, score in zip(self.x, labels, scores, strict=True)
        ]


def class_maps(
    paths: Iterable[str],
    classifier: Classifier,
    side: int | None = None,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[ClassMap | Failure]:
    """The map of labels of each image, which may be larger than the network's input.

    The head is applied at every place as a convolution (Sermanet et al. 2014). `side` is the
    longest side the network sees; default: the image's own. Only the `shard` of the images is
    looked at; without one, the processes under torchrun share them.
    """
    network = dense(cast(Network, classifier.network), classifier.preprocessing.image_size)
    network.to(memory_format=torch.channels_last)

    def read_one(path: str) -> tuple[str, Picture]:
        return path, images.read(path, side)

    def results(shared: Iterator[str]) -> Iterator[ClassMap | Failure]:
        for entry in each(read_one, track(shared, "classifying"), workers):
            if isinstance(entry, Failure):
                yield entry
                continue
            try:
                yield class_map(*entry, classifier, network)
            except DlkitError as error:
                yield Failure(entry[0], str(error))

    return map_shard(results, images.files(paths), str(classifier.device), shard)


@torch.inference_mode()
def class_map(path: str, picture: Picture, classifier: Classifier, network: nn.Module) -> ClassMap:
    pixels = classifier.preprocessing.colored(picture).pixels
    height, width = pixels.shape[1:]
    window = classifier.preprocessing.image_size
    if min(height, width) < window:
        raise DlkitError(
            f"{width} x {height} pixels: --dense needs {window} a side; a larger --image-size helps"
        )
    dtype = next(p.dtype for p in network.parameters())
    inputs = classifier.preprocessing.normalize(pixels[None].to(classifier.device)).to(dtype)
    logits = network(inputs)[0].float().cpu()
    values, best_labels = classifier.probabilities(logits.movedim(0, -1)).max(dim=-1)
    rows, columns = values.shape
    # Windows lie evenly from edge to edge.
    y = torch.linspace(window / 2, height - window / 2, rows) * picture.height / height
    x = torch.linspace(window / 2, width - window / 2, columns) * picture.width / width
    return ClassMap(
        path,
        [round(float(value), 1) for value in x],
        [round(float(value), 1) for value in y],
        [[classifier.labels[index] for index in row] for row in best_labels.tolist()],
        [[round(value, 4) for value in row] for row in values.tolist()],
    )


@dataclass(frozen=True)
class TextClassification:
    """The labels of one text, best first."""

    columns: ClassVar = ["label", "score"]

    text: str
    labels: list[Prediction]

    def rows(self) -> list[dict[str, Any]]:
        return [vars(guess) for guess in self.labels]


def classify_texts(
    texts: Iterable[str],
    classifiers: Sequence[TextClassifier],
    top: int = 1,
    threshold: float = 0.0,
    batch_size: int = 64,
    shard: Shard | None = None,
) -> Iterator[TextClassification]:
    """The labels of each text, in input order; Of several classifiers, by their mean.

    The first answer comes as soon as one text is read: a stream stays a stream. Only the `shard` of
    the texts is classified; without one, the processes under torchrun share them.
    """
    names = classifiers[0].labels

    def results(shared: Iterator[str]) -> Iterator[TextClassification]:
        window = 1
        while batch := list(islice(shared, window)):
            for text, row in zip(batch, text_probabilities(classifiers, batch), strict=True):
                yield TextClassification(text, best(row, names, top, threshold))
            window = min(2 * window, batch_size)

    return map_shard(results, texts, str(classifiers[0].device), shard)


def text_probabilities(classifiers: Sequence[TextClassifier], texts: Sequence[str]) -> Tensor:
    """The probability of each label (B, L), the mean over classifiers."""
    votes = []
    for classifier in classifiers:
        order = [classifier.labels.index(name) for name in classifiers[0].labels]
        ids = padded(classifier.vocabulary.encode_batch(texts, classifier.max_length))
        votes.append(classifier.outputs(ids).softmax(dim=1)[:, order])
    return torch.stack(votes).mean(dim=0)


def text_ensemble(models: Sequence[str], device_name: str, precision: str) -> list[TextClassifier]:
    """Classifiers whose probabilities can be averaged: they know the same labels."""
    classifiers = [load_for_texts(model, device_name, precision) for model in models]
    for model, classifier in zip(models, classifiers, strict=True):
        if sorted(classifier.labels) != sorted(classifiers[0].labels):
            raise DlkitError(f"{model} knows other labels than {models[0]}: they cannot vote")
    return classifiers


def best(scores: Tensor, names: Sequence[str], top: int, threshold: float) -> list[Prediction]:
    """The labels with the highest scores, rounded to what is meaningful."""
    values, order = scores.topk(min(top, len(names)))
    pairs = zip(values.tolist(), order.tolist(), strict=True)
    return [
        Prediction(names[index], round(value, 4)) for value, index in pairs if value >= threshold
    ]


def averaged(
    paths: Iterable[str], classifiers: Sequence[Classifier], batch_size: int, workers: int
) -> Iterator[tuple[str, Tensor | Failure]]:
    """Each path with its probabilities (L,), the mean over classifiers, or with its Failure."""
    paths = iter(paths)
    names = classifiers[0].labels
    while window := list(islice(paths, 4 * batch_size)):
        votes = []
        for classifier in classifiers:
            order = [classifier.labels.index(name) for name in names]
            found = [out for _, out in predict(classifier, window, batch_size, workers)]
            votes.append(
                [
                    out if isinstance(out, Failure) else classifier.probabilities(out)[order]
                    for out in found
                ]
            )
        for path, of_path in zip(window, zip(*votes, strict=True), strict=True):
            failure = next((vote for vote in of_path if isinstance(vote, Failure)), None)
            yield path, failure or torch.stack(of_path).mean(dim=0)


def predict(
    classifier: Classifier, paths: Iterable[str], batch_size: int = 64, workers: int = 2
) -> Iterator[tuple[str, Tensor | Failure]]:
    """Each path with the network's output for it (L,), or its Failure, in order.

    Images are decoded ahead in threads.
    """

    def read_one(path: str) -> tuple[str, Tensor]:
        return path, classifier.preprocessing.read(path)

    decoded = each(read_one, paths, workers)
    while window := list(islice(decoded, batch_size)):
        pixels = [entry[1] for entry in window if not isinstance(entry, Failure)]
        outputs = iter(classifier.outputs(torch.stack(pixels)) if pixels else torch.empty(0))
        for entry in window:
            yield (entry.path, entry) if isinstance(entry, Failure) else (entry[0], next(outputs))
