"""Bengio's network."""

import torch

from tests.lm_generate.helpers import assert_close, loud_network, some_ids


@torch.no_grad()
def test_bengio_follows_its_equation() -> None:
    model = loud_network("bengio", context=2, hidden=7, direct=True)
    a, b = some_ids(2).tolist()
    vectors = model.embedding.weight
    for ids, words in (([a], (model.before, vectors[a])), ([a, b], (vectors[a], vectors[b]))):
        x = torch.cat(words)
        hidden = torch.tanh(model.hidden.weight @ x + model.hidden.bias)
        expected = model.head.bias + model.direct.weight @ x + model.head.weight @ hidden
        assert_close(model(torch.tensor([ids]))[0, -1], expected)
