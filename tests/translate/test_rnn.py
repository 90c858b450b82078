"""The recurrent encoder-decoder, by its equations."""

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.translate.models.rnn import reverse_words
from tests.translate.helpers import (
    BOS,
    EOS,
    PAD,
    close,
    output_by_hand,
    random_batch,
    small_network,
    stack_by_hand,
)


@pytest.mark.parametrize("name", ["rnn", "rnn-lstm"])
def test_an_encoder_decoder_by_its_equations(name: str) -> None:
    model = small_network(name)
    source, target = [5, 9, 7, 4, EOS], [BOS, 8, 6]
    with torch.inference_mode():
        logits = model(torch.tensor([source]), torch.tensor([5]), torch.tensor([target]))[0]
        read = [4, 7, 9, 5, EOS] if model.reverse else source
        _, states = stack_by_hand(model.encoder, list(model.embedding.weight[read]))
        said, _ = stack_by_hand(model.decoder, list(model.embedding.weight[target]), states)
        close(logits, torch.stack([output_by_hand(model, x) for x in said]))


def test_words_are_reversed_but_not_the_end_and_padding() -> None:
    source = torch.tensor([[5, 6, 7, EOS, PAD], [8, EOS, PAD, PAD, PAD], [4, 5, 6, 7, EOS]])
    expected = [[7, 6, 5, EOS, PAD], [8, EOS, PAD, PAD, PAD], [7, 6, 5, 4, EOS]]
    assert reverse_words(source, torch.tensor([4, 2, 5])).tolist() == expected


def test_an_rnn_has_nothing_to_align_by() -> None:
    source, lengths, target, _ = random_batch()
    with pytest.raises(DlkitError, match="rnn has no attention"):
        small_network("rnn").align(source, lengths, target)
