"""The parts of a GPT."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.lm_generate.models import gpt as gpt_module
from dlkit.lm_generate.models.gpt import causal_attention, rotate
from tests.lm_generate.helpers import CLOSE, difference, small_gpt

pytestmark = pytest.mark.usefixtures("seeded")


def test_a_step_in_a_window_of_fixed_size_gives_the_same_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The computation of a CUDA graph, without the graph: nothing depends on the position."""
    made = []

    def as_cuda_graph(
        compute: Callable[[Tensor], Tensor], ids: Tensor, lengths: Tensor
    ) -> Callable[[Tensor], Tensor]:
        before = lengths.clone()
        compute(ids)
        lengths.copy_(before)
        made.append(ids)
        return compute

    monkeypatch.setattr(gpt_module, "as_cuda_graph", as_cuda_graph)
    monkeypatch.setattr(gpt_module, "GRAPH_WINDOW", 8)
    network = small_gpt("rotary")
    with torch.inference_mode():
        ids = torch.randint(50, (3, 20))
        full, state, lengths = network(ids), network.start(3, 20), torch.tensor([4, 6, 2])
        network(ids[:, :6], state, lengths)
        for _ in range(12):
            next_ids = ids[torch.arange(3), lengths][:, None]
            length = state.longest
            logits = network.replay_step(next_ids, state)
            # The graph leaves what Python counts to `replay_step`.
            state.longest = length + 1
            assert difference(logits, full[torch.arange(3), lengths]) < CLOSE
            lengths = lengths + 1
        assert len(made) == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graphs_give_the_logits_of_the_cpu() -> None:
    network = small_gpt("learned")
    with torch.inference_mode():
        ids = torch.randint(50, (3, 20))
        full = network(ids)
        network.cuda()
        state = network.start(3, 20)
        network(ids[:, :5].cuda(), state)
        for i in range(5, 20):
            logits = network.next_logits(ids[:, i : i + 1].cuda(), state)
            assert difference(logits.cpu(), full[:, i]) < CLOSE


def test_rotary_positions_are_turns_of_complex_numbers() -> None:
    x = torch.randn(2, 5, 3, 8)
    turns = gpt_module.angles(5, 8)
    turned = rotate(x, turns.cos().unsqueeze(-2), turns.sin().unsqueeze(-2))
    for t in range(5):
        for pair in range(4):
            number = torch.complex(x[:, t, :, pair], x[:, t, :, pair + 4])
            factor = complex(math.cos(t / 10_000 ** (pair / 4)), math.sin(t / 10_000 ** (pair / 4)))
            assert torch.allclose(turned[:, t, :, pair], (number * factor).real, atol=1e-6)
            assert torch.allclose(turned[:, t, :, pair + 4], (number * factor).imag, atol=1e-6)


def test_sinusoidal_positions_are_those_of_the_paper() -> None:
    network = small_gpt("sinusoidal")
    assert network.sin[7, 3].item() == pytest.approx(math.sin(7 / 10_000 ** (2 * 3 / 32)))
    assert network.cos[7, 3].item() == pytest.approx(math.cos(7 / 10_000 ** (2 * 3 / 32)))


def test_attention_in_training_is_that_of_torch() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 2, 3, 40, 16)
    exact = inputs.clone().requires_grad_()
    rounded = inputs.to(torch.bfloat16).requires_grad_()
    theirs = F.scaled_dot_product_attention(exact[0], exact[1], exact[2], is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours = causal_attention(rounded[0], rounded[1], rounded[2])
    (theirs * inputs[0]).sum().backward()
    (ours.float() * inputs[0]).sum().backward()
    assert exact.grad is not None
    assert rounded.grad is not None
    for a, b in ((ours.float(), theirs), (rounded.grad.float(), exact.grad)):
        assert (a - b).abs().max() < 0.02 * b.abs().max()
