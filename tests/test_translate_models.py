"""Translators: their equations, their states, and what padding must not change."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.translate.model import build

V, W, H = 23, 16, 4
PAD, BOS, EOS = 0, 1, 2
SPECIAL = {"vocab_size": V, "pad": PAD, "bos": BOS, "eos": EOS, "unk": 3}
CLOSE = 1e-5

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {}),
    "rnn-lstm": ("rnn", {"cell": "lstm", "reverse": True, "residual": True, "untied": True}),
    "attention": ("attention", {}),
    "attention-general": ("attention", {"score": "general", "cell": "lstm", "untied": True}),
    "attention-dot": ("attention", {"score": "dot", "input_feeding": True, "residual": True}),
    "transformer": ("transformer", {"heads": H, "inner": 24}),
    "transformer-pre-norm": ("transformer", {"heads": H, "pre_norm": True, "untied": True}),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def loud(network: nn.Module) -> Any:
    """With larger weights than at the start: else all logits are about alike."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def small(name: str, **settings: Any) -> Any:
    arch, own = NETWORKS[name]
    return loud(
        build(arch, **{**SPECIAL, "width": W, "layers": 3, "dropout": 0.2, **own, **settings})
    )


def close(a: Tensor, b: Tensor, tolerance: float = CLOSE) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def sentences(lengths: list[int], begin: int | None = None, end: int | None = None) -> Tensor:
    """Random ids, padded at their right."""
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, V, (length,))
        if begin is not None:
            ids[row, 0] = begin
        if end is not None:
            ids[row, length - 1] = end
    return ids


def batch() -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Sources (5, 9) and their lengths, targets (5, 8) and theirs."""
    lengths = [9, 2, 5, 1, 7]
    written = [3, 8, 1, 5, 8]
    return sentences(lengths, end=EOS), torch.tensor(lengths), sentences(written, BOS), written


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        yield small(request.param)


# ---- every architecture --------------------------------------------------------------------------


def test_a_batch_gives_what_each_sentence_gives_alone(network: Any) -> None:
    source, lengths, target, written = batch()
    logits = network(source, lengths, target)
    assert logits.shape == (5, 8, V)
    for row, (length, tokens) in enumerate(zip(lengths, written, strict=True)):
        one = network(source[row : row + 1, :length], length[None], target[row : row + 1, :tokens])
        close(logits[row, :tokens], one[0])


def test_what_stands_in_the_padding_changes_nothing(network: Any) -> None:
    source, lengths, target, _ = batch()
    noise = torch.randint(4, V, source.shape)
    there = torch.arange(source.shape[1]) < lengths[:, None]
    close(
        network(torch.where(there, source, noise), lengths, target),
        network(source, lengths, target),
        0,
    )


def test_every_source_token_counts(network: Any) -> None:
    source, lengths, target, _ = batch()
    logits = network(source, lengths, target)
    for place in range(int(lengths[0])):
        other = source.clone()
        other[0, place] = (other[0, place] + 1) % V
        assert (network(other, lengths, target)[0] - logits[0]).abs().max() > 100 * CLOSE


def test_what_comes_later_does_not_change_the_past(network: Any) -> None:
    source, lengths, target, _ = batch()
    changed = torch.cat([target[:, :4], (target[:, 4:] + 1) % V], dim=1)
    one, other = network(source, lengths, target), network(source, lengths, changed)
    close(one[:, :4], other[:, :4])
    assert (one[:, 4:] - other[:, 4:]).abs().max() > 100 * CLOSE


def test_steps_give_the_logits_of_teacher_forcing(network: Any) -> None:
    source, lengths, target, _ = batch()
    expected = network(source, lengths, target)
    state = network.start(source, lengths, 8)
    for t in range(8):
        logits, attention = network.step(target[:, t], state)
        assert logits.dtype == torch.float32
        close(logits, expected[:, t])
        if attention is not None:
            close(attention, network.align(source, lengths, target)[:, t])
            close(attention.sum(1), torch.ones(5))
            assert not attention[torch.arange(9) >= lengths[:, None]].any()


@pytest.mark.parametrize(
    "rows",
    [
        [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4],  # three beams of each
        [0, 0, 3, 3],  # of two, the others are done
        [4, 2, 2, 1, 0, 2],  # anything
        [1],
    ],
)
def test_rows_that_are_selected_go_on_as_they_would_have(network: Any, rows: list[int]) -> None:
    source, lengths, target, _ = batch()
    expected = network(source, lengths, target)
    state = network.start(source, lengths, 8)
    for t in range(3):
        network.step(target[:, t], state)
    chosen = torch.tensor(rows)
    state = state.select(chosen)
    for t in range(3, 8):
        logits, _ = network.step(target[chosen, t], state)
        close(logits, expected[chosen, t])
        if t == 5:  # the beams of each source change places, and one of two is left
            order = torch.arange(len(rows)).flip(0)[::2].flip(0)
            state, chosen = state.select(order), chosen[order]


def test_beams_of_a_source_that_differ_stay_apart(network: Any) -> None:
    source, lengths, _, _ = batch()
    target = sentences([7] * 10, BOS)  # two for each source
    which = torch.arange(5).repeat_interleave(2)
    expected = network(source[which], lengths[which], target)
    state = network.start(source, lengths, 7).select(which)
    order = torch.arange(10)
    for t in range(7):
        logits, _ = network.step(target[order, t], state)
        close(logits, expected[order, t])
        if t == 3:  # the second beam of each goes on in two, where the first one was
            order = order | 1
            state = state.select(order)
        if t == 5:  # the third source is done
            left = torch.tensor([0, 1, 2, 3, 6, 7, 8, 9])
            order, state = order[left], state.select(left)


def test_logits_of_some_places_only(network: Any) -> None:
    source, lengths, target, _ = batch()
    at = target != PAD
    close(network(source, lengths, target, at=at), network(source, lengths, target)[at])


@pytest.mark.parametrize("name", NETWORKS)
def test_scheduled_sampling_shows_the_model_its_own_choices(name: str) -> None:
    """Twice, all of them: then nothing but <s> and the first choice came from the target."""
    model = small(name)
    source, lengths, target, _ = batch()
    with torch.no_grad():
        true = model(source, lengths, target)
        sampled = model(source, lengths, target, sampled=1.0)
        close(sampled[:, 0], true[:, 0])
        chosen = true.argmax(-1) if name.startswith("transformer") else sampled.argmax(-1)
        seen = torch.cat([target[:, :1], chosen[:, :-1]], dim=1)
        close(sampled, model(source, lengths, seen))
        close(model(source, lengths, target, sampled=1e-9), true)
    model(source, lengths, target, sampled=0.5).sum().backward()


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(DlkitError, match="there is rnn, attention, transformer"):
        build("lstm", **SPECIAL)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(DlkitError, match="width"):
        build("transformer", **SPECIAL, width=10, heads=4)
