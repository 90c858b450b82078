"""Soft and hard attention, by their equations."""

import pytest
import torch
from torch.nn import functional as F

from tests.caption.helpers import CLOSE, close, images, lstm, small, targets


@pytest.mark.parametrize("hard", [False, True])
def test_attend_by_its_equations(hard: bool) -> None:
    """Xu et al. 2015, equations 1 to 7 and 4.2.1; hard attention sees the most probable place."""
    network = small("attend", hard_attention=hard)
    rest = network.gates_of_rest.weight
    weights = [
        torch.cat([network.gates_of_word.weight, rest[:, : network.channels]], dim=1),
        rest[:, network.channels :],
        network.gates_of_word.bias,
    ]
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        a = F.layer_norm(memory, (network.channels,), network.annotation_norm.weight,
                         network.annotation_norm.bias)  # fmt: skip
        output = network(memory, target)
        for row in range(2):
            h = network.output_start(a[row].mean(0)).tanh()
            c = network.cell_start(a[row].mean(0)).tanh()
            for t in range(6):
                scores = [network.score((network.query(h) + network.key(p)).tanh()) for p in a[row]]
                alpha = torch.cat(scores).softmax(0)
                z = a[row, alpha.argmax()] if hard else (alpha[:, None] * a[row]).sum(0)
                z = network.gate(h).sigmoid() * z
                word = network.embedding(target[row, t])
                h, c = lstm(torch.cat([word, z]), h, c, weights)
                mixed = word + network.from_output(h) + network.from_context(z)
                close(output.alphas[row, t], alpha)
                close(
                    output.logits[row, t],
                    network.embedding.weight @ mixed + network.bias,
                    10 * CLOSE,
                )


def test_hard_attention_samples_locations_for_half_of_the_images() -> None:
    network = small("attend-hard", dropout=0.0, image_size=96).train()
    seen, target = network.encode(torch.randn(1, 3, 96, 96)), targets(1)
    output = network(seen.expand(600, -1, -1), target.expand(600, -1))
    first, alpha = output.chosen[:, 0], output.alphas[0, 0]
    drawn = output.chosen.abs().sum(1) > 0
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.07)
    # At the first word all have the same shares: how often each was drawn.
    often = torch.stack([torch.isclose(first[drawn], p.log()).float().mean() for p in alpha])
    close(often, alpha.detach(), 0.1)
    close(output.alphas[:, 0], alpha.expand(600, -1))
