"""What a captioner is trained on: images, and captions as ids.

Shapes: N captions, B of a batch, P places of C numbers, T tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import regex
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.caption import layouts
from dlkit.caption.config import LEARNED, CaptionTrainConfig
from dlkit.caption.features import Features
from dlkit.caption.layouts import Sample
from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, Skipped, each
from dlkit.core.nn.padding import padded
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.train.sampler import weighted_parts
from dlkit.tokenize import DecoderVocabulary

MOST_UNKNOWN = 0.1  # share of the captions' tokens beyond which a notice says what to do
# All but letters, marks on them, digits, and what joins them within a word.
PUNCTUATION = regex.compile(r"[^\p{L}\p{M}\p{N}\s'’-]+|(?<![\p{L}\p{M}\p{N}])['’-]+|['’-]+(?!\S)")


@dataclass(frozen=True)
class Captions:
    """Images with what people said of them, and each caption as ids between <s> and </s>.

    `images` has the number of each caption's image in `samples`.
    """

    samples: list[Sample]
    images: list[int]
    ids: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def paths(self) -> list[str]:
        return [str(sample.path) for sample in self.samples]

    def without(self, paths: dict[str, str]) -> "Captions":
        """The others of these images."""
        kept = [number for number, path in enumerate(self.paths) if path not in paths]
        places = {number: place for place, number in enumerate(kept)}
        of_kept = [number for number, image in enumerate(self.images) if image in places]
        return Captions(
            [self.samples[number] for number in kept],
            [places[self.images[number]] for number in of_kept],
            [self.ids[number] for number in of_kept],
        )


@dataclass(frozen=True)
class Prepared:
    """What a training starts from; the caller reports what was skipped."""

    vocabulary: DecoderVocabulary
    training: Captions
    validation: Captions
    skipped: Skipped


def prepared(config: CaptionTrainConfig, vocabulary: DecoderVocabulary | None = None) -> Prepared:
    """Read the captions, and learn the vocabulary, unless there is one already."""
    training = layouts.read_split(config.data, "train", config.val_share, config.seed)
    validation = layouts.read_split(config.data, "val", config.val_share, config.seed)
    skipped = training.skipped
    for kind, places in validation.skipped.places.items():
        for place in places:
            if place not in skipped.places.get(kind, []):  # where both come from one list
                skipped.add(kind, place)
    vocabulary = vocabulary or vocabulary_of(config, training.samples)
    made = Prepared(
        vocabulary,
        encoded(training.samples, vocabulary, config, skipped),
        encoded(validation.samples, vocabulary, config, skipped),
        skipped,
    )
    if not len(made.training):
        skipped.report()
        raise DlkitError(f"{config.data}: no caption is left to train on: raise --max-tokens")
    tokens = sum(len(ids) - 1 for ids in made.training.ids)
    unknown = sum(int((ids == vocabulary.unk).sum()) for ids in made.training.ids) / tokens
    if unknown > MOST_UNKNOWN:
        log(
            f"{unknown:.0%} of the captions' tokens are not in the vocabulary: raise --vocab-size,"
            " or take --tokenizer byte-bpe, or char where words are not set apart by spaces"
        )
    log(
        f"{len(made.training)} captions of {len(made.training.samples)} images to train on,"
        f" {len(made.validation.samples)} images to validate; {vocabulary.size} tokens in the"
        f" vocabulary, {tokens / len(made.training):.1f} a caption"
    )
    return made


def vocabulary_of(config: CaptionTrainConfig, samples: Sequence[Sample]) -> DecoderVocabulary:
    """The vocabulary that `--tokenizer` names, learned from the captions if need be."""
    if config.tokenizer not in LEARNED:
        return DecoderVocabulary.load(config.tokenizer)
    texts = (plain(text, config.raw) for sample in samples for text in sample.captions)
    return DecoderVocabulary.learn(texts, config.tokenizer, config.vocab_size)


def plain(caption: str, raw: bool) -> str:
    """A caption as it is learned: in lower case, and without punctuation but within words."""
    if raw:
        return caption
    return " ".join(PUNCTUATION.sub(" ", caption.lower()).split())


def encoded(
    samples: Sequence[Sample],
    vocabulary: DecoderVocabulary,
    config: CaptionTrainConfig,
    skipped: Skipped,
) -> Captions:
    """The captions as ids, without those that are too long."""
    made = Captions(list(samples), [], [])
    for number, sample in enumerate(samples):
        texts = [plain(caption, config.raw) for caption in sample.captions]
        for text, ids in zip(texts, vocabulary.encode_targets(texts), strict=True):
            if not text:
                skipped.add("caption of punctuation only", str(sample.path))
            elif config.max_tokens and len(ids) - 2 > config.max_tokens:
                skipped.add(f"caption of more than {config.max_tokens} tokens", str(sample.path))
            else:
                made.images.append(number)
                made.ids.append(np.array(ids, np.int32))
    return made


class CachedFeatures(Dataset[list[Tensor]]):
    """The batches of an epoch with a frozen encoder: captions of about the same length.

    Memories (B, P, C), some of the images mirrored, a caption of each (B, T), and the weight of
    their loss. The order follows from the seed and the epoch; each process has its parts of every
    batch.
    """

    def __init__(
        self,
        captions: Captions,
        features: Features,
        config: CaptionTrainConfig,
        process: Process,
        epoch: int,
        pad: int,
    ) -> None:
        self.captions, self.features, self.pad = captions, features, pad
        random = np.random.default_rng([config.seed, epoch])
        self.mirrored = random.random(len(captions)) < config.flip
        order = random.permutation(len(captions))
        lengths = np.array([len(ids) for ids in captions.ids])
        order = order[lengths[order].argsort(kind="stable")]
        size = config.batch_size
        batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        random.shuffle(batches)
        self.batches, self.weights = val_split(batches, self.tokens, config, process)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        batch = self.batches[number]
        paths = [self.captions.paths[self.captions.images[caption]] for caption in batch]
        memory = self.features.of(paths, self.mirrored[batch])
        target = padded([self.captions.ids[caption] for caption in batch], self.pad)
        return [memory, target, torch.tensor(self.weights[number])]

    def tokens(self, batch: Sequence[int]) -> int:
        """The tokens of these captions that are foretold."""
        return sum(len(self.captions.ids[caption]) - 1 for caption in batch)


class Pictures(Dataset[list[Tensor]]):
    """The batches of an epoch of training that also trains the encoder.

    Images (B, 3, S, S) of values to 255, some mirrored, their captions (N, T), the weight of their
    loss, and the number (N) of the image of each, which is encoded once for all of its captions.
    The order follows from the seed and the epoch; each process has its parts of every batch.
    """

    def __init__(
        self,
        captions: Captions,
        preprocessing: backbones.Preprocessing,
        config: CaptionTrainConfig,
        process: Process,
        epoch: int,
        pad: int,
    ) -> None:
        self.captions, self.preprocessing, self.pad = captions, preprocessing, pad
        random = np.random.default_rng([config.seed, epoch])
        self.mirrored = random.random(len(captions.samples)) < config.flip
        self.ids: list[list[np.ndarray]] = [[] for _ in captions.samples]
        for image, ids in zip(captions.images, captions.ids, strict=True):
            self.ids[image].append(ids)
        order = random.permutation([image for image, ids in enumerate(self.ids) if ids]).tolist()
        batches: list[list[int]] = [[]]
        for image in order:
            if batches[-1] and len(self.of(batches[-1])) + len(self.ids[image]) > config.batch_size:
                batches.append([])
            batches[-1].append(image)
        self.batches, self.weights = val_split(batches, self.tokens, config, process)

    def of(self, images: Sequence[int]) -> list[np.ndarray]:
        """The captions of these images."""
        return [ids for image in images for ids in self.ids[image]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        batch = self.batches[number]
        pixels = [self.preprocessing.read(self.captions.paths[image]) for image in batch]
        turned = [p.flip(-1) if self.mirrored[i] else p for p, i in zip(pixels, batch, strict=True)]
        owners = [place for place, image in enumerate(batch) for _ in self.ids[image]]
        weight = torch.tensor(self.weights[number])
        return [torch.stack(turned), padded(self.of(batch), self.pad), weight, torch.tensor(owners)]

    def tokens(self, batch: Sequence[int]) -> int:
        """The tokens of these images' captions that are foretold."""
        return sum(len(ids) - 1 for ids in self.of(batch))


def val_split(
    batches: list[list[int]],
    tokens: Callable[[Sequence[int]], int],
    config: CaptionTrainConfig,
    process: Process,
) -> tuple[list[list[int]], list[float]]:
    """This process's parts of each batch, and the weights of their mean losses.

    See `weighted_parts`.
    """
    own = process.parts(config.accumulate)
    mine = [pair for batch in batches for pair in weighted_parts(batch, tokens, *own)]
    return [part for part, _ in mine], [weight for _, weight in mine]


def unreadable(
    paths: Sequence[str], preprocessing: backbones.Preprocessing, workers: int
) -> dict[str, str]:
    """The images that cannot be read, and why."""
    read = each(preprocessing.read, paths, workers)
    found = track(read, "reading", len(paths))
    return {image.path: image.error for image in found if isinstance(image, Failure)}
