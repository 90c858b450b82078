"""The Transformer translator."""

import math

import pytest
import torch

from dlkit.core.nn.transformer import sinusoids
from dlkit.translate.models.transformer import Transformer
from tests.translate.helpers import BOS, W, close, random_batch, random_ids, small_network


def test_positions_are_those_of_the_paper_however_far() -> None:
    table = sinusoids(400, W)
    for position, number in [(0, 0), (3, 1), (7, 4), (399, 5)]:
        angle = position / 10_000 ** (number // 2 * 2 / W)
        expected = math.cos(angle) if number % 2 else math.sin(angle)
        assert table[position, number].item() == pytest.approx(expected, abs=1e-4)
    model: Transformer = small_network("transformer")
    with torch.inference_mode():
        far = model.embed(torch.full((1, 300), 5))[0] - model.embedding.weight[5] * math.sqrt(W)
        close(far, sinusoids(300, W))


def test_a_transformer_writes_beyond_its_first_memory() -> None:
    model = small_network("transformer")
    source, lengths, _, _ = random_batch()
    target = random_ids([40] * 5, BOS)
    with torch.inference_mode():
        expected = model(source, lengths, target)
        state = model.start(source, lengths, 40)
        for t in range(40):
            close(model.step(target[:, t], state)[0], expected[:, t])
