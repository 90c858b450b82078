"""Training data of captioners: images, and captions as ids.

Shapes: N captions, B of a batch, P locations of C channels, T tokens.
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
from dlkit.caption.layouts import CaptionedImage
from dlkit.classify import backbones
from dlkit.core.failures import Failure, each
from dlkit.core.ledger import Ledger
from dlkit.core.nn.padding import padded
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.train.sampler import weighted_parts
from dlkit.tokenize import DecoderVocabulary

MAX_UNKNOWN = 0.1  # share of <unk> among the captions' tokens above which a notice is printed
# All but letters, marks on them, digits, and apostrophes and hyphens within a word.
PUNCTUATION = regex.compile(r"[^\p{L}\p{M}\p{N}\s'’-]+|(?<![\p{L}\p{M}\p{N}])['’-]+|['’-]+(?!\S)")


@dataclass(frozen=True)
class EncodedCaptions:
    """Images with their captions, and each caption as ids between <s> and </s>.

    `images` has the number of each caption's image in `samples`.
    """

    samples: list[CaptionedImage]
    images: list[int]
    ids: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def paths(self) -> list[str]:
        return [str(sample.path) for sample in self.samples]

    def without(self, paths: dict[str, str]) -> "EncodedCaptions":
        """The captions of all other images."""
        kept = [number for number, path in enumerate(self.paths) if path not in paths]
        places = {number: place for place, number in enumerate(kept)}
        captions = [number for number, image in enumerate(self.images) if image in places]
        return EncodedCaptions(
            [self.samples[number] for number in kept],
            [places[self.images[number]] for number in captions],
            [self.ids[number] for number in captions],
        )


@dataclass(frozen=True)
class TrainingData:
    """Captions to train and to validate on, their vocabulary, and the ledgers of both splits."""

    vocabulary: DecoderVocabulary
    training: EncodedCaptions
    validation: EncodedCaptions
    ledgers: tuple[Ledger, Ledger]


def load_data(
    config: CaptionTrainConfig, vocabulary: DecoderVocabulary | None = None
) -> TrainingData:
    """Read the captions, and encode them with the vocabulary, learned from them where not given."""
    training, validation = layouts.read_training(config)
    vocabulary = vocabulary or make_vocabulary(config, training.samples)
    loaded = TrainingData(
        vocabulary,
        encode_captions(training.samples, vocabulary, config, training.ledger),
        encode_captions(validation.samples, vocabulary, config, validation.ledger),
        (training.ledger, validation.ledger),
    )
    training.ledger.require("captions", config.data)
    check_ledgers(loaded, config)
    tokens = sum(len(ids) - 1 for ids in loaded.training.ids)
    unknown = sum(int((ids == vocabulary.unk).sum()) for ids in loaded.training.ids) / tokens
    if unknown > MAX_UNKNOWN:
        log(
            f"{unknown:.0%} of the captions' tokens are not in the vocabulary: raise --vocab-size,"
            " or take --tokenizer byte-bpe, or char where words are not separated by spaces"
        )
    log(
        f"{vocabulary.size} tokens in the vocabulary,"
        f" {tokens / len(loaded.training):.1f} a caption to train on"
    )
    return loaded


def check_ledgers(loaded: TrainingData, config: CaptionTrainConfig) -> None:
    """Report the ledgers of both splits; raise DlkitError where too much is skipped."""
    for ledger in loaded.ledgers:
        if ledger.kinds():
            ledger.report()
    for ledger in loaded.ledgers:
        ledger.check(config.allowed, config.data)


def make_vocabulary(
    config: CaptionTrainConfig, samples: Sequence[CaptionedImage]
) -> DecoderVocabulary:
    """The vocabulary that `--tokenizer` names, or one learned from the captions."""
    if config.tokenizer not in LEARNED:
        return DecoderVocabulary.load(config.tokenizer)
    texts = (
        normalize_caption(text, config.keep_case) for sample in samples for text in sample.captions
    )
    return DecoderVocabulary.learn(texts, config.tokenizer, config.vocab_size)


def normalize_caption(caption: str, keep_case: bool) -> str:
    """The caption in lower case and without punctuation, except within words."""
    if keep_case:
        return caption
    return " ".join(PUNCTUATION.sub(" ", caption.lower()).split())


def encode_captions(
    samples: Sequence[CaptionedImage],
    vocabulary: DecoderVocabulary,
    config: CaptionTrainConfig,
    ledger: Ledger,
) -> EncodedCaptions:
    """The captions as ids; those that are too long are skipped. The ledger counts them all."""
    encoded = EncodedCaptions(list(samples), [], [])
    for number, sample in enumerate(samples):
        texts = [normalize_caption(caption, config.keep_case) for caption in sample.captions]
        for text, ids in zip(texts, vocabulary.encode_targets(texts), strict=True):
            if not text:
                ledger.skip("captions", "caption of punctuation only", str(sample.path))
            elif config.max_tokens and len(ids) - 2 > config.max_tokens:
                reason = f"caption of more than {config.max_tokens} tokens (--max-tokens)"
                ledger.skip("captions", reason, str(sample.path))
            else:
                encoded.images.append(number)
                encoded.ids.append(np.array(ids, np.int32))
    if samples:
        ledger.use("images", len(samples))
        ledger.use("captions", len(encoded))
    return encoded


def without_unreadable(
    captions: EncodedCaptions, unreadable: dict[str, str], ledger: Ledger
) -> EncodedCaptions:
    """The captions of the readable images; the ledger counts the others as skipped."""
    kept = captions.without(unreadable)
    for path in captions.paths:
        if path in unreadable:
            ledger.drop("images", "unreadable image", f"{path} ({unreadable[path]})")
    for image in captions.images:
        if captions.paths[image] in unreadable:
            ledger.drop("captions", "caption of an unreadable image", captions.paths[image])
    return kept


class CachedFeatures(Dataset[list[Tensor]]):
    """The batches of an epoch with a frozen encoder: captions of similar lengths.

    A batch is memories (B, P, C), some of them of mirrored images, a caption of each (B, T), and
    the weight of their loss. The order depends on the seed and the epoch alone; each process has
    its parts of every batch.
    """

    def __init__(
        self,
        captions: EncodedCaptions,
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
        self.batches, self.weights = split_batches(batches, self.count_tokens, config, process)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        batch = self.batches[number]
        paths = [self.captions.paths[self.captions.images[caption]] for caption in batch]
        memory = self.features.memories(paths, self.mirrored[batch])
        target = padded([self.captions.ids[caption] for caption in batch], self.pad)
        return [memory, target, torch.tensor(self.weights[number])]

    def count_tokens(self, batch: Sequence[int]) -> int:
        """The number of tokens of these captions that are predicted."""
        return sum(len(self.captions.ids[caption]) - 1 for caption in batch)


class ImageBatches(Dataset[list[Tensor]]):
    """The batches of an epoch that also trains the encoder: images with all of their captions.

    A batch is images (B, 3, S, S) of values to 255, some of them mirrored, their captions (N, T),
    the weight of their loss, and each caption's image (N): an image is encoded once for all of its
    captions. The order depends on the seed and the epoch alone; each process has its parts of every
    batch.
    """

    def __init__(
        self,
        captions: EncodedCaptions,
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
        count = 0
        for image in order:
            count += len(self.ids[image])
            if batches[-1] and count > config.batch_size:
                batches.append([])
                count = len(self.ids[image])
            batches[-1].append(image)
        self.batches, self.weights = split_batches(batches, self.count_tokens, config, process)

    def captions_of(self, images: Sequence[int]) -> list[np.ndarray]:
        return [ids for image in images for ids in self.ids[image]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        batch = self.batches[number]
        read = [self.preprocessing.read(self.captions.paths[image]) for image in batch]
        pixels = [p.flip(-1) if self.mirrored[i] else p for p, i in zip(read, batch, strict=True)]
        owners = [place for place, image in enumerate(batch) for _ in self.ids[image]]
        return [
            torch.stack(pixels),
            padded(self.captions_of(batch), self.pad),
            torch.tensor(self.weights[number]),
            torch.tensor(owners),
        ]

    def count_tokens(self, batch: Sequence[int]) -> int:
        """The number of tokens of these images' captions that are predicted."""
        return sum(len(ids) - 1 for ids in self.captions_of(batch))


def split_batches(
    batches: list[list[int]],
    count_tokens: Callable[[Sequence[int]], int],
    config: CaptionTrainConfig,
    process: Process,
) -> tuple[list[list[int]], list[float]]:
    """This process's parts of each batch, and the weights of their mean losses.

    See `weighted_parts`.
    """
    own = process.parts(config.accumulate)
    parts = [pair for batch in batches for pair in weighted_parts(batch, count_tokens, *own)]
    return [part for part, _ in parts], [weight for _, weight in parts]


def find_unreadable(
    paths: Sequence[str], preprocessing: backbones.Preprocessing, workers: int
) -> dict[str, str]:
    """The images that cannot be read, with the reasons."""
    read = each(preprocessing.read, paths, workers)
    found = track(read, "reading", len(paths))
    return {image.path: image.error for image in found if isinstance(image, Failure)}
