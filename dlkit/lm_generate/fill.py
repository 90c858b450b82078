"""Gaps in texts: the tokens that BERT finds most probable for [MASK], and what T5 writes.

Shapes: T tokens, N gaps, V tokens of the vocabulary.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.lm_generate.generate import Limits, Text, beam_search
from dlkit.lm_generate.infer import Model, one_line
from dlkit.lm_generate.neural_texts import NeuralTexts

MASK = "[MASK]"
SENTINEL = re.compile(r"(<extra_id_\d+>)")
SPACE_FIRST = ("gpt2", "gpt4")  # splits in which a word's token holds the space before it
INSIDE = "##"  # what tokens inside a word begin with
LONGEST_SPANS = 64  # tokens that a T5 writes for all gaps of a text


@dataclass(frozen=True)
class Candidate:
    token: str
    probability: float
    text: str  # the whole text with it in this gap


@dataclass(frozen=True)
class Gap:
    candidates: list[Candidate]


@dataclass(frozen=True)
class Filled:
    """A text, and what may stand in its gaps, from left to right."""

    text: str
    gaps: list[Gap]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "gap": number + 1,
                "token": one_line(candidate.token),
                "probability": candidate.probability,
                "text": one_line(candidate.text),
            }
            for number, gap in enumerate(self.gaps)
            for candidate in gap.candidates
        ]


def fill(
    texts: Iterable[str], model: Model, count: int = 5, shard: Shard | None = None
) -> Iterator[Filled | Failure]:
    """The `count` most probable ways to fill the gaps of each text, or of a `share` of them.

    Without one, the processes under torchrun share them.
    """
    if model.arch not in ("bert", "t5"):
        raise DlkitError(f"{model.name} is of --arch {model.arch}: bert and t5 fill gaps")

    def results(shared: Iterator[str]) -> Iterator[Filled | Failure]:
        for text in shared:
            try:
                yield (fill_masks if model.arch == "bert" else fill_spans)(text, model, count)
            except DlkitError as error:
                yield Failure(text, str(error))

    return map_shard(results, texts, model.device_name, shard)


@torch.inference_mode()
def fill_masks(text: str, model: Model, count: int) -> Filled:
    """The tokens that a BERT finds most probable for each [MASK]."""
    pieces = text.split(MASK)
    if len(pieces) == 1:
        raise DlkitError(f"there is no {MASK} in it")
    units, marks = model.units, model.marks
    ids = [marks["[CLS]"]]
    for number, piece in enumerate(pieces):
        if number:
            ids.append(marks[MASK])
        # Where a space belongs to the word behind it, that before a gap is the gap's.
        last = number == len(pieces) - 1
        spaced = units.tokenizer.split in SPACE_FIRST and not last
        ids += units.encode(piece.removesuffix(" ") if spaced else piece)
    ids.append(marks["[SEP]"])
    if len(ids) > model.network.context:
        raise DlkitError(f"it has {len(ids)} tokens, and {model.name} sees {model.network.context}")
    row = torch.tensor([ids], device=model.network.embedding.weight.device)
    logits, _ = model.network(row, at=row == marks[MASK])
    logits[:, sorted(model.never_written)] = -torch.inf
    found = logits.softmax(-1).topk(min(count, logits.shape[-1]), dim=-1)
    gaps = []
    for number, (shares, tokens) in enumerate(zip(*map(list, found), strict=True)):
        before, behind = MASK.join(pieces[: number + 1]), MASK.join(pieces[number + 1 :])
        gaps.append(
            Gap(
                [
                    Candidate(
                        token := units.decode([i]), round(share, 4), joined(before, token, behind)
                    )
                    for share, i in zip(shares.tolist(), tokens.tolist(), strict=True)
                ]
            )
        )
    return Filled(text, gaps)


def joined(before: str, token: str, behind: str) -> str:
    """The text with a token in the gap; one that goes on with a word stands close to it."""
    if token.startswith(INSIDE):
        return before.rstrip(" ") + token.removeprefix(INSIDE) + behind
    if token.startswith(" "):
        before = before.rstrip(" ")
    return before + token + behind


@torch.inference_mode()
def fill_spans(text: str, model: Model, count: int) -> Filled:
    """The most probable texts that a T5 writes for <extra_id_0>, <extra_id_1>, ..."""
    pieces = SENTINEL.split(text)
    names = pieces[1::2]
    if not names or names != [f"<extra_id_{n}>" for n in range(len(names))]:
        raise DlkitError("its gaps are not <extra_id_0>, <extra_id_1>, ... in this order")
    marks, units = model.marks, model.units
    source: list[int] = []
    for number, piece in enumerate(pieces):
        source += [marks[piece]] if number % 2 else units.encode(piece)
    source.append(marks["</s>"])
    after = f"<extra_id_{len(names)}>"
    sentinels = {marks[name]: number for number, name in enumerate(names)}
    never = model.never_written - {*sentinels, marks.get(after, -1), marks["</s>"]}
    ends = frozenset({marks["</s>"], marks.get(after, marks["</s>"])})
    begun = [marks["<pad>"], marks["<extra_id_0>"]]
    texts = NeuralTexts(model.network, [begun], LONGEST_SPANS, never, [source])
    blank = Text(units, "", [], Limits(LONGEST_SPANS), ends)
    gaps: list[list[Candidate]] = [[] for _ in names]
    known: set[tuple[str, ...]] = set()
    for found in beam_search(texts, blank, count):
        spans: list[list[int]] = [[] for _ in names]
        number = 0
        for token in found.ids:
            if token in sentinels:
                number = sentinels[token]
            elif token not in ends:
                spans[number].append(token)
        written = tuple(map(units.decode, spans))
        if written in known:
            continue
        known.add(written)
        share = round(math.exp(sum(found.logprobs)), 4)
        whole = pieces[0]
        for span, behind in zip(written, pieces[2::2], strict=True):
            whole = joined(whole, span, behind)
        for gap, span in zip(gaps, written, strict=True):
            gap.append(Candidate(span, share, whole))
    return Filled(text, [Gap(candidates) for candidates in gaps])
