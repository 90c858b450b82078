"""Recurrent networks, against torch and by their equations; streams of Bengio's, too."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.model import build
from dlkit.lm_generate.models.recurrent import RecurrentState
from tests.lm_generate.helpers import V, W, assert_close, loud_network, some_ids

STREAMED = {
    "bengio": {"context": 3, "hidden": 7, "direct": True},
    "rnn-elman": {"layers": 2, "learn_start": True},
    "rnn-jordan": {"layers": 2},
    "gru": {"layers": 2, "tie_embeddings": False},
    "lstm": {"layers": 2, "learn_start": True},
}


@pytest.mark.parametrize("arch", STREAMED)
@torch.no_grad()
def test_the_future_has_no_effect_and_the_past_has(arch: str) -> None:
    model, ids = loud_network(arch, **STREAMED[arch]), some_ids(2, 9)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % V
    before, after = model(ids), model(changed)
    assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:7] - after[:, 5:7]).abs().amax() > 1e-2
    assert before.shape == (2, 9, V)


@pytest.mark.parametrize("arch", STREAMED)
@torch.no_grad()
def test_a_state_continues_where_it_ended(arch: str) -> None:
    model, ids = loud_network(arch, **STREAMED[arch]), some_ids(3, 10)
    state = model.start(3, 10)
    parts = [model(part, state) for part in ids.split([4, 1, 5], dim=1)]
    assert_close(torch.cat(parts, dim=1), model(ids))
    assert_close(model.next_logits(ids[:, 9:], start_after(model, ids[:, :9])), model(ids)[:, -1])


def start_after(model: Any, ids: Tensor) -> Any:
    state = model.start(len(ids), 10)
    model(ids, state)
    return state


@pytest.mark.parametrize("arch", STREAMED)
@torch.no_grad()
def test_padding_has_no_effect_and_rows_can_be_chosen(arch: str) -> None:
    model, ids, past = loud_network(arch, **STREAMED[arch]), some_ids(3, 8), some_ids(3, 2)
    lengths = [5, 8, 0]
    state = start_after(model, past)
    logits = model(ids, state, torch.tensor(lengths))
    rows = [1, 0, 2, 1]
    following = torch.tensor([[3], [4], [5], [6]])
    after = model.next_logits(following, state.select(torch.tensor(rows)))
    for place, row in enumerate(rows):
        alone = torch.cat([past[row], ids[row, : lengths[row]], following[place]])
        expected = model(alone[None])[0]
        assert_close(logits[row, : lengths[row]], expected[2:-1])
        assert_close(after[place], expected[-1])


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_elman_is_torchs_rnn(layers: int) -> None:
    model, ids = loud_network("rnn-elman", layers=layers), some_ids(2, 7)
    theirs = nn.RNN(W, W, layers, batch_first=True)
    for layer in range(layers):
        getattr(theirs, f"weight_ih_l{layer}").copy_(model.inputs[layer].weight)
        getattr(theirs, f"bias_ih_l{layer}").copy_(model.inputs[layer].bias)
        getattr(theirs, f"weight_hh_l{layer}").copy_(model.recurrent[layer].weight)
        getattr(theirs, f"bias_hh_l{layer}").zero_()
    hidden, last = theirs(model.embedding(ids))
    assert_close(model(ids), hidden @ model.embedding.weight.T + model.bias)
    assert_close(start_after(model, ids).tensors[0], last)


@torch.no_grad()
def test_jordan_follows_its_equations() -> None:
    model, ids = loud_network("rnn-jordan", layers=1), some_ids(1, 5)
    heard = torch.zeros(V)
    expected = []
    for i in ids[0]:
        x = model.embedding.weight[i]
        driven = model.inputs[0].weight @ x + model.inputs[0].bias
        hidden = torch.tanh(driven + model.recurrent[0].weight @ heard)
        logits = model.embedding.weight @ hidden + model.bias
        heard = logits.exp() / logits.exp().sum()
        expected.append(logits)
    assert_close(model(ids)[0], torch.stack(expected))


@torch.no_grad()
def test_gru_and_lstm_follow_their_equations() -> None:
    ids = some_ids(1, 5)
    for arch in ("gru", "lstm"):
        model = loud_network(arch, layers=1)
        cells = model.cells
        hidden, cell = torch.zeros(W), torch.zeros(W)
        expected = []
        for i in ids[0]:
            x = cells.weight_ih_l0 @ model.embedding.weight[i] + cells.bias_ih_l0
            h = cells.weight_hh_l0 @ hidden + cells.bias_hh_l0
            if arch == "gru":
                (xr, xz, xn), (hr, hz, hn) = x.chunk(3), h.chunk(3)
                reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
                new = torch.tanh(xn + reset * hn)
                hidden = (1 - update) * new + update * hidden
            else:
                entry, forget, new, out = (x + h).chunk(4)
                cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(new)
                hidden = torch.sigmoid(out) * torch.tanh(cell)
            expected.append(model.embedding.weight @ hidden + model.bias)
        assert_close(model(ids)[0], torch.stack(expected))


def test_dropout_is_torchs_but_for_a_256th() -> None:
    torch.manual_seed(0)
    x = torch.full((500, 1000), 2.0, requires_grad=True)
    y = Dropout(0.2)(x)
    y.sum().backward()
    assert y.count_nonzero() / y.numel() == pytest.approx(205 / 256, abs=2e-3)
    assert_close(y[y > 0], torch.full_like(y[y > 0], 2 * 256 / 205))
    assert x.grad is not None
    assert_close(x.grad * 2, y.detach())
    columns = (y == 0).float().mean(0)  # each of the eight bytes of a word has its share
    assert columns.unflatten(0, (-1, 8)).mean(0).sub(51 / 256).abs().max() < 5e-3
    assert_close(Dropout(0.2).eval()(x), x)
    assert_close(Dropout(0.0)(x), x)


def test_an_lstm_starts_by_remembering() -> None:
    model: Any = build("lstm", vocab_size=V, width=W)
    assert model.cells.bias_ih_l0[W : 2 * W].mean() > 0.5
    assert model.cells.bias_ih_l0[:W].abs().max() <= 1 / math.sqrt(W)


@pytest.mark.parametrize("arch", ["rnn-elman", "rnn-jordan", "gru", "lstm"])
def test_a_state_carries_no_gradient_beyond_detach_and_a_start_is_learned(arch: str) -> None:
    model = loud_network(arch, layers=2, learn_start=True)
    state = model.start(2, 8)
    model(some_ids(2, 4), state)
    assert all(tensor.requires_grad for tensor in state.tensors)
    state.detach()
    assert not any(tensor.requires_grad for tensor in state.tensors)
    F.cross_entropy(model(some_ids(2, 4)).flatten(0, 1), some_ids(8)).backward()
    assert (model.first.grad != 0).any(dim=-1).all()


def test_training_restarts_some_texts_where_the_start_is_learned() -> None:
    model = loud_network("gru", layers=1, learn_start=True).train()
    state = RecurrentState(torch.full((1, 2000, W), 9.0))
    model.restart_rows(state, model.first)
    again = (state.tensors[0][0] != 9).all(dim=-1)
    assert 0.04 < again.float().mean() < 0.09
    assert_close(state.tensors[0][0, again][0], model.first[0, 0])
