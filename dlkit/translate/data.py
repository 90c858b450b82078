"""Training data of translators: pairs as ids, in batches of about the same number of tokens.

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
from dlkit.core.io.splits import hold_out
from dlkit.core.ledger import Ledger
from dlkit.core.nn.padding import padded
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log
from dlkit.core.train.sampler import weighted_parts
from dlkit.translate.config import LEARNED, TranslateTrainConfig
from dlkit.translate.pairs import Pair, PairFiles, read_pairs
from dlkit.translate.vocabulary import TranslationVocabulary


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs as text and as ids; targets are framed by <s> and </s>, and sources end with </s>."""

    texts: list[Pair]
    sources: list[np.ndarray]
    targets: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TrainingData:
    """Pairs to train and to validate on, and their vocabulary."""

    vocabulary: TranslationVocabulary
    training: EncodedPairs
    validation: EncodedPairs
    ledgers: list[Ledger]


def load_data(
    config: TranslateTrainConfig, vocabulary: TranslationVocabulary | None = None
) -> TrainingData:
    """Read the pairs, and encode them with the vocabulary, learned from them where not given."""
    keys = tuple(key.strip() for key in config.keys.split(","))
    if len(keys) != 2 or not all(keys):
        raise DlkitError(f"--keys {config.keys}: not two names; give two, as in source,target")
    both = (keys[0], keys[1])
    files = PairFiles(config.data, config.source, config.target, both, config.errors)
    held_out = PairFiles(config.val, config.val_source, config.val_target, both, config.errors)
    if not files:
        raise DlkitError("nothing to train on; give --source and --target, or a file of pairs")
    ledgers: list[Ledger] = []
    training = read_pairs(files, config.context, config.allowed_rows, ledgers)
    if held_out:
        validation = read_pairs(held_out, config.context, config.allowed_rows, ledgers)
    else:
        # Pairs with the same source stay together.
        validation, training = hold_out(
            training, config.val_share, config.seed, key=lambda pair: pair.source
        )
    if vocabulary is None:
        vocabulary = make_vocabulary(config, training)
    ledgers += [Ledger("train"), Ledger("val")]
    loaded = TrainingData(
        vocabulary,
        encode_pairs(training, vocabulary, config, ledgers[-2]),
        encode_pairs(validation, vocabulary, config, ledgers[-1]),
        ledgers,
    )
    for ledger in ledgers[-2:]:
        if ledger.places:
            ledger.report()
    if not len(loaded.training):
        raise DlkitError(
            "no usable pair to train on; give a larger --max-tokens or --max-ratio", str(files)
        )
    tokens = sum(len(ids) - 1 for ids in loaded.training.targets)
    log(
        f"{len(loaded.training)} pairs to train on, {len(loaded.validation)} to validate;"
        f" {vocabulary.size} tokens in the vocabulary,"
        f" {tokens / len(loaded.training):.1f} a target"
    )
    return loaded


def make_vocabulary(config: TranslateTrainConfig, pairs: Sequence[Pair]) -> TranslationVocabulary:
    """The vocabulary that `--tokenizer` names, or one learned from both sides of the pairs."""
    if config.tokenizer not in LEARNED:
        return TranslationVocabulary.load(config.tokenizer)
    texts = (text for pair in pairs for text in (pair.source, pair.target))
    return TranslationVocabulary.learn(texts, config.tokenizer, config.vocab_size, config.lower)


def encode_pairs(
    pairs: Sequence[Pair],
    vocabulary: TranslationVocabulary,
    config: TranslateTrainConfig,
    ledger: Ledger,
) -> EncodedPairs:
    """The pairs as ids; those that are too long, or too different in length, are skipped."""
    sources = vocabulary.encode_sources([pair.turns for pair in pairs], config.workers)
    targets = vocabulary.encode_targets([pair.target for pair in pairs], config.workers)
    kept = EncodedPairs([], [], [])
    for pair, source, target in zip(pairs, sources, targets, strict=True):
        lengths = sorted((len(source) - 1, len(target) - 2))  # without <s> and </s>
        if config.max_tokens and lengths[1] > config.max_tokens:
            ledger.skip("pairs", f"pair of more than {config.max_tokens} tokens", pair.where)
        elif config.max_ratio and lengths[1] > config.max_ratio * lengths[0]:
            ledger.skip(
                "pairs", f"pair with {config.max_ratio:g} times the tokens on a side", pair.where
            )
        else:
            kept.texts.append(pair)
            kept.sources.append(np.array(source, np.int32))
            kept.targets.append(np.array(target, np.int32))
    ledger.use("pairs", len(kept))
    return kept


class PairBatches(IterableDataset[list[Tensor]]):
    """The batches of an epoch: source (B, S), lengths (B), target (B, T), and a weight.

    Pairs of similar lengths are batched together; the order depends on the seed and the epoch
    alone. Each process has its parts of every batch, one after another; the weights make the mean
    of the parts' losses the mean over all tokens.
    """

    def __init__(
        self, pairs: EncodedPairs, config: TranslateTrainConfig, process: Process, epoch: int,
        pad: int,
    ) -> None:  # fmt: skip
        self.pairs, self.pad = pairs, pad
        self.parts, self.of = process.parts(config.accumulate)
        random = np.random.default_rng([config.seed, epoch])
        order = random.permutation(len(pairs))
        self.batches = batch_by_tokens(pairs, config.batch_size, order)
        random.shuffle(self.batches)

    def __len__(self) -> int:
        return len(self.batches) * len(self.parts)

    def __iter__(self) -> Iterator[list[Tensor]]:
        tokens = partial(count_target_tokens, self.pairs)
        for batch in self.batches:
            for part, weight in weighted_parts(batch, tokens, self.parts, self.of):
                yield [*collate_pairs(self.pairs, part, self.pad), torch.tensor(weight)]


def batch_by_tokens(pairs: EncodedPairs, most: int, order: np.ndarray) -> list[list[int]]:
    """Indices of pairs in batches of up to `most` tokens, padding included, or of one pair.

    A batch counts as its number of pairs times the longest of all sides. Pairs of the same lengths
    are in `order`.
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


def count_target_tokens(pairs: EncodedPairs, indices: Sequence[int]) -> int:
    """The number of target tokens of these pairs that are predicted."""
    return sum(len(pairs.targets[index]) - 1 for index in indices)


def collate_pairs(pairs: EncodedPairs, indices: Sequence[int], pad: int) -> list[Tensor]:
    """Source (B, S), its lengths (B), and target (B, T) of these pairs."""
    sources = [pairs.sources[index] for index in indices]
    lengths = torch.tensor([len(ids) for ids in sources])
    return [padded(sources, pad), lengths, padded([pairs.targets[i] for i in indices], pad)]


def batch_loader(
    pairs: EncodedPairs, config: TranslateTrainConfig, process: Process, epoch: int, pad: int
) -> DataLoader[list[Tensor]]:
    """The batches of an epoch of training."""
    pinned = process.device.type == "cuda"
    return DataLoader(PairBatches(pairs, config, process, epoch, pad), None, pin_memory=pinned)
