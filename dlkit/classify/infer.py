"""Inference: `classify()` and `classify_texts()`; evaluation and search build on it.

Shapes: B images of a batch, C channels, S x S pixels, L labels, D numbers of a descriptor.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal, TypedDict, cast

import torch
from torch import Tensor, nn

from dlkit.classify.config import DEFAULT_MODEL, TEXTS, TestViews
from dlkit.classify.data import Preprocessing, image_classifier_settings
from dlkit.classify.model import build
from dlkit.classify.models.dense import dense
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.network import Network
from dlkit.classify.models.ngrams import NGRAM_MODELS, Vote
from dlkit.classify.models.text import TEXT_ARCHITECTURES, TextNetwork
from dlkit.classify.text import WordVocabulary, pad_ids, text_classifier_settings
from dlkit.classify.torchvision_zoo import find_model
from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io import image_files
from dlkit.core.io.results import Result, note_nothing, nothing_above
from dlkit.core.io.text import Line
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, schema
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.core.vision.results import ImageResult


class VoteSettings(TypedDict):
    """The model that votes with a network in its header: its architecture, and its arguments."""

    arch: Literal["nbsvm", "tfidf"]


@dataclass(frozen=True)
class Prediction:
    """A label with its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification(ImageResult):
    """The labels of one image or text, best first."""

    noun: ClassVar = "image"
    columns: ClassVar = ["path", "label", "score"]

    path: str
    labels: list[Prediction]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(prediction)} for prediction in self.labels]


