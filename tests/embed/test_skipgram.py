"""The kernel of skip-gram follows the gradients of its losses."""

import numpy as np
import pytest
import torch

from dlkit.embed import compiled, huffman, loss
from dlkit.embed.hogwild import padded_width, sampling_tables
from dlkit.embed.skipgram import train_skipgram
from tests.embed.helpers import (
    DIM,
    RATE,
    SENTENCE,
    always_drawing,
    descend,
    kernel_settings,
    padded_weights,
    tensors,
)


@pytest.mark.slow
def test_skipgram_follows_the_gradient_of_negative_sampling() -> None:
    inputs, outputs = padded_weights(3, 1), padded_weights(4, 2)
    outputs[3] = 0
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        value = loss.negative_sampling(
            expected_inputs[[context]], expected_outputs[[target]], expected_outputs[[2] * 5][None]
        )
        descend(value, expected_inputs, expected_outputs)
    draw = always_drawing(2, 3, 5)
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM)
    train_skipgram(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)


def test_hierarchical_softmax_follows_its_gradient() -> None:
    counts = np.array([9, 5, 4, 2], np.int64)
    starts, nodes, codes = huffman.huffman_paths(counts)
    inputs, outputs = padded_weights(4, 5), padded_weights(5, 6)
    outputs[4] = 0
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        path = slice(starts[target], starts[target + 1])
        code = torch.from_numpy(codes[path].astype(np.float64))[None]
        value = loss.hierarchical_softmax(
            expected_inputs[[context]], expected_outputs[nodes[path]][None], code,
            torch.ones_like(code),
        )  # fmt: skip
        descend(value, expected_inputs, expected_outputs)
    draw = sampling_tables(counts, kernel_settings(method="skipgram", hs=True, window=1, sample=0))
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM)
    train_skipgram(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)
