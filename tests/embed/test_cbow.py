"""The kernels of CBOW and fastText follow the gradients of their loss."""

from typing import Any

import numpy as np
import pytest
import torch

from dlkit.embed import compiled, loss
from dlkit.embed.cbow import train_cbow
from dlkit.embed.fasttext import train_fasttext
from dlkit.embed.hogwild import padded_width
from tests.embed.helpers import DIM, RATE, SENTENCE, always_drawing, padded_weights, tensors


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [train_cbow, train_fasttext])
def test_means_of_rows_follow_the_gradient(kernel: Any) -> None:
    """Each row takes the gradient of the mean whole, as in word2vec.c and fastText."""
    rows, starts = np.array([0, 3, 4, 1, 4, 2], np.int32), np.array([0, 3, 5, 6])
    inputs, outputs = padded_weights(5, 7), padded_weights(4, 8)
    outputs[3] = 0
    expected, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        if kernel is train_fasttext:
            target, context = context, target
        own_rows = rows[starts[context] : starts[context + 1]].tolist()
        mean = loss.mean_of_rows(expected[own_rows][None], torch.ones(1, len(own_rows)))
        mean = mean.detach().requires_grad_()
        positive, negatives = expected_outputs[[target]], expected_outputs[[2] * 5][None]
        value = loss.negative_sampling(mean, positive, negatives)
        of_mean, of_outputs = torch.autograd.grad(value, (mean, expected_outputs))
        with torch.no_grad():
            expected[own_rows] -= RATE * of_mean
            expected_outputs -= RATE * of_outputs
    draw = always_drawing(2, 3, 5)
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM), rows, starts
    kernel(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)
