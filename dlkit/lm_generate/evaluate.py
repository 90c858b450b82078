"""How well a language model foretells texts. Loads no torch for n-gram models.

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
from dlkit.lm_generate.config import DEFAULT_MODEL, STREAMED
from dlkit.lm_generate.corpus import Text
from dlkit.lm_generate.infer import Model, load

SPLITS = {"all": "", "test": "", "train": "training", "val": "validation"}


@dataclass
class Measured:
    """What was found in one or more texts."""

    nats: float = 0.0  # the sum of the losses
    tokens: int = 0  # that were foretold
    words: int = 0
    characters: int = 0
    unknown: int = 0  # tokens that stand for what is not in the vocabulary

    def add(self, other: "Measured") -> None:
        self.nats += other.nats
        self.tokens += other.tokens
        self.words += other.words
        self.characters += other.characters
        self.unknown += other.unknown


def evaluate_checkpoint(
    data: Path | Sequence[str],
    split: str = "test",
    model: str = DEFAULT_MODEL,
    stride: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    errors: Literal["strict", "replace"] = "strict",
) -> Iterator[Score | Failure]:
    """The scores of a model on files, or on the part of them that its training held out."""
    sources = [str(data)] if isinstance(data, Path) else list(data)
    yield from evaluate(load(model, device, precision), sources, split, stride, errors)


def evaluate(
    model: Model,
    sources: Sequence[str],
    split: str = "all",
    stride: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
) -> Iterator[Score | Failure]:
    """The scores on each file, if there are several, and on all of them.

    `split` val or train is what a training on these files would hold out, or learn from; their
    scores are not told file by file.
    """
    if split not in SPLITS:
        raise DlkitError(f"no split is called {split!r}: there is {', '.join(SPLITS)}")
    refuse_stride(model, stride)
    files = reading.files(sources)
    total = Measured()
    if SPLITS[split]:
        share = model.header.config.get("val_share", 0.0)
        if not share or model.header.config.get("val"):
            raise DlkitError(f"{model.name} was not trained with --val-share: give --split all")
        for document in documents(Text(files, [], share, errors).blocks(SPLITS[split])):
            total.add(measured(model, document, stride))
        yield from scores(model, "all", total, stride)
        return
    failed = False
    for source in files:
        found = Measured()
        try:
            for document in documents(whole(source, errors)):
                found.add(measured(model, document, stride))
        except DlkitError as error:
            yield Failure(source, str(error).removeprefix(f"{source}: "))
            failed = True
            continue
        if len(files) > 1:
            yield from scores(model, source, found, stride)
        total.add(found)
    if total.tokens or not failed:
        yield from scores(model, "all", total, stride)


def whole(source: str, errors: str) -> Iterator[tuple[bool, str]]:
    """A file in blocks, of which the first begins it."""
    for number, block in enumerate(reading.blocks(source, errors)):
        yield number == 0, block.decode()


def documents(blocks: Iterator[tuple[bool, str]]) -> Iterator[list[str]]:
    """The blocks of each file together."""
    found: list[str] = []
    for begins, block in blocks:
        if begins and found:
            yield found
            found = []
        found.append(block)
    if found:
        yield found


def measured(model: Model, blocks: list[str], stride: int | None) -> Measured:
    """The losses of a text that comes in blocks.

    It begins with the model's token for that; where there is none, nothing foretells the first
    token, and it does not count.
    """
    units = model.units
    parts = list(units.encode_blocks(blocks))
    begin = [] if units.begin is None else [units.begin]
    ids = np.concatenate([np.array(begin, np.int64), *parts])
    if len(ids) < 2:
        return Measured()
    losses = losses_of(model, ids, stride)
    characters = sum(map(len, blocks)) - (0 if begin else len(units.decode(ids[:1].tolist())))
    return Measured(
        float(losses.sum()) * (len(ids) - 1) / len(losses),
        len(ids) - 1,
        sum(len(block.split()) for block in blocks),
        characters,
        int((ids[1:] == units.tokenizer.unknown_id).sum()),
    )


def losses_of(model: Model, ids: np.ndarray, stride: int | None) -> np.ndarray:
    """Losses in nats of the ids (N) after the first; of bert and t5, of groups of what they hid."""
    if model.arch == "ngram":
        of_ngrams: np.ndarray = -model.network.score(ids)[1:]
        return of_ngrams
    import torch

    from dlkit.core.parallel.distributed import Process
    from dlkit.lm_generate import perplexity

    network = model.network
    process = Process(0, 1, network.embedding.weight.device)
    with torch.inference_mode():
        if model.arch in STREAMED:
            return perplexity.stream_losses(network, ids, process)
        if model.arch in {"bert", "t5"}:
            return perplexity.hidden_losses(model.arch, network, model.units, ids, process)
        stride = stride or max(network.context // 2, 1)
        if model.arch == "bilm":
            return perplexity.both_directions(network, ids, stride, process)
        return perplexity.window_losses(network, ids, network.context, stride, process)


def refuse_stride(model: Model, stride: int | None) -> None:
    if stride is None:
        return
    if model.arch not in {"gpt", "bilm"}:
        raise DlkitError(f"--stride is for windows of gpt and bilm; {model.name} is {model.arch}")
    if stride > model.network.context:
        raise DlkitError(
            f"--stride {stride} would leave out tokens: the context is {model.network.context}"
        )


def scores(model: Model, label: str, found: Measured, stride: int | None) -> Iterator[Score]:
    """The scores that follow from the sum of the losses."""
    if found.tokens == 0:
        raise DlkitError("the text is too short: it takes two tokens or more")
    how = described(model, stride)
    loss = found.nats / found.tokens
    of = f"of {found.tokens} tokens {how}"
    yield Score("loss", label, rounded(loss), f"mean loss in nats {of}")
    yield Score("perplexity", label, rounded(exp(loss)), f"exp of the mean loss {of}")
    if model.arch not in {"bert", "t5"}:  # they foretell only what was hidden
        per_word = exp(found.nats / found.words) if found.words else math.nan
        yield Score(
            "word_perplexity",
            label,
            rounded(per_word),
            f"exp of the loss per word, of {found.words} words between white space; whatever the"
            " tokens are",
        )
        bits = found.nats / math.log(2) / found.characters if found.characters else math.nan
        yield Score(
            "bits_per_character",
            label,
            rounded(bits),
            f"loss in bits per character, of {found.characters}; whatever the tokens are",
        )
    if model.units.tokenizer.unknown_id is not None:
        yield Score(
            "unknown",
            label,
            rounded(found.unknown / found.tokens),
            "share of tokens that are not in the vocabulary: they stand for any, which makes the"
            " other scores better than they are",
        )


def described(model: Model, stride: int | None) -> str:
    if model.arch in {"bert", "t5"}:
        return "of which a part was hidden, always the same; windows do not overlap"
    if model.arch == "bilm":
        return "foretold from before, and from behind: the mean of the two"
    if model.arch == "gpt":
        context = model.network.context
        least = context - (stride or max(context // 2, 1))
        return f"each foretold from {least} tokens before it or more, at most {context}"
    return "each foretold from all before it"


def exp(loss: float) -> float:
    """Infinite, and no error, where the loss is large."""
    return math.exp(loss) if loss < 700 else math.inf
