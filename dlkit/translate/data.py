"""What a translator is trained on: pairs as ids, in batches of about as many tokens.

Shapes: N pairs, B pairs of a batch, S source ids and T target ids of the longest of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.nn.padding import padded
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log
from dlkit.core.train.sampler import weighted_parts
from dlkit.translate.config import LEARNED, TranslateTrainConfig
from dlkit.translate.pairs import Files, Pair, read, split
from dlkit.translate.vocabulary import Vocabulary


@dataclass(frozen=True)
class Pairs:
    """Pairs as text and as ids; the targets stand between <s> and </s>."""

    texts: list[Pair]
    sources: list[np.ndarray]
    targets: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Prepared:
    """What a training starts from."""

    vocabulary: Vocabulary
    training: Pairs
    validation: Pairs


def prepared(config: TranslateTrainConfig, vocabulary: Vocabulary | None = None) -> Prepared:
    """Read the pairs, and learn the vocabulary, unless there is one already."""
    keys = tuple(key.strip() for key in config.keys.split(","))
    if len(keys) != 2 or not all(keys):
        raise DlkitError(f"--keys {config.keys}: give two names, as in source,target")
    both = (keys[0], keys[1])
    files = Files(config.data, config.source, config.target, both, config.errors)
    held_out = Files(config.val, config.val_source, config.val_target, both, config.errors)
    if not files:
        raise DlkitError("nothing to train on: give --source and --target, or a file of pairs")
    skipped = Skipped()
    training = read(files, config.context, skipped)
    if held_out:
        validation = read(held_out, config.context, skipped)
    else:
        training, validation = split(training, config.val_share, config.seed)
    if not training:
        skipped.report()
        raise DlkitError(f"{files}: no pairs to train on")
    if vocabulary is None:
        vocabulary = vocabulary_of(config, training)
    made = Prepared(
        vocabulary,
        encoded(training, vocabulary, config, skipped),
        encoded(validation, vocabulary, config, skipped),
    )
    skipped.report()
    if not len(made.training):
        raise DlkitError(
            f"{files}: no pair is left to train on: give a larger --max-tokens or --max-ratio"
        )
    tokens = sum(len(ids) - 1 for ids in made.training.targets)
    log(
        f"{len(made.training)} pairs to train on, {len(made.validation)} to validate;"
        f" {vocabulary.size} tokens in the vocabulary, {tokens / len(made.training):.1f} a target"
    )
    return made


def vocabulary_of(config: TranslateTrainConfig, pairs: Sequence[Pair]) -> Vocabulary:
    """The vocabulary that `--tokenizer` names, learned from both sides of the pairs if need be."""
    if config.tokenizer not in LEARNED:
        return Vocabulary.load(config.tokenizer)
    texts = (text for pair in pairs for text in (pair.source, pair.target))
    return Vocabulary.learn(texts, config.tokenizer, config.vocab_size, config.lower)


def encoded(
    pairs: Sequence[Pair], vocabulary: Vocabulary, config: TranslateTrainConfig, skipped: Skipped
) -> Pairs:
    """The pairs as ids, without those that are too long, or too unlike in length."""
    sources = vocabulary.encode_sources([pair.turns for pair in pairs], config.workers)
    targets = vocabulary.encode_targets([pair.target for pair in pairs], config.workers)
    kept = Pairs([], [], [])
    for pair, source, target in zip(pairs, sources, targets, strict=True):
        lengths = sorted((len(source) - 1, len(target) - 2))  # without what frames them
        if config.max_tokens and lengths[1] > config.max_tokens:
            skipped.add(f"pair of more than {config.max_tokens} tokens", pair.where)
        elif config.max_ratio and lengths[1] > config.max_ratio * lengths[0]:
            skipped.add(f"pair with {config.max_ratio:g} times the tokens on a side", pair.where)
        else:
            kept.texts.append(pair)
            kept.sources.append(np.array(source, np.int32))
            kept.targets.append(np.array(target, np.int32))
    return kept


class Batches(IterableDataset[list[Tensor]]):
    """The batches of an epoch: source (B, S), lengths (B), target (B, T), and a weight.

    Pairs of about the same lengths come together, in an order that follows from the seed and the
    epoch. Each process has its parts of every batch, one after another; the weight of a part's mean
    loss makes the mean over all parts that of all tokens.
    """

    def __init__(
        self, pairs: Pairs, config: TranslateTrainConfig, process: Process, epoch: int, pad: int
    ) -> None:
        self.pairs, self.pad = pairs, pad
        self.parts, self.of = process.parts(config.accumulate)
        random = np.random.default_rng([config.seed, epoch])
        self.batches = by_tokens(pairs, config.batch_size, random.permutation(len(pairs)))
        random.shuffle(self.batches)

    def __len__(self) -> int:
        return len(self.batches) * len(self.parts)

    def __iter__(self) -> Iterator[list[Tensor]]:
        tokens = partial(tokens_of, self.pairs)
        for batch in self.batches:
            for mine, weight in weighted_parts(batch, tokens, self.parts, self.of):
                yield [*collated(self.pairs, mine, self.pad), torch.tensor(weight)]


def by_tokens(pairs: Pairs, most: int, order: np.ndarray) -> list[list[int]]:
    """Indices of pairs in batches of `most` tokens, padding included, or of one pair.

    The longest of all sides counts, times the pairs. Pairs of the same lengths are in `order`.
    """
    sources = np.array([len(ids) for ids in pairs.sources])
    targets = np.array([len(ids) - 1 for ids in pairs.targets])
    order = order[np.lexsort((sources[order], targets[order]))]
    longest = np.maximum(sources, targets)
    batches: list[list[int]] = []
    widest = 0
    for index in order.tolist():
        widest = max(widest, longest[index])
        if batches and widest * (len(batches[-1]) + 1) <= most:
            batches[-1].append(index)
        else:
            batches.append([index])
            widest = longest[index]
    return batches


def tokens_of(pairs: Pairs, indices: Sequence[int]) -> int:
    """The target tokens of these pairs that are foretold."""
    return sum(len(pairs.targets[index]) - 1 for index in indices)


def collated(pairs: Pairs, indices: Sequence[int], pad: int) -> list[Tensor]:
    """Source (B, S), its lengths (B), and target (B, T) of these pairs."""
    sources = [pairs.sources[index] for index in indices]
    lengths = torch.tensor([len(ids) for ids in sources])
    return [padded(sources, pad), lengths, padded([pairs.targets[i] for i in indices], pad)]


def batches(
    pairs: Pairs, config: TranslateTrainConfig, process: Process, epoch: int, pad: int
) -> DataLoader[list[Tensor]]:
    """The batches of an epoch of training."""
    pinned = process.device.type == "cuda"
    return DataLoader(Batches(pairs, config, process, epoch, pad), None, pin_memory=pinned)
