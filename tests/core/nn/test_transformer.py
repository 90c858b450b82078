"""The layers of Transformers against torch's, and what is read once for several beams."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlkit.core.nn.decoder_state import EncoderMemory
from dlkit.core.nn.transformer import (
    DecoderLayer,
    EncoderLayer,
    Layer,
    SelfAttention,
    additive_mask,
    padding,
)
from tests.conftest import loud

W, H = 16, 4


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def copy(target: Any, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        target.weight.copy_(weight)
        target.bias.copy_(bias)


def copy_shared(layer: Layer, theirs: Any, norms: list[tuple[nn.LayerNorm, nn.LayerNorm]]) -> None:
    """What encoder and decoder layers have of torch's layer; pairs of norms, ours first."""
    copy(layer.attention.qkv, theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias)
    copy(layer.attention.out, theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias)
    copy(layer.feed_forward.up, theirs.linear1.weight, theirs.linear1.bias)
    copy(layer.feed_forward.down, theirs.linear2.weight, theirs.linear2.bias)
    for ours, norm in norms:
        copy(ours, norm.weight, norm.bias)


def test_attention_of_several_heads_is_torchs() -> None:
    theirs = loud(nn.MultiheadAttention(W, H, batch_first=True))
    ours = SelfAttention(W, H).eval()
    copy(ours.qkv, theirs.in_proj_weight, theirs.in_proj_bias)
    copy(ours.out, theirs.out_proj.weight, theirs.out_proj.bias)
    x, lengths = torch.randn(3, 6, W), torch.tensor([6, 2, 4])
    hidden = padding(6, lengths)
    expected, _ = theirs(x, x, x, key_padding_mask=hidden[:, 0, 0], need_weights=False)
    close(ours(x, additive_mask(hidden)), expected)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_an_encoder_layer_is_torchs(pre_norm: bool) -> None:
    theirs = nn.TransformerEncoderLayer(
        W, H, 24, dropout=0.0, batch_first=True, norm_first=pre_norm
    )
    theirs = loud(theirs).train()  # in evaluation it takes a way that fills padding with zeros
    ours = EncoderLayer(W, H, 24, 0.3, pre_norm).eval()
    norms = [(ours.attention_norm, theirs.norm1), (ours.norm, theirs.norm2)]
    copy_shared(ours, theirs, norms)
    x, hidden = torch.randn(3, 6, W), padding(6, torch.tensor([6, 2, 4]))
    expected = theirs(x, src_key_padding_mask=hidden[:, 0, 0])
    close(ours(x, additive_mask(hidden)), expected)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_decoder_layer_is_torchs(pre_norm: bool) -> None:
    theirs = loud(
        nn.TransformerDecoderLayer(W, H, 24, dropout=0.0, batch_first=True, norm_first=pre_norm)
    )
    ours = DecoderLayer(W, H, 24, 0.3, pre_norm).eval()
    norms = [
        (ours.attention_norm, theirs.norm1),
        (ours.reading_norm, theirs.norm2),
        (ours.norm, theirs.norm3),
    ]
    copy_shared(ours, theirs, norms)
    weights, biases = theirs.multihead_attn.in_proj_weight, theirs.multihead_attn.in_proj_bias
    copy(ours.reading.query, weights[:W], biases[:W])
    copy(ours.reading.key_value, weights[W:], biases[W:])
    out = theirs.multihead_attn.out_proj
    copy(ours.reading.out, out.weight, out.bias)
    x, memory, lengths = torch.randn(3, 5, W), torch.randn(3, 6, W), torch.tensor([6, 2, 4])
    hidden, later = padding(6, lengths), torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected = theirs(x, memory, tgt_mask=later, memory_key_padding_mask=hidden[:, 0, 0])
    close(
        ours(x, additive_mask(later), ours.reading.keys_and_values(memory), additive_mask(hidden)),
        expected,
    )


def test_beams_move_nothing_of_what_was_read() -> None:
    sources = EncoderMemory([torch.arange(6.0).view(1, 3, 2)])
    beams = sources.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert beams.tensors[0] is sources.tensors[0]
    moved = beams.select(torch.tensor([1, 1, 3, 2, 5, 4]))
    assert moved.tensors[0] is sources.tensors[0]
    assert moved.beams == 2
    left = moved.select(torch.tensor([0, 1, 4, 5]))  # the second source is done
    assert left.tensors[0].tolist() == [[[0, 1], [4, 5]]]
    assert left.beams == 2
    uneven = left.select(torch.tensor([3, 0, 1]))
    assert uneven.tensors[0].tolist() == [[[4, 5], [0, 1], [0, 1]]]
    assert uneven.beams == 1
