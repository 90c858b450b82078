"""Word alignments."""

import torch
from torch import Tensor

from dlkit.translate.alignment import Link, WordAlignment, align_words, join_alignments
from dlkit.translate.models.translator import Translator
from dlkit.translate.vocabulary import TranslationVocabulary


class Diagonal(Translator):
    """Each target token attends to one source token by its place, and a bit to the end."""

    def __init__(self, vocabulary: TranslationVocabulary) -> None:
        super().__init__(**vocabulary.network_settings())
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        weights = torch.zeros(1, target.shape[1], source.shape[1])
        for place in range(target.shape[1]):
            weights[0, place, min(place, source.shape[1] - 2)] = 0.9
        weights[..., -1] += 0.1
        return weights


def test_attention_of_tokens_becomes_that_of_words(vocabulary: TranslationVocabulary) -> None:
    letters = TranslationVocabulary.learn(["abcdef gh"] * 9, "char", 50)
    made = Diagonal(letters)
    ids = letters.encode_targets(["ab cd"])[0][1:-1]
    assert len(ids) == 5
    found = align_words(made, letters, "a bcd", ids)
    assert found.source == ["a", "bcd"]
    assert found.target == ["ab", "cd"]
    # a, b and the space after them attend to a, the space after it, and b.
    assert found.weights == [[0.6, 0.3], [0.0, 0.9]]
    assert found.links == [Link(0, 0), Link(1, 1)]
    assert str(found.links[1]) == "1-1"


def test_parts_are_aligned_by_themselves() -> None:
    left = WordAlignment(["a", "b"], ["x"], [[0.2, 0.8]])
    right = WordAlignment(["c"], ["y", "z"], [[1.0], [0.5]])
    both = join_alignments([left, right])
    assert both.weights == [[0.2, 0.8, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]
    assert [str(link) for link in both.links] == ["1-0", "2-1", "2-2"]
