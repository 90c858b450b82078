"""Word alignment of a translation with its source, by the model's attention.

Words are separated by white space. Shapes: S source words, T target words.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.io.results import Result, save_results
from dlkit.translate.models.translator import Translator
from dlkit.translate.vocabulary import TranslationVocabulary

LONGEST = 2000  # words of a line that is aligned
LONGEST_PART = 20_000  # characters and tokens of a part of it


@dataclass(frozen=True)
class Link:
    """An aligned pair of a source word and a target word, by their places from 0."""

    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


@dataclass(frozen=True)
class WordAlignment(Result):
    """The attention weights of each target word (a row) over the source words (the columns).

    A row sums to one less the weight of the end of the sentence.
    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]

    @property
    def links(self) -> list[Link]:
        """Each target word with the source word of its largest weight."""
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

    def draw(self, path: Path) -> None:
        """Draw the weights as a PNG file."""
        from dlkit.core.io.plots import attention

        weights = np.array(self.weights)
        attention(weights, self.target, self.source, "translation", "source", path)

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write a figure of the weights (.png), or a file .json, .jsonl, .csv or .txt.

        Returns the path. Raises DlkitError for another suffix.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            return save_results([self], path, [".png"])
        self.draw(target)
        return target


@torch.inference_mode()
def align_words(
    network: Translator, vocabulary: TranslationVocabulary, source: str, ids: Sequence[int]
) -> WordAlignment:
    """The alignment of a source with the tokens of its translation.

    A word's attention is the sum over the tokens of the source word, and the mean over those of the
    target word. Raises DlkitError for an architecture without attention.
    """
    check_length(len(source) + len(ids), LONGEST_PART)
    device = next(network.parameters()).device
    spans = vocabulary.tokenizer.encode_spans(source)
    text = vocabulary.decode(ids)
    source_ids = torch.tensor([[*(i for i, _ in spans), network.eos]], device=device)
    target_ids = torch.tensor([[network.bos, *ids]], device=device)
    lengths = torch.tensor([source_ids.shape[1]], device=device)
    attention = network.align(source_ids, lengths, target_ids)[0, : len(ids), : len(spans)]
    source_words, target_words = source.split(), text.split()
    places = [word_index(source, end) for _, (_, end) in spans]
    source_tokens = token_membership(places, len(source_words))
    # A token belongs to the word that the text up to it ends in.
    places = [word_index(vocabulary.decode(ids[: n + 1])) for n in range(len(ids))]
    target_tokens = token_membership(places, len(target_words))
    counts = target_tokens.sum(1, keepdims=True)
    means = target_tokens / np.maximum(counts, 1) @ attention.double().cpu().numpy()
    weights = means @ source_tokens.T
    return WordAlignment(source_words, target_words, weights.round(4).tolist())


def check_length(length: int, most: int) -> None:
    """Raise DlkitError for a line of more than `most` words, whose weights are a square of them."""
    if length > most:
        raise DlkitError(f"a line of {length} words or more; at most {most} are aligned: cut it")


def word_index(text: str, end: int | None = None) -> int:
    """The index of the word that the text up to `end` ends in."""
    return len(text[:end].split()) - 1


def token_membership(words: Sequence[int], count: int) -> np.ndarray:
    """A matrix that is 1 where a token (column) belongs to a word (row), else 0."""
    member: np.ndarray = np.array(words, int)[None] == np.arange(count)[:, None]
    return member.astype(float)


def join_alignments(parts: Sequence[WordAlignment]) -> WordAlignment:
    """The alignment of a line that was translated in segments."""
    width = sum(len(part.source) for part in parts)
    check_length(width, LONGEST)
    weights: list[list[float]] = []
    before = 0
    for part in parts:
        after = width - before - len(part.source)
        weights += [[*[0.0] * before, *row, *[0.0] * after] for row in part.weights]
        before += len(part.source)
    return WordAlignment(
        [word for part in parts for word in part.source],
        [word for part in parts for word in part.target],
        weights,
    )