@dataclass(frozen=True)
class Classifier:
    """An image classifier ready to predict: the network with its labels and preprocessing.

    `multi_label`: an image may have any number of labels. `descriptor`: the network was trained
    with the triplet loss, so its outputs are descriptors, not logits. `test_views` "mirror": the
    outputs are the mean of those of an image and of its mirror image.
    """

    network: nn.Module  # a Network, or a LayerDescriber around one
    labels: list[str]
    preprocessing: Preprocessing
    device: torch.device
    multi_label: bool = False
    descriptor: bool = False
    autocast: str = "fp32"  # precision of autocast: for training, whose weights stay fp32
    draw: Draw = Draw()  # of splits that the data lacks
    test_views: TestViews = "one"

    @torch.inference_mode()
    def outputs(self, pixels: Tensor) -> Tensor:
        """Return the outputs (B, L), fp32 on the CPU, for uint8 images (B, C, S, S)."""
        if self.test_views == "mirror":
            return (self.view_outputs(pixels) + self.view_outputs(pixels.flip(-1))) / 2
        return self.view_outputs(pixels)

    def view_outputs(self, pixels: Tensor) -> Tensor:
        """Return the outputs (B, L) of one view of each image."""
        dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        with devices.autocast(self.device, self.autocast):
            inputs = self.preprocessing.normalize(pixels.to(self.device)).to(dtype)
            logits: Tensor = self.network(inputs)
        return logits.float().cpu()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return label probabilities (..., L): softmax, or sigmoid for multi-label models."""
        return outputs.sigmoid() if self.multi_label else outputs.softmax(dim=-1)


@dataclass(frozen=True)
class TextClassifier:
    """A text classifier ready to predict: the network with its labels and vocabulary."""

    network: TextNetwork
    labels: list[str]
    vocabulary: WordVocabulary
    max_length: int
    device: torch.device
    autocast: str = "auto"
    draw: Draw = Draw()  # of splits that the data lacks

    @torch.inference_mode()
    def outputs(self, ids: Tensor) -> Tensor:
        """Return the logits (B, L), fp32 on the CPU, for token ids (B, T)."""
        with devices.autocast(self.device, self.autocast):
            logits: Tensor = self.network(ids.to(self.device))
        return logits.float().cpu()


def load_text_classifier(
    model: str, device: str = "auto", precision: str = "auto"
) -> TextClassifier:
    """Load the text classifier with this name, file or URL onto the device."""
    header, network = load_network(model)
    if not isinstance(network, TextNetwork):
        raise DlkitError("classifies images; choose a text model, such as reviews", model)
    chosen = devices.choose(device)
    settings = text_classifier_settings(header)
    vocabulary = WordVocabulary.from_settings(settings["vocabulary"])
    if len(vocabulary) > settings["network"].get("vocab_size", 0):
        raise DlkitError("its vocabulary has more words than its network", model)
    return TextClassifier(
        network.eval().to(chosen),
        header.labels,
        vocabulary,
        settings["max_length"],
        chosen,
        precision,
        Draw.of(header.config),
    )


def load(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Classifier:
    """Load the image classifier with this name, file or URL onto the device, fused."""
    header, network = load_network(model)
    if not isinstance(network, Network):
        raise DlkitError("classifies texts; choose an image model, such as cifar10", model)
    chosen = devices.choose(device)
    devices.tune_malloc()
    network = fuse(network).to(chosen).to(memory_format=torch.channels_last)
    # bf16 cannot resolve the distances between near neighbors.
    network.to(torch.float32 if header.arch == "knn" else devices.dtype(chosen, precision))
    settings = image_classifier_settings(header)
    return Classifier(
        network,
        header.labels,
        Preprocessing(**settings["preprocessing"]),
        chosen,
        multi_label=settings["loss"] == "bce",
        descriptor=settings["loss"] == "triplet",
        draw=Draw.of(header.config),
    )


def load_network(
    model: str, initialize: bool = False
) -> tuple[checkpoint.Header, Network | TextNetwork]:
    """Load the header and the network of a model, in fp32 on the CPU.

    `initialize` is as in `restore`.
    """
    return restore(find_model(model), "classify", build_network, model, initialize)


def build_network(header: checkpoint.Header) -> Network | TextNetwork:
    """Build the untrained network described by a header."""
    if header.arch in TEXTS:
        text = text_classifier_settings(header)
        check_outputs(header, text["network"], text.get("loss"))
        return build_text_network(header.arch, text["network"])
    settings = image_classifier_settings(header)
    check_outputs(header, settings["network"], settings["loss"])
    return schema.call(build, settings["network"], header.arch)


def build_text_network(arch: str, settings: dict[str, Any]) -> TextNetwork:
    """Build an untrained network for texts, and the model of n-grams that votes with it, if any."""
    own = {name: value for name, value in settings.items() if name != "vote"}
    network: TextNetwork = schema.call({**TEXT_ARCHITECTURES, **NGRAM_MODELS}[arch], own)
    if settings.get("vote") is None:
        return network
    vote = schema.fit(VoteSettings, settings["vote"], "vote", foreign=True)
    given = {name: value for name, value in vote.items() if name != "arch"}
    for name in ("num_labels", "vocab_size"):
        if given.get(name) != own.get(name):
            raise DlkitError(f"its two models have different {name}")
    return Vote(network, schema.call(NGRAM_MODELS[vote["arch"]], given))


def check_outputs(header: checkpoint.Header, network: dict[str, Any], loss: str | None) -> None:
    """Raise DlkitError unless the network has an output for each label; descriptors have none."""
    if loss != "triplet" and network.get("num_labels") != len(header.labels):
        raise DlkitError(f"{len(header.labels)} labels, but not as many outputs")


def load_ensemble(
    models: Sequence[str], device: str, precision: str, test_views: TestViews = "one"
) -> list[Classifier]:
    """Load classifiers with the same labels, whose probabilities can be averaged."""
    classifiers = [replace(load(one, device, precision), test_views=test_views) for one in models]
    check_same_labels(models, classifiers)
    return classifiers


def check_same_labels(models: Sequence[str], classifiers: Sequence[Classifier]) -> None:
    """Raise DlkitError unless the classifiers, loaded from `models`, have the same labels."""
    first = classifiers[0]
    for model, classifier in zip(models, classifiers, strict=True):
        if classifier.descriptor:
            raise DlkitError("predicts descriptors, not labels; use it with search", model)
        if (
            sorted(classifier.labels) != sorted(first.labels)
            or classifier.multi_label != first.multi_label
        ):
            raise different_labels(model, models[0])


def different_labels(model: str, first: str) -> DlkitError:
    """Return the error for an ensemble of models with different labels."""
    return DlkitError(f"its labels differ from those of {first}; choose another model", model)


def classify(
    paths: Iterable[str],
    classifiers: Sequence[Classifier],
    top: int = 1,
    threshold: float | None = None,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Classification | Failure]:
    """Yield the labels of each image, in input order; a Failure for an unreadable one.

    Labels that score below `threshold` are skipped; it defaults to 0.5 for multi-label models and
    to 0 for others. The probabilities of several classifiers are averaged. Only the images of
    `shard` are classified; without one, the processes under torchrun share them.
    """
    names, multi_label = classifiers[0].labels, classifiers[0].multi_label
    lowest = threshold if threshold is not None else 0.5 if multi_label else 0.0
    most = len(names) if multi_label and top == 1 else top

    def results(shared: Iterator[str]) -> Iterator[Classification | Failure]:
        shared = track(shared, "classifying")
        for path, found in predict_mean(shared, classifiers, batch_size, workers):
            if isinstance(found, Failure):
                yield found
            else:
                result = Classification(path, top_labels(found, names, most, lowest))
                note_best(result, path, found, names, lowest)
                yield result

    return map_shard(results, image_files.files(paths), str(classifiers[0].device), shard)


@dataclass(frozen=True)
class ClassMap(ImageResult):
    """The best label at each position of an image, in rows from the top.

    `scores` are the labels' probabilities; x and y are the centers of the windows, in pixels of
    the upright image.
    """

    noun: ClassVar = "image"
    units: ClassVar = {"x": "px", "y": "px"}
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
    """Yield a map of labels for each image, which may be larger than the network's input.

    The head is applied at every position as a convolution (Sermanet et al. 2014). Images are
    resized to the longest side `side`; default: their own. Only the images of `shard` are
    processed; without one, the processes under torchrun share them.
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
                yield Failure(entry[0], error.reason_for(entry[0]))

    return map_shard(results, image_files.files(paths), str(classifier.device), shard)


