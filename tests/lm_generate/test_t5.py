"""T5 against transformers."""

import pytest
import torch
from torch import Tensor

from dlkit.lm_generate.models.t5 import T5
from tests.conftest import loud
from tests.lm_generate.helpers import CLOSE, difference

pytestmark = pytest.mark.usefixtures("seeded")


def test_t5_has_the_logits_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=128, num_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    theirs = transformers.T5ForConditionalGeneration(config)
    theirs = loud(theirs)
    ours = T5(50, layers=2, heads=4, width=32).eval()
    ours.load_state_dict(t5_weights(theirs.state_dict()))
    # Past 128 tokens all distances are alike.
    source, target = torch.randint(2, 50, (2, 150)), torch.randint(2, 50, (2, 140))
    lengths = torch.tensor([150, 60])
    there = (torch.arange(150) < lengths[:, None]).long()
    with torch.inference_mode():
        expected = theirs(source, attention_mask=there, decoder_input_ids=target).logits
        assert difference(ours(target, source=source, source_lengths=lengths), expected) < CLOSE
    assert expected.std() > 0.5


def t5_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' weights under our names."""
    weights = {"embedding.weight": theirs["shared.weight"]}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[f"{stack}_bias.embedding.weight"] = theirs[first]
        weights[f"{stack}_norm.weight"] = theirs[f"{stack}.final_layer_norm.weight"]
        for n in range(2):
            block, ours = f"{stack}.block.{n}.layer.", f"{stack}.{n}."
            parts = [("attention", "0.SelfAttention", "0")]
            if stack == "decoder":
                parts.append(("reading", "1.EncDecAttention", "1"))
            for name, attention, number in parts:
                q, k, v, o = (theirs[f"{block}{attention}.{part}.weight"] for part in "qkvo")
                weights[f"{ours}{name}.query.weight"] = q
                weights[f"{ours}{name}.key_value.weight"] = torch.cat([k, v])
                weights[f"{ours}{name}.out.weight"] = o
                norm = theirs[f"{block}{number}.layer_norm.weight"]
                weights[f"{ours}{name}_norm.weight"] = norm
            dense = f"{block}{last}.DenseReluDense"
            weights[f"{ours}up.weight"] = theirs[f"{dense}.wi.weight"]
            weights[f"{ours}down.weight"] = theirs[f"{dense}.wo.weight"]
            weights[f"{ours}norm.weight"] = theirs[f"{block}{last}.layer_norm.weight"]
    return weights
