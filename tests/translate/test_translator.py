"""The properties that all translators share."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from dlkit.core.nn.fast_inference import pack_linears
from dlkit.translate.loss import smoothed_cross_entropy
from tests.translate.helpers import (
    BOS,
    CLOSE,
    NETWORKS,
    PAD,
    V,
    close,
    random_batch,
    random_ids,
    small_network,
)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        yield small_network(request.param)


def test_a_batch_gives_what_each_sentence_gives_alone(network: Any) -> None:
    source, lengths, target, written = random_batch()
    logits = network(source, lengths, target)
    assert logits.shape == (5, 8, V)
    for row, (length, tokens) in enumerate(zip(lengths, written, strict=True)):
        one = network(source[row : row + 1, :length], length[None], target[row : row + 1, :tokens])
        close(logits[row, :tokens], one[0])


def test_padding_changes_nothing(network: Any) -> None:
    source, lengths, target, _ = random_batch()
    noise = torch.randint(4, V, source.shape)
    there = torch.arange(source.shape[1]) < lengths[:, None]
    close(
        network(torch.where(there, source, noise), lengths, target),
        network(source, lengths, target),
        0,
    )


def test_every_source_token_counts(network: Any) -> None:
    source, lengths, target, _ = random_batch()
    logits = network(source, lengths, target)
    for place in range(int(lengths[0])):
        other = source.clone()
        other[0, place] = (other[0, place] + 1) % V
        assert (network(other, lengths, target)[0] - logits[0]).abs().max() > 100 * CLOSE


def test_later_tokens_do_not_change_earlier_logits(network: Any) -> None:
    source, lengths, target, _ = random_batch()
    changed = torch.cat([target[:, :4], (target[:, 4:] + 1) % V], dim=1)
    one, other = network(source, lengths, target), network(source, lengths, changed)
    close(one[:, :4], other[:, :4])
    assert (one[:, 4:] - other[:, 4:]).abs().max() > 100 * CLOSE


def test_steps_give_the_logits_of_teacher_forcing(network: Any) -> None:
    source, lengths, target, _ = random_batch()
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
def test_selected_rows_continue_unchanged(network: Any, rows: list[int]) -> None:
    source, lengths, target, _ = random_batch()
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
    source, lengths, _, _ = random_batch()
    target = random_ids([7] * 10, BOS)  # two for each source
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
    source, lengths, target, _ = random_batch()
    at = target != PAD
    close(network(source, lengths, target, at=at), network(source, lengths, target)[at])


@pytest.mark.parametrize("name", NETWORKS)
def test_scheduled_sampling_shows_the_model_its_own_choices(name: str) -> None:
    """Twice, all of them: then nothing but <s> and the first choice came from the target."""
    model = small_network(name)
    source, lengths, target, _ = random_batch()
    with torch.no_grad():
        true = model(source, lengths, target)
        sampled = model(source, lengths, target, sampling_share=1.0)
        close(sampled[:, 0], true[:, 0])
        chosen = true.argmax(-1) if name.startswith("transformer") else sampled.argmax(-1)
        seen = torch.cat([target[:, :1], chosen[:, :-1]], dim=1)
        close(sampled, model(source, lengths, seen))
        close(model(source, lengths, target, sampling_share=1e-9), true)
    model(source, lengths, target, sampling_share=0.5).sum().backward()


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_weights_give_the_same_logits(name: str) -> None:
    model = small_network(name)
    source, lengths, target, _ = random_batch()
    with torch.inference_mode():
        expected = model(source, lengths, target)
        close(pack_linears(model)(source, lengths, target), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_in_half_precision_the_same(name: str) -> None:
    model = small_network(name, dropout=0.0).train()
    source, lengths, target, _ = random_batch()
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(source, lengths, target[:, :-1])
        assert logits.dtype == torch.float32
        model.zero_grad()
        smoothed_cross_entropy(logits, target[:, 1:], PAD, 0.1).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99