@torch.inference_mode()
def class_map(path: str, picture: Picture, classifier: Classifier, network: nn.Module) -> ClassMap:
    """Compute the map of labels of a decoded image with a fully convolutional network."""
    pixels = classifier.preprocessing.match_channels(picture).pixels
    height, width = pixels.shape[1:]
    window = classifier.preprocessing.image_size
    if min(height, width) < window:
        raise DlkitError(
            f"{width} x {height} pixels: --dense needs {window} a side; give a larger --image-size"
        )
    dtype = next(p.dtype for p in network.parameters())
    inputs = classifier.preprocessing.normalize(pixels[None].to(classifier.device)).to(dtype)
    logits = network(inputs)[0].float().cpu()
    values, best_labels = classifier.probabilities(logits.movedim(0, -1)).max(dim=-1)
    rows, columns = values.shape
    # The windows are evenly spaced from edge to edge.
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
class TextClassification(Result):
    """The labels of one text, best first."""

    noun: ClassVar = "text"
    columns: ClassVar = ["label", "score"]

    text: str
    labels: list[Prediction]

    def rows(self) -> list[dict[str, Any]]:
        return [vars(prediction) for prediction in self.labels]


def classify_texts(
    texts: Iterable[Line],
    classifiers: Sequence[TextClassifier],
    top: int = 1,
    threshold: float = 0.0,
    batch_size: int = 64,
    shard: Shard | None = None,
) -> Iterator[TextClassification]:
    """Yield the labels of each text, in input order, from the mean of the classifiers.

    Batches grow from one text, so that the first result of a stream comes without delay. Only the
    texts of `shard` are classified; without one, the processes under torchrun share them.
    """
    names = classifiers[0].labels

    def results(shared: Iterator[str]) -> Iterator[TextClassification]:
        window = 1
        while batch := list(islice(shared, window)):
            for text, row in zip(batch, text_probabilities(classifiers, batch), strict=True):
                result = TextClassification(text, top_labels(row, names, top, threshold))
                note_best(result, repr(text), row, names, threshold)
                yield result
            window = min(2 * window, batch_size)

    return map_shard(results, texts, str(classifiers[0].device), shard)


