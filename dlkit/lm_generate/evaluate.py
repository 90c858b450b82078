"""Perplexity of a language model on texts. Loads no torch for n-gram models.

Shapes: N ids of a text.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text as reading
from dlkit.core.io.scores import Score, rounded
from dlkit.lm_generate.config import DEFAULT_MODEL
from dlkit.lm_generate.corpus import TextFiles
from dlkit.lm_generate.infer import load
from dlkit.lm_generate.language_model import LanguageModel

SPLITS = {"all": "", "test": "", "train": "training", "val": "validation"}


@dataclass
class LossTotals:
    """Sums of losses and counts over one or more texts."""

    nats: float = 0.0  # the sum of the losses
    tokens: int = 0  # that were predicted
    words: int = 0
    characters: int = 0
    unknown: int = 0  # tokens that replace text outside of the vocabulary

    def add(self, other: "LossTotals") -> None:
        self.nats += other.nats
        self.tokens += other.tokens
        self.words += other.words
        self.characters += other.characters
        self.unknown += other.unknown


def evaluate_checkpoint(
    data: Sequence[str],
    split: str = "test",
    model: str = DEFAULT_MODEL,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "fp32",
    *,
    stride: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    parse_special: bool | None = None,
) -> Iterator[Score | Failure]:
    """Score a model on files, or on the part of them that its training held out.

    `save` and `workers` have no effect.
    """
    yield from evaluate(load(model, device, precision, parse_special), data, split, stride, errors)


def evaluate(
    model: LanguageModel,
    sources: Sequence[str],
    split: str = "all",
    stride: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
) -> Iterator[Score | Failure]:
    """Score a model on each of several files, and on all together.

    The `split` val or train is the part that training on these files holds out or learns from; its
    scores are not reported file by file.
    """
    if split not in SPLITS:
        raise DlkitError(f"--split: unknown split {split!r}; choose from {', '.join(SPLITS)}")
    check_stride(model, stride)
    files = reading.files(sources)
    total = LossTotals()
    if SPLITS[split]:
        share = model.header.config.get("val_share", 0.0)
        if not share or model.header.config.get("val"):
            raise DlkitError(f"{model.name} was not trained with --val-share; give --split all")
        for document in group_blocks(TextFiles(files, [], share, errors).blocks(SPLITS[split])):
            total.add(measure(model, document, stride))
        yield from summarize(model, "all", total, stride)
        return
    failed = False
    for source in files:
        found = LossTotals()
        try:
            for document in group_blocks(file_blocks(source, errors)):
                found.add(measure(model, document, stride))
        except DlkitError as error:
            yield Failure(source, error.reason_for(source))
            failed = True
            continue
        if len(files) > 1:
            yield from summarize(model, source, found, stride)
        total.add(found)
    if total.tokens or not failed:
        yield from summarize(model, "all", total, stride)


def file_blocks(source: str, errors: str) -> Iterator[tuple[bool, str]]:
    """The blocks of a file, each with whether it is the first."""
    for number, block in enumerate(reading.blocks(source, errors)):
        yield number == 0, block.decode()


def group_blocks(blocks: Iterator[tuple[bool, str]]) -> Iterator[list[str]]:
    """Group the blocks of each file in a list."""
    found: list[str] = []
    for begins, block in blocks:
        if begins and found:
            yield found
            found = []
        found.append(block)
    if found:
        yield found


def measure(model: LanguageModel, blocks: list[str], stride: int | None) -> LossTotals:
    """Sum the losses of a text that comes in blocks.

    The text begins with the codec's token for that; without one, the first token is not predicted
    and not counted.
    """
    codec = model.codec
    parts = list(codec.encode_blocks(blocks))
    begin = [] if codec.begin is None else [codec.begin]
    ids = np.concatenate([np.array(begin, np.int64), *parts])
    if len(ids) < 2:
        return LossTotals()
    losses = model.losses(ids, stride)
    characters = sum(map(len, blocks)) - (0 if begin else len(codec.decode(ids[:1].tolist())))
    return LossTotals(
        float(losses.sum()) * (len(ids) - 1) / len(losses),
        len(ids) - 1,
        sum(len(block.split()) for block in blocks),
        characters,
        int((ids[1:] == codec.tokenizer.unknown_id).sum()),
    )


def check_stride(model: LanguageModel, stride: int | None) -> None:
    """Raise DlkitError for a stride that the model has no windows for, or that skips tokens."""
    if stride is None:
        return
    if model.sliding_context is None:
        raise DlkitError(
            f"--stride is for the windows of gpt and bilm, and {model.name} is a model of --arch"
            f" {model.arch}; omit it"
        )
    if stride > model.sliding_context:
        raise DlkitError(
            f"--stride {stride} would skip tokens: the context is {model.sliding_context}; give a"
            " smaller one"
        )


def summarize(
    model: LanguageModel, label: str, found: LossTotals, stride: int | None
) -> Iterator[Score]:
    """Compute the scores from the sums."""
    if found.tokens == 0:
        raise DlkitError("the text is too short; give two tokens or more")
    loss = found.nats / found.tokens
    of = f"of {found.tokens} tokens {model.describe_losses(stride)}"
    yield Score("loss", label, rounded(loss), f"mean loss in nats {of}")
    yield Score("perplexity", label, rounded(exp(loss)), f"exp of the mean loss {of}")
    if model.predicts_all_tokens:
        per_word = exp(found.nats / found.words) if found.words else math.nan
        yield Score(
            "word_perplexity",
            label,
            rounded(per_word),
            f"exp of the loss per word, of {found.words} words between white space; independent of"
            " the tokens",
        )
        bits = found.nats / math.log(2) / found.characters if found.characters else math.nan
        yield Score(
            "bits_per_character",
            label,
            rounded(bits),
            f"loss in bits per character, of {found.characters}; independent of the tokens",
        )
    if model.codec.tokenizer.unknown_id is not None:
        yield Score(
            "unknown",
            label,
            rounded(found.unknown / found.tokens),
            "share of tokens outside of the vocabulary; they count as one token, which makes the"
            " other scores better than they are",
        )


def exp(loss: float) -> float:
    """The exponential, infinite instead of an error for a large loss."""
    return math.exp(loss) if loss < 700 else math.inf
