"""The compiled building blocks: one step, the sigmoid, random draws."""

import numpy as np
import pytest
import torch

from dlkit.embed import compiled
from dlkit.embed.hogwild import padded_width, sampling_tables
from tests.embed.helpers import DIM, RATE, descend, kernel_settings, padded_weights, tensors


def test_a_step_on_several_inputs_and_groups_is_one_gradient() -> None:
    inputs, outputs = padded_weights(5, 3), padded_weights(12, 4)
    own = compiled.new_scratch(2, 12, padded_width(DIM))
    own.input_offsets[:] = np.array([4, 0, 2, 3]) * padded_width(DIM)
    own.output_offsets[:12] = np.arange(12) * padded_width(DIM)
    own.labels[0] = own.labels[7] = 1
    own.weights[:11] = 1
    used = [4, 0, 2, 3]
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    scores = expected_inputs[used] @ expected_outputs[:11].T
    signs = torch.from_numpy(2 * own.labels[:11].astype(np.float64) - 1)
    value = -torch.nn.functional.logsigmoid(scores * signs).sum()
    descend(value, expected_inputs, expected_outputs)
    flat = inputs.reshape(-1), own.input_offsets, 4, outputs.reshape(-1), 12, padded_width(DIM)
    compiled.step(*flat, np.float32(RATE), True, True, own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)
    assert own.stats[0] == pytest.approx(value.item(), rel=1e-5)


def test_sigmoid() -> None:
    x = np.linspace(-12, 12, 1001, dtype=np.float32)
    found = [compiled.sigmoid.py_func(value) for value in x]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x.astype(float))), atol=1e-5)


def test_negative_words_and_kept_words_have_their_probabilities() -> None:
    counts = np.array([1000, 100, 10, 1])
    draw = sampling_tables(counts, kernel_settings(method="skipgram", sample=0.1))
    wanted = counts**0.75 / (counts**0.75).sum()
    state, drawn = compiled.seed_state(np.uint64(3)), np.zeros(4)
    for _ in range(20000):
        state = np.uint64((int(state) * int(compiled.MULTIPLIER) + int(compiled.INCREMENT)) % 2**64)
        drawn[compiled.draw_negative.py_func(draw.alias, state)] += 1
    np.testing.assert_allclose(drawn / 20000, wanted, atol=0.01)
    share = counts / counts.sum()
    kept = np.minimum(np.sqrt(0.1 / share) + 0.1 / share, 1)
    np.testing.assert_allclose(draw.keep / 2**32, kept, atol=1e-6)
