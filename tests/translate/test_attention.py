"""Recurrent networks with attention, by their equations."""

import pytest
import torch

from tests.translate.helpers import BOS, EOS, W, close, output_by_hand, small_network, stack_by_hand


@pytest.mark.parametrize("score", ["additive", "general", "dot"])
@pytest.mark.parametrize("feeding", [False, True])
def test_attention_by_its_equations(score: str, feeding: bool) -> None:
    settings = {"score": score, "input_feeding": feeding, "residual": True, "layers": 2}
    model = small_network("attention", **settings)
    source, target = [5, 9, 7, EOS], [BOS, 8, 6, 11]
    ids = torch.tensor([source]), torch.tensor([4]), torch.tensor([target])
    with torch.inference_mode():
        logits, aligned = model(*ids)[0], model.align(*ids)[0]
        annotations, states = stack_by_hand(model.encoder, list(model.embedding.weight[source]))
        attentional = torch.zeros(W)
        for t, token in enumerate(target):
            x = model.embedding.weight[token]
            fed = torch.cat([x, attentional]) if feeding else x
            (h,), states = stack_by_hand(model.decoder, [fed], states)
            scores = []
            for m in annotations:
                if score == "additive":  # v^T tanh(W h + U m)
                    hidden = torch.tanh(model.score.query.weight @ h + model.score.key.weight @ m)
                    scores.append(model.score.weight.weight[0] @ hidden)
                elif score == "general":  # h^T W m
                    scores.append(h @ model.score.key.weight @ m)
                else:
                    scores.append(h @ m)
            a = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            context = sum(share * m for share, m in zip(a, annotations, strict=True))
            attentional = torch.tanh(model.combine.weight @ torch.cat([context, h]))
            close(aligned[t], a)
            close(logits[t], output_by_hand(model, attentional))
