"""The attention weights of a caption's words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.caption.attention import attention_shade, token_attention, word_attention
from dlkit.caption.config import CaptionSearch
from dlkit.caption.infer import Predictor, decode, load
from dlkit.caption.model import build
from dlkit.tokenize import DecoderVocabulary
from tests.caption.helpers import pictures, pixels, tiny_network


@pytest.mark.parametrize("arch", ["attend", "transformer", "patches"])
def test_attention_sums_to_one_over_the_grid(
    arch: str, shapes: Path, learned: Callable[[str], Path]
) -> None:
    model = load(learned(arch), "cpu", "fp32")
    found = word_attention(str(shapes / "Images" / "4.png"), model, CaptionSearch())
    assert found.words == pictures()[4][1].split()
    assert found.grid == model.network.grid
    shares = np.array(found.weights).reshape(len(found.words), *found.grid)
    assert (shares >= 0).all()
    assert shares.sum(axis=(1, 2)) == pytest.approx(1, abs=1e-4)
    for word, row, of_word in zip(found.words, found.rows(), shares, strict=True):
        assert row["word"] == word
        assert row["weight"] == of_word[row["row"], row["column"]] == of_word.max()


def test_attention_is_that_of_teacher_forcing(learned: Callable[[str], Path]) -> None:
    model = load(learned("attend"), "cpu", "fp32")
    memory = model.encode(pixels()[:1])
    ids = model.vocabulary.encode_targets([pictures()[0][1]])[0]
    alphas = model.network(memory, torch.tensor([ids[:-1]])).alphas
    assert alphas is not None
    found = token_attention(memory, ids[1:-1], model)
    assert found == pytest.approx(alphas[0, : len(ids) - 2].numpy(), abs=1e-5)


def test_a_word_of_several_tokens_has_the_mean_of_their_attention(shapes: Path) -> None:
    """A vocabulary of characters: each token is a letter, a word is many."""
    letters = DecoderVocabulary.learn([text for _, text in pictures()], "char", 60)
    torch.manual_seed(0)
    name, settings = tiny_network("patches", letters)
    model = Predictor("letters", build(name, **settings).eval().requires_grad_(False), letters)
    search = CaptionSearch(beam=1, max_length=20)
    found = word_attention(str(shapes / "Images" / "0.png"), model, search)
    memory = model.encode(pixels()[:1])
    ids = decode(memory, [0], model, search)[0][0].ids
    of_tokens = token_attention(memory, ids, model)
    text, start = letters.decode(ids), 0
    assert found.words == text.split()
    for word, shares in zip(found.words, found.weights, strict=True):
        start = text.index(word, start)
        letters_of_word = of_tokens[start : start + len(word)]
        assert shares == pytest.approx(letters_of_word.mean(0), abs=1e-5)
        start += len(word)


def test_the_shade_is_clear_where_the_attention_is() -> None:
    shares = [0.0] * 16
    shares[6] = 1.0
    shade = attention_shade(shares, (4, 4), (80, 80))
    assert shade.shape == (80, 80, 4)
    thinnest = np.unravel_index(shade[..., 3].argmin(), (80, 80))
    assert tuple(np.array(thinnest) // 20) == (1, 2)
    assert shade[70:, :10, 3].min() > 0.7
    assert not attention_shade([0.25] * 4, (2, 2), (8, 8)).any()
