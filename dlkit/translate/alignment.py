"""Which words of a translation belong to which of its source, by the model's attention.

Words are what white space separates. Shapes: S source words, T target words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dlkit.translate.model import Translator
from dlkit.translate.vocabulary import Vocabulary


@dataclass(frozen=True)
class Link:
    """A source word and a target word that belong together, by their places from 0."""

    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


@dataclass(frozen=True)
class Aligned:
    """How much of the attention each target word (a row) gives to each source word (a column).

    What is missing to 1 in a row went to the end of the sentence.
    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]

    @property
    def links(self) -> list[Link]:
        """Each target word with the source word that it attends to most."""
        found = [Link(int(np.argmax(row)), place) for place, row in enumerate(self.weights) if row]
        return sorted(found, key=lambda link: (link.source, link.target))

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "link": str(link),
                "source": self.source[link.source],
                "target": self.target[link.target],
                "weight": self.weights[link.target][link.source],
            }
            for link in sorted(self.links, key=lambda link: link.target)
        ]


@torch.inference_mode()
def aligned(
    network: Translator, vocabulary: Vocabulary, source: str, ids: Sequence[int]
) -> Aligned:
    """The alignment of a source with the tokens of its translation.

    The attention of a word is the sum over the tokens of the source word, and the mean over those
    of the target word. DlkitError for an architecture without attention.
    """
    device = next(network.parameters()).device
    spans = vocabulary.tokenizer.encode_spans(source)
    text = vocabulary.decode(ids)
    given = torch.tensor([[*(i for i, _ in spans), network.eos]], device=device)
    target = torch.tensor([[network.bos, *ids]], device=device)
    lengths = torch.tensor([given.shape[1]], device=device)
    attention = network.align(given, lengths, target)[0, : len(ids), : len(spans)]
    source_words, target_words = source.split(), text.split()
    of_source = membership([word_at(source, end) for _, (_, end) in spans], len(source_words))
    # A token belongs to the word that the text up to it ends in.
    ends = [len(vocabulary.decode(ids[: place + 1]).split()) - 1 for place in range(len(ids))]
    of_target = membership(ends, len(target_words))
    counts = of_target.sum(1, keepdims=True)
    weights = of_target / np.maximum(counts, 1) @ attention.double().cpu().numpy() @ of_source.T
    return Aligned(source_words, target_words, weights.round(4).tolist())


def word_at(text: str, end: int) -> int:
    """The place of the word that a token which ends there belongs to."""
    return len(text[:end].split()) - 1


def membership(words: Sequence[int], count: int) -> np.ndarray:
    """Which tokens (columns) belong to which word (rows): 1 or 0."""
    return (np.array(words, int)[None] == np.arange(count)[:, None]).astype(float)


def joined(parts: Sequence[Aligned]) -> Aligned:
    """The alignment of a line that was translated in parts."""
    width = sum(len(part.source) for part in parts)
    weights: list[list[float]] = []
    before = 0
    for part in parts:
        after = width - before - len(part.source)
        weights += [[*[0.0] * before, *row, *[0.0] * after] for row in part.weights]
        before += len(part.source)
    return Aligned(
        [word for part in parts for word in part.source],
        [word for part in parts for word in part.target],
        weights,
    )
