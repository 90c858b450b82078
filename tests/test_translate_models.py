"""Translators: their equations, their states, and what padding must not change."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.core.nn.transformer import sinusoids
from dlkit.translate.loss import smoothed_cross_entropy
from dlkit.translate.model import ARCHITECTURES, SETTINGS, build
from dlkit.translate.models.rnn import reverse_words
from dlkit.translate.models.transformer import Transformer
from tests.conftest import loud

V, W, H = 23, 16, 4
PAD, BOS, EOS = 0, 1, 2
SPECIAL = {"vocab_size": V, "pad": PAD, "bos": BOS, "eos": EOS, "unk": 3}
CLOSE = 1e-5

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {}),
    "rnn-lstm": (
        "rnn",
        {"cell": "lstm", "reverse": True, "residual": True, "tie_embeddings": False},
    ),
    "attention": ("attention", {}),
    "attention-general": (
        "attention",
        {"score": "general", "cell": "lstm", "tie_embeddings": False},
    ),
    "attention-dot": ("attention", {"score": "dot", "input_feeding": True, "residual": True}),
    "transformer": ("transformer", {"heads": H, "ffn_width": 24}),
    "transformer-pre-norm": (
        "transformer",
        {"heads": H, "pre_norm": True, "tie_embeddings": False},
    ),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


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
        sampled = model(source, lengths, target, sampling_share=1.0)
        close(sampled[:, 0], true[:, 0])
        chosen = true.argmax(-1) if name.startswith("transformer") else sampled.argmax(-1)
        seen = torch.cat([target[:, :1], chosen[:, :-1]], dim=1)
        close(sampled, model(source, lengths, seen))
        close(model(source, lengths, target, sampling_share=1e-9), true)
    model(source, lengths, target, sampling_share=0.5).sum().backward()


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_weights_give_the_same_logits(name: str) -> None:
    model = small(name)
    source, lengths, target, _ = batch()
    with torch.inference_mode():
        expected = model(source, lengths, target)
        close(pack_linears(model)(source, lengths, target), expected)


@pytest.mark.parametrize("arch", SETTINGS)
def test_its_settings_are_those_that_are_named(arch: str) -> None:
    own = list(inspect.signature(ARCHITECTURES[arch]).parameters)
    assert (*SETTINGS[arch], "translator") == tuple(own)
    assert set(SETTINGS) == set(ARCHITECTURES)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(DlkitError, match="choose from rnn, attention, transformer"):
        build("lstm", **SPECIAL)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(DlkitError, match="width"):
        build("transformer", **SPECIAL, width=10, heads=4)


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("rnn", {"cell": "elman"}),
        ("attention", {"score": "cosine"}),
        ("attention", {"width": 7}),
    ],
)
def test_settings_that_there_are_not_are_refused(arch: str, settings: dict[str, Any]) -> None:
    with pytest.raises(DlkitError, match="there is|choose from|odd"):
        build(arch, **SPECIAL, **settings)


# ---- the loss ------------------------------------------------------------------------------------


def test_the_loss_by_its_formula() -> None:
    logits, labels = torch.randn(2, 3, V), torch.tensor([[4, 5, PAD], [6, PAD, PAD]])
    logprobs = logits.log_softmax(-1)
    for smoothing in (0.0, 0.1):
        expected = torch.zeros(())
        for row, place in ((0, 0), (0, 1), (1, 0)):
            one = logprobs[row, place]
            expected -= (1 - smoothing) * one[labels[row, place]] + smoothing * one.mean()
        close(smoothed_cross_entropy(logits, labels, PAD, smoothing), expected / 3)
        real = labels != PAD
        close(smoothed_cross_entropy(logits[real], labels[real], PAD, smoothing), expected / 3)


# ---- recurrent networks, by their equations ------------------------------------------------------


def by_hand(layer: Any, x: Tensor, past: tuple[Tensor, ...], suffix: str) -> tuple[Tensor, ...]:
    """One step of a cell for one sentence: x (W), each tensor of its state (units)."""
    of_input = getattr(layer, f"weight_ih_{suffix}") @ x + getattr(layer, f"bias_ih_{suffix}")
    of_past = getattr(layer, f"weight_hh_{suffix}") @ past[0] + getattr(layer, f"bias_hh_{suffix}")
    if isinstance(layer, nn.GRU):
        (r, z, n), (r_past, z_past, n_past) = of_input.chunk(3), of_past.chunk(3)
        reset, update = torch.sigmoid(r + r_past), torch.sigmoid(z + z_past)
        new = torch.tanh(n + reset * n_past)
        return ((1 - update) * new + update * past[0],)
    gates = (of_input + of_past).chunk(4)
    keep, forget, out = (torch.sigmoid(gates[number]) for number in (0, 1, 3))
    cell = forget * past[1] + keep * torch.tanh(gates[2])
    return out * torch.tanh(cell), cell


def stack_by_hand(
    stack: Any, xs: list[Tensor], pasts: list[tuple[Tensor, ...]] | None = None
) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
    """What a stack says to each of xs (W), and the last state of each layer."""
    states = []
    for number, layer in enumerate(stack.layers):
        directions = []
        for suffix in ["l0", "l0_reverse"][: 1 + layer.bidirectional]:
            units = layer.hidden_size
            zeros = (torch.zeros(units),) * (2 if isinstance(layer, nn.LSTM) else 1)
            past = zeros if pasts is None else pasts[number]
            said = []
            for x in xs if suffix == "l0" else xs[::-1]:
                past = by_hand(layer, x, past, suffix)
                said.append(past[0])
            directions.append((said if suffix == "l0" else said[::-1], past))
        outputs = [torch.cat(both) for both in zip(*(d[0] for d in directions), strict=True)]
        states.append(
            tuple(torch.cat(both) for both in zip(*(d[1] for d in directions), strict=True))
        )
        added = stack.residual and number > 0
        xs = [x + y if added else y for x, y in zip(xs, outputs, strict=True)]
    return xs, states


def output_by_hand(model: Any, x: Tensor) -> Tensor:
    weight: Tensor = model.embedding.weight if model.head is None else model.head.weight
    return weight @ x + model.bias


@pytest.mark.parametrize("name", ["rnn", "rnn-lstm"])
def test_an_encoder_decoder_by_its_equations(name: str) -> None:
    model = small(name)
    source, target = [5, 9, 7, 4, EOS], [BOS, 8, 6]
    with torch.inference_mode():
        logits = model(torch.tensor([source]), torch.tensor([5]), torch.tensor([target]))[0]
        read = [4, 7, 9, 5, EOS] if model.reverse else source
        _, states = stack_by_hand(model.encoder, list(model.embedding.weight[read]))
        said, _ = stack_by_hand(model.decoder, list(model.embedding.weight[target]), states)
        close(logits, torch.stack([output_by_hand(model, x) for x in said]))


@pytest.mark.parametrize("score", ["additive", "general", "dot"])
@pytest.mark.parametrize("feeding", [False, True])
def test_attention_by_its_equations(score: str, feeding: bool) -> None:
    settings = {"score": score, "input_feeding": feeding, "residual": True, "layers": 2}
    model = small("attention", **settings)
    source, target = [5, 9, 7, EOS], [BOS, 8, 6, 11]
    ids = torch.tensor([source]), torch.tensor([4]), torch.tensor([target])
    with torch.inference_mode():
        logits, aligned = model(*ids)[0], model.align(*ids)[0]
        annotations, states = stack_by_hand(model.encoder, list(model.embedding.weight[source]))
        attentional = torch.zeros(W)
        for t, token in enumerate(target):
            x = model.embedding.weight[token]
            fed = torch.cat([x, attentional]) if feeding else x
            (h,), states = stack_by_hand(model.decoder, [fed], states)
            scores = []
            for m in annotations:
                if score == "additive":  # v^T tanh(W h + U m)
                    hidden = torch.tanh(model.score.query.weight @ h + model.score.key.weight @ m)
                    scores.append(model.score.weight.weight[0] @ hidden)
                elif score == "general":  # h^T W m
                    scores.append(h @ model.score.key.weight @ m)
                else:
                    scores.append(h @ m)
            a = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            context = sum(share * m for share, m in zip(a, annotations, strict=True))
            attentional = torch.tanh(model.combine.weight @ torch.cat([context, h]))
            close(aligned[t], a)
            close(logits[t], output_by_hand(model, attentional))


def test_a_source_is_turned_but_for_its_end_and_padding() -> None:
    source = torch.tensor([[5, 6, 7, EOS, PAD], [8, EOS, PAD, PAD, PAD], [4, 5, 6, 7, EOS]])
    expected = [[7, 6, 5, EOS, PAD], [8, EOS, PAD, PAD, PAD], [7, 6, 5, 4, EOS]]
    assert reverse_words(source, torch.tensor([4, 2, 5])).tolist() == expected


def test_an_rnn_has_nothing_to_align_by() -> None:
    source, lengths, target, _ = batch()
    with pytest.raises(DlkitError, match="rnn has no attention"):
        small("rnn").align(source, lengths, target)


# ---- the Transformer ----------------------------------------------------------------------------


def test_positions_are_those_of_the_paper_however_far() -> None:
    table = sinusoids(400, W)
    for position, number in [(0, 0), (3, 1), (7, 4), (399, 5)]:
        angle = position / 10_000 ** (number // 2 * 2 / W)
        expected = math.cos(angle) if number % 2 else math.sin(angle)
        assert table[position, number].item() == pytest.approx(expected, abs=1e-4)
    model: Transformer = small("transformer")
    with torch.inference_mode():
        far = model.embed(torch.full((1, 300), 5))[0] - model.embedding.weight[5] * math.sqrt(W)
        close(far, sinusoids(300, W))


def test_a_transformer_writes_beyond_its_first_memory() -> None:
    model = small("transformer")
    source, lengths, _, _ = batch()
    target = sentences([40] * 5, BOS)
    with torch.inference_mode():
        expected = model(source, lengths, target)
        state = model.start(source, lengths, 40)
        for t in range(40):
            close(model.step(target[:, t], state)[0], expected[:, t])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_in_half_precision_the_same(name: str) -> None:
    model = small(name, dropout=0.0).train()
    source, lengths, target, _ = batch()
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
