"""Losses of long texts."""

from typing import Any

import numpy as np
import pytest
import torch

from dlkit.lm_generate import perplexity
from dlkit.lm_generate.model import build
from tests.lm_generate.helpers import SINGLE_PROCESS


@pytest.mark.parametrize(("length", "stride"), [(40, 8), (41, 3), (7, 5), (9, 1), (2, 4), (33, 6)])
@torch.no_grad()
def test_windows_predict_each_token_once_from_their_context(length: int, stride: int) -> None:
    torch.manual_seed(0)
    network: Any = build("gpt", vocab_size=7, context=8, layers=1, heads=1, width=8).eval()
    ids = np.random.default_rng(0).integers(0, 7, length)
    found = perplexity.window_losses(network, ids, 8, stride, SINGLE_PROCESS)
    assert len(found) == length - 1
    for place in range(1, length):
        number = max(0, -(-(place - 8) // stride))  # of the first window that predicts it
        seen = torch.from_numpy(ids[number * stride : place])[None]
        expected = -network(seen)[0, -1].log_softmax(-1)[ids[place]]
        assert found[place - 1] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("streams", [1, 3, 16])
@torch.no_grad()
def test_streams_predict_each_token_once(streams: int) -> None:
    torch.manual_seed(0)
    network: Any = build("gru", vocab_size=7, width=8).eval()
    ids = np.random.default_rng(0).integers(0, 7, 600)
    found = perplexity.stream_losses(network, ids, SINGLE_PROCESS, streams)
    size = -(-599 // streams)
    expected = []
    for start in range(0, 599, size):
        part = torch.from_numpy(ids[start : start + size + 1])
        expected.append(
            -network(part[None, :-1])[0].log_softmax(-1)[range(len(part) - 1), part[1:]]
        )
    np.testing.assert_allclose(found, torch.cat(expected), atol=1e-5)
