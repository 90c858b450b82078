"""The Neural Image Caption generator, by its equations."""

import torch

from tests.caption.helpers import W, close, images, lstm, small, targets


def test_nic_reads_the_image_then_the_words() -> None:
    """Vinyals et al. 2015, equations 10 to 12: the image is seen once, before <s>."""
    network = small("nic", layers=1)
    layer = network.decoder.layers[0]
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0]
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        zero = torch.zeros(2, W)
        h, c = lstm(network.image(memory.mean(1)), zero, zero, weights)
        logits = network(memory, target).logits
        for t in range(6):
            h, c = lstm(network.embedding(target[:, t]), h, c, weights)
            close(logits[:, t], h @ network.embedding.weight.T + network.bias)
