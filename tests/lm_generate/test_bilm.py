"""The bidirectional network and its language model."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.bilm import bidirectional_loss, bidirectional_losses
from dlkit.lm_generate.infer import generate, score
from dlkit.lm_generate.model import build
from tests.lm_generate.helpers import (
    CODEC,
    SINGLE_PROCESS,
    V,
    W,
    assert_close,
    loud_network,
    some_ids,
    wrap,
)


def test_a_bilm_scores_from_both_sides() -> None:
    torch.manual_seed(0)
    made: Any = build("bilm", vocab_size=CODEC.size, width=8, layers=2).eval()
    model = wrap(made, arch="bilm")
    [result] = score(["To be"], model)
    ids = CODEC.encode("To be")
    with torch.no_grad():
        right, left = (x[0].log_softmax(-1) for x in made(torch.tensor([ids])))
    sums = [float(left[1, ids[0]])]
    for t in range(1, len(ids) - 1):
        sums.append(float(right[t - 1, ids[t]] + left[t + 1, ids[t]]) / 2)
    sums.append(float(right[len(ids) - 2, ids[-1]]))
    assert [t.logprob for t in result.tokens] == pytest.approx(sums, abs=1e-3)
    with pytest.raises(DlkitError, match="cannot continue"):
        next(generate(["the"], model))


@torch.no_grad()
def test_the_losses_of_a_bilm_are_of_both_directions() -> None:
    torch.manual_seed(0)
    network: Any = build("bilm", vocab_size=7, width=8, context=50).eval()
    ids = np.random.default_rng(0).integers(0, 7, 30)
    losses = bidirectional_losses(network, ids, 25, SINGLE_PROCESS)
    whole = torch.from_numpy(ids)[None]
    right, left = network(whole)
    before = nn.functional.cross_entropy(right[0, :-1], whole[0, 1:])
    behind = nn.functional.cross_entropy(left[0, 1:], whole[0, :-1])
    assert losses.mean() == pytest.approx(float(before + behind) / 2, abs=1e-5)
    with_one_more = torch.cat([whole, torch.tensor([[3]])], dim=1)
    trained = bidirectional_loss(network, whole, with_one_more[:, 1:], None)
    last = nn.functional.cross_entropy(right[0], with_one_more[0, 1:])
    assert float(trained) == pytest.approx(float(last + behind) / 2, abs=1e-5)


@torch.no_grad()
def test_bilm_reads_each_side_from_that_side_only() -> None:
    model, ids = loud_network("bilm", layers=2), some_ids(2, 9)
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] + 1) % V
    (right, left), (other_right, other_left) = model(ids), model(changed)
    assert_close(right[:, :4], other_right[:, :4])
    assert_close(left[:, 5:], other_left[:, 5:])
    assert (right[:, 4:] - other_right[:, 4:]).abs().amax() > 1e-2
    assert (left[:, :5] - other_left[:, :5]).abs().amax() > 1e-2
    mirrored = loud_network("bilm", layers=2)
    mirrored.forwards, mirrored.backwards = mirrored.backwards, mirrored.forwards
    assert_close(mirrored(ids.flip(1))[0].flip(1), left)


@torch.no_grad()
def test_bilm_features_are_of_a_token_in_its_context_whatever_the_padding() -> None:
    model, ids = loud_network("bilm", layers=2), some_ids(2, 9)
    lengths = torch.tensor([9, 6])
    features = model.features(ids, lengths)
    assert features.shape == (3, 2, 9, 2 * W)
    assert_close(features[0, 0], model.embedding(ids[0]).repeat(1, 2))
    assert_close(features[:, 1, :6], model.features(ids[1:, :6])[:, 0])
    for padded, alone in zip(model(ids, lengths), model(ids[1:, :6]), strict=True):
        assert_close(padded[1, :6], alone[0])
