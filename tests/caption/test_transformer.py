"""The Transformer captioner."""

import torch

from tests.caption.helpers import close, images, small, start_decoding, targets


def test_a_transformers_attention_is_that_of_a_layer_in_the_middle() -> None:
    network = small("transformer")
    assert network.grid == (2, 2)
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        expected = network.attention(target, *network.read(memory))
        state = start_decoding(network, memory)
        for t in range(6):
            close(network.step(target[:, t], state)[1], expected[:, t])