def text_probabilities(classifiers: Sequence[TextClassifier], texts: Sequence[str]) -> Tensor:
    """Return the label probabilities (B, L) of texts, averaged over the classifiers."""
    votes = []
    for classifier in classifiers:
        order = [classifier.labels.index(name) for name in classifiers[0].labels]
        ids = pad_ids(classifier.vocabulary.encode_batch(texts, classifier.max_length))
        votes.append(classifier.outputs(ids).softmax(dim=1)[:, order])
    return torch.stack(votes).mean(dim=0)


def load_text_ensemble(models: Sequence[str], device: str, precision: str) -> list[TextClassifier]:
    """Load text classifiers with the same labels, whose probabilities can be averaged."""
    classifiers = [load_text_classifier(model, device, precision) for model in models]
    check_same_text_labels(models, classifiers)
    return classifiers


def check_same_text_labels(models: Sequence[str], classifiers: Sequence[TextClassifier]) -> None:
    """Raise DlkitError unless the classifiers, loaded from `models`, have the same labels."""
    for model, classifier in zip(models, classifiers, strict=True):
        if sorted(classifier.labels) != sorted(classifiers[0].labels):
            raise different_labels(model, models[0])


def top_labels(
    scores: Tensor, names: Sequence[str], top: int, threshold: float
) -> list[Prediction]:
    """Return the `top` labels with the highest scores, rounded to four digits."""
    if not scores.isfinite().all():
        raise DlkitError("the model's outputs are not finite numbers; train or get it again")
    values, order = scores.topk(min(top, len(names)))
    pairs = zip(values.tolist(), order.tolist(), strict=True)
    return [
        Prediction(names[index], round(value, 4)) for value, index in pairs if value >= threshold
    ]


def note_best(
    result: "Classification | TextClassification",
    place: str,
    scores: Tensor,
    names: Sequence[str],
    threshold: float,
) -> None:
    """Give a result without labels the sentence with the most probable one."""
    if not result.labels:
        (best,) = top_labels(scores, names, 1, 0)
        note_nothing(result, nothing_above(threshold, place, (best.label, best.score)))


def predict_mean(
    paths: Iterable[str], classifiers: Sequence[Classifier], batch_size: int, workers: int
) -> Iterator[tuple[str, Tensor | Failure]]:
    """Yield each path with its probabilities (L,), averaged over classifiers, or its Failure."""
    paths = iter(paths)
    names = classifiers[0].labels
    while window := next_window(paths, 4 * batch_size):
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
        for path, rows in zip(window, zip(*votes, strict=True), strict=True):
            failure = next((row for row in rows if isinstance(row, Failure)), None)
            yield path, failure or torch.stack(rows).mean(dim=0)


def predict(
    classifier: Classifier, paths: Iterable[str], batch_size: int = 64, workers: int = 2
) -> Iterator[tuple[str, Tensor | Failure]]:
    """Yield each path with its output (L,), or its Failure, in input order.

    Images are decoded ahead in threads.
    """

    def read_one(path: str) -> tuple[str, Tensor]:
        return path, classifier.preprocessing.read(path)

    decoded = each(read_one, paths, workers)
    while window := next_window(decoded, batch_size):
        pixels = [entry[1] for entry in window if not isinstance(entry, Failure)]
        outputs = iter(classifier.outputs(torch.stack(pixels)) if pixels else torch.empty(0))
        for entry in window:
            yield (entry.path, entry) if isinstance(entry, Failure) else (entry[0], next(outputs))
