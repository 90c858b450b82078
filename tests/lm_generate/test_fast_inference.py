"""Packed linear layers of language models."""

import pytest
import torch
from torch import nn

from dlkit.core.nn.fast_inference import PackedLinear, can_pack, pack_linears
from dlkit.lm_generate.models.bert import BERT
from dlkit.lm_generate.models.t5 import T5
from tests.conftest import loud
from tests.lm_generate.helpers import CLOSE, difference, small_gpt

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_compute_the_same_for_a_row_whatever_the_others_are(
    dtype: torch.dtype,
) -> None:
    linear = nn.Linear(96, 65).to(dtype)
    if not can_pack(linear.weight):
        pytest.skip("this processor has no packed weights of that type")
    packed = PackedLinear(linear.weight, linear.bias)
    x = torch.randn(40, 96).to(dtype)
    with torch.inference_mode():
        y = packed(x)
        assert torch.allclose(y, linear(x), atol=1e-5 if dtype == torch.float32 else 0.02)
        for rows in (1, 2, 3, 4, 17, 33):
            assert torch.equal(packed(x[:rows]), y[:rows])
            assert torch.equal(packed(x[:rows, None]), y[:rows, None])


@pytest.mark.parametrize("activation", ["gelu", "gelu-tanh", "relu"])
@pytest.mark.parametrize("untied", [False, True])
def test_a_packed_network_has_the_same_logits(activation: str, untied: bool) -> None:
    network = small_gpt("learned", activation=activation, tie_embeddings=not untied)
    ids = torch.randint(50, (2, 9))
    with torch.inference_mode():
        before = network(ids)
        assert difference(pack_linears(network)(ids), before) < CLOSE


def test_a_packed_bert_and_t5_have_the_same_logits() -> None:
    ids, source = torch.randint(50, (2, 9)), torch.randint(50, (2, 7))
    hf_bert, t5 = loud(BERT(50, 32, 2, 2, 32)), loud(T5(50, 32, 2, 2, 32))
    with torch.inference_mode():
        before = hf_bert(ids)[0], t5(ids, source=source)
        assert difference(pack_linears(hf_bert)(ids)[0], before[0]) < CLOSE
        assert difference(pack_linears(t5)(ids, source=source), before[1]) < CLOSE


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 0)])
def test_a_text_is_continued_alike_alone_and_among_others(dtype: torch.dtype, most: float) -> None:
    """The same seed then draws the same text in any batch; in bf16, any difference is large."""
    network = small_gpt("learned").to(dtype)
    if not can_pack(network.embedding.weight):
        pytest.skip("this processor has no packed weights of that type")
    pack_linears(network)
    with torch.inference_mode():
        ids, lengths = torch.randint(50, (5, 20)), torch.tensor([6, 9, 1, 4, 9])
        together = network.start(5, 20)
        logits = [network.next_logits(ids[:, :9], together, lengths)]
        for i in range(8):
            given = ids[torch.arange(5), lengths + i][:, None]
            logits.append(network.next_logits(given, together))
        for row in range(5):
            alone, length = network.start(1, 20), int(lengths[row])
            for i in range(9):
                new = (
                    ids[row : row + 1, :length] if i == 0 else ids[row : row + 1, [length + i - 1]]
                )
                found = network.next_logits(new, alone)
                assert difference(found[0], logits[i][row]) <= most
