"""Captioners: their equations, their states, what they see, and what they learn by."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.caption.loss import ENTROPY_WEIGHT, caption_loss, doubly_stochastic, reinforce
from dlkit.caption.model import ARCHITECTURES, SETTINGS, build
from dlkit.caption.models.captioner import DecoderOutput
from dlkit.core.errors import DlkitError
from dlkit.core.nn.fast_inference import pack_linears

V, W, SIDE = 23, 16, 64
PAD, BOS = 0, 1
SPECIAL = {"vocab_size": V, "pad": PAD, "bos": BOS, "eos": 2, "unk": 3, "image_size": SIDE}
PREPROCESSING = {
    "image_size": 96, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
BACKBONE = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": 96, "width_multiplier": 0.125},
    "preprocessing": PREPROCESSING,
}
CLOSE = 1e-5
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "nic": ("nic", {"layers": 2, "backbone": BACKBONE}),
    "attend": ("attend", {"backbone": BACKBONE}),
    "attend-hard": ("attend", {"hard_attention": True, "backbone": BACKBONE}),
    "transformer": ("transformer", {"layers": 3, "backbone": BACKBONE, "grid": 3}),
    "transformer-patch": ("transformer", {"layers": 1, "patch": 16, "pre_norm": True, "heads": 2}),
}
ATTENTIVE = [name for name in NETWORKS if name != "nic"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def loud(network: nn.Module) -> Any:
    """With larger weights than at the start: else all logits are about alike."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def small(name: str, **settings: Any) -> Any:
    arch, own = NETWORKS[name]
    return loud(build(arch, **{**SPECIAL, "width": W, "dropout": 0.2, **own, **settings}))


def close(a: Tensor, b: Tensor, tolerance: float = CLOSE) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE)


def targets(count: int = 4, tokens: int = 6) -> Tensor:
    ids = torch.randint(4, V, (count, tokens))
    ids[:, 0] = BOS
    return ids


def started(network: Any, memory: Tensor) -> Any:
    return network.start(memory, torch.full((len(memory),), memory.shape[1]), 8)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        yield small(request.param)


# ---- every architecture --------------------------------------------------------------------------


def test_a_batch_gives_what_each_image_gives_alone(network: Any) -> None:
    seen, target = images(), targets()
    logits = network(seen, target).logits
    assert logits.shape == (4, 6, V)
    for row in range(4):
        close(logits[row], network(seen[row : row + 1], target[row : row + 1]).logits[0])


def test_images_are_their_memories(network: Any) -> None:
    seen, target = images(), targets()
    memory = network.encode(seen)
    assert memory.shape == (4, network.grid[0] * network.grid[1], network.channels)
    close(network(memory, target).logits, network(seen, target).logits)


def test_what_comes_later_does_not_change_the_past(network: Any) -> None:
    seen, target = images(), targets()
    changed = torch.cat([target[:, :3], (target[:, 3:] + 1) % V], dim=1)
    one, other = network(seen, target).logits, network(seen, changed).logits
    close(one[:, :3], other[:, :3])
    assert (one[:, 3:] - other[:, 3:]).abs().max() > 100 * CLOSE


def test_every_place_counts(network: Any) -> None:
    if getattr(network, "hard_attention", False):
        pytest.skip("hard attention sees one place")
    memory, target = network.encode(images(1)), targets(1)
    logits = network(memory, target).logits
    for place in range(memory.shape[1]):
        other = memory.clone()
        other[0, place] += 3 * torch.randn(network.channels)
        assert (network(other, target).logits - logits).abs().max() > 100 * CLOSE


def test_steps_give_the_logits_of_teacher_forcing(network: Any) -> None:
    memory, target = network.encode(images()), targets()
    expected = network(memory, target)
    state = started(network, memory)
    for t in range(target.shape[1]):
        logits, alphas = network.step(target[:, t], state)
        assert logits.dtype == torch.float32
        close(logits, expected.logits[:, t])
        if alphas is not None:
            assert alphas.shape == memory.shape[:2]
            close(alphas.sum(1), torch.ones(4))
            if expected.alphas is not None:
                close(alphas, expected.alphas[:, t])


@pytest.mark.parametrize("rows", [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], [0, 0, 3, 3], [3, 1, 1]])
def test_rows_that_are_selected_go_on_as_they_would_have(network: Any, rows: list[int]) -> None:
    """Three beams of each image; two of some; anything."""
    memory, target = network.encode(images()), targets()
    expected = network(memory, target).logits
    state = started(network, memory)
    for t in range(2):
        network.step(target[:, t], state)
    chosen = torch.tensor(rows)
    state = state.select(chosen)
    for t in range(2, 6):
        logits, _ = network.step(target[chosen, t], state)
        close(logits, expected[chosen, t])
        if t == 3:  # beams change places, and some leave
            order = torch.arange(len(rows)).flip(0)[::2].flip(0)
            state, chosen = state.select(order), chosen[order]


def test_logits_of_some_places_only(network: Any) -> None:
    seen, target = images(), targets()
    at = torch.rand(target.shape) < 0.5
    close(network(seen, target, at).logits, network(seen, target).logits[at])


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_weights_give_the_same_logits(name: str) -> None:
    network = small(name)
    seen, target = images(), targets()
    with torch.inference_mode():
        expected = network(seen, target).logits
        close(pack_linears(network)(seen, target).logits, expected, 1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_in_half_precision_the_same(name: str) -> None:
    network = small(name, dropout=0.0)
    seen, target = images(), targets()
    real = torch.ones_like(target, dtype=torch.bool)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = network(seen, target, real)
        losses.append(caption_loss(output, target.roll(-1, 1), real, 0.1, 1.0))
    if not getattr(network, "hard_attention", False):  # whose most probable place jumps
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    losses[0].backward()
    still = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    # One place is seen, however probable it is: that alone teaches nothing of where to look.
    assert still == set()


def test_the_encoder_keeps_its_statistics_while_it_is_trained() -> None:
    network = small("attend").train()
    before = {name: tensor.clone() for name, tensor in network.encoder.state_dict().items()}
    network(images(), targets())
    assert network.training
    assert not network.encoder.training
    assert all(torch.equal(t, before[n]) for n, t in network.encoder.state_dict().items())


@pytest.mark.parametrize("arch", SETTINGS)
def test_its_settings_are_those_that_are_named(arch: str) -> None:
    name = next(n for n, (a, _) in NETWORKS.items() if a == arch)
    own = list(inspect.signature(type(small(name))).parameters)
    assert (*SETTINGS[arch], "captioner") == tuple(own)
    assert set(SETTINGS) == set(ARCHITECTURES)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(DlkitError, match="unknown architecture 'lstm'; choose from nic, attend"):
        build("lstm")


def test_a_size_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(DlkitError, match="--image-size 64: not a multiple of --patch 24"):
        build("transformer", **SPECIAL, patch=24)


# ---- what is seen --------------------------------------------------------------------------------


def test_the_memory_is_the_map_row_by_row() -> None:
    network = small("attend")
    assert network.grid == (2, 2)
    with torch.inference_mode():
        seen = images(2)
        last = network.encoder(seen)[-1]
        memory = network.encode(seen)
        for row, column in ((0, 1), (1, 0)):
            close(memory[:, 2 * row + column], last[:, :, row, column])


def test_a_large_map_is_averaged_to_the_grid() -> None:
    network = small("attend", image_size=192)  # whose map is 6 x 6
    coarse = small("attend", image_size=192, grid=3)
    coarse.encoder.load_state_dict(network.encoder.state_dict())
    assert (network.grid, coarse.grid) == ((6, 6), (3, 3))
    with torch.inference_mode():
        seen = torch.randn(1, 3, 192, 192)
        fine = network.encode(seen).view(1, 3, 2, 3, 2, -1)
        close(coarse.encode(seen), fine.mean((2, 4)).flatten(1, 2))


def test_patches_are_the_pixels_of_squares() -> None:
    network = small("transformer-patch")
    assert network.grid == (4, 4)
    assert network.encoder is None
    seen = images(2)
    memory = network.encode(seen)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        square = seen[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        close(memory[:, 4 * row + column], square.flatten(1), 0)


def test_images_are_read_at_the_models_size_with_the_encoders_colors() -> None:
    inputs = small("nic", fit="squash").preprocessing
    assert (inputs.image_size, inputs.fit, inputs.mean) == (SIDE, "squash", [0.5] * 3)


# ---- by their equations --------------------------------------------------------------------------


def lstm(x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One step by the equations, in torch's order of gates."""
    w, u, b = weights
    i, f, g, o = (x @ w.T + h @ u.T + b).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def test_nic_reads_the_image_then_the_words() -> None:
    """Vinyals et al. 2015, equations 10 to 12: the image is seen once, before <s>."""
    network = small("nic", layers=1)
    layer = network.decoder.layers[0]
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0]
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        zero = torch.zeros(2, W)
        h, c = lstm(network.image(memory.mean(1)), zero, zero, weights)
        logits = network(memory, target).logits
        for t in range(6):
            h, c = lstm(network.embedding(target[:, t]), h, c, weights)
            close(logits[:, t], h @ network.embedding.weight.T + network.bias)


@pytest.mark.parametrize("hard", [False, True])
def test_attend_by_its_equations(hard: bool) -> None:
    """Xu et al. 2015, equations 1 to 7 and 4.2.1; hard attention sees the most probable place."""
    network = small("attend", hard_attention=hard)
    rest = network.gates_of_rest.weight
    weights = [
        torch.cat([network.gates_of_word.weight, rest[:, : network.channels]], dim=1),
        rest[:, network.channels :],
        network.gates_of_word.bias,
    ]
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        a = F.layer_norm(memory, (network.channels,), network.annotation_norm.weight,
                         network.annotation_norm.bias)  # fmt: skip
        output = network(memory, target)
        for row in range(2):
            h = network.output_start(a[row].mean(0)).tanh()
            c = network.cell_start(a[row].mean(0)).tanh()
            for t in range(6):
                scores = [network.score((network.query(h) + network.key(p)).tanh()) for p in a[row]]
                alpha = torch.cat(scores).softmax(0)
                z = a[row, alpha.argmax()] if hard else (alpha[:, None] * a[row]).sum(0)
                z = network.gate(h).sigmoid() * z
                word = network.embedding(target[row, t])
                h, c = lstm(torch.cat([word, z]), h, c, weights)
                mixed = word + network.from_output(h) + network.from_context(z)
                close(output.alphas[row, t], alpha)
                close(
                    output.logits[row, t],
                    network.embedding.weight @ mixed + network.bias,
                    10 * CLOSE,
                )


def test_hard_attention_draws_places_for_half_of_the_images() -> None:
    network = small("attend-hard", dropout=0.0, image_size=96).train()
    seen, target = network.encode(torch.randn(1, 3, 96, 96)), targets(1)
    output = network(seen.expand(600, -1, -1), target.expand(600, -1))
    first, alpha = output.chosen[:, 0], output.alphas[0, 0]
    drawn = output.chosen.abs().sum(1) > 0
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.07)
    # At the first word all have the same shares: how often each was drawn.
    often = torch.stack([torch.isclose(first[drawn], p.log()).float().mean() for p in alpha])
    close(often, alpha.detach(), 0.1)
    close(output.alphas[:, 0], alpha.expand(600, -1))


def test_a_transformers_attention_is_that_of_a_layer_in_the_middle() -> None:
    network = small("transformer")
    assert network.grid == (2, 2)
    with torch.inference_mode():
        memory, target = network.encode(images(2)), targets(2)
        expected = network.attention(target, *network.read(memory))
        state = started(network, memory)
        for t in range(6):
            close(network.step(target[:, t], state)[1], expected[:, t])


# ---- the loss ------------------------------------------------------------------------------------


def test_the_loss_by_its_formulas() -> None:
    """Smoothed cross-entropy, and (1 - sum of alpha)^2 without what is padding."""
    logits, after = torch.randn(2, 3, 5), torch.tensor([[3, 4, 1], [2, 0, 0]])
    real = after != PAD
    alphas = torch.rand(2, 3, 4).softmax(-1)
    logprobs = logits.log_softmax(-1)
    smoothed = [
        0.9 * logprobs[row, t, after[row, t]] + 0.1 * logprobs[row, t].mean()
        for row, t in ((0, 0), (0, 1), (0, 2), (1, 0))
    ]
    stochastic = ((1 - alphas[0].sum(0)) ** 2).sum() + ((1 - alphas[1, 0]) ** 2).sum()
    close(doubly_stochastic(alphas, real), stochastic / 2)
    loss = caption_loss(DecoderOutput(logits[real], alphas), after, real, 0.1, 0.5)
    close(loss, -torch.stack(smoothed).mean() + 0.25 * stochastic)
    close(
        caption_loss(DecoderOutput(logits[real]), after, real, 0.1, 0.5),
        -torch.stack(smoothed).mean(),
    )


def test_reinforce_by_its_formula() -> None:
    """Xu et al. 2015, section 4.1: the gradient of the drawn places' log-probability is scaled by
    what the caption's exceeds the baseline, which moves a tenth of the way.
    """
    logits, after = torch.randn(2, 3, 5), torch.tensor([[3, 4, 1], [2, 0, 0]])
    real = after != PAD
    alphas = torch.rand(2, 3, 4).softmax(-1)
    chosen = alphas[..., 1].log().clone().requires_grad_()
    loss, baseline = reinforce(
        DecoderOutput(logits[real], alphas, chosen), after, real, torch.tensor(-2.0)
    )
    logprobs = logits.log_softmax(-1)
    captions = torch.stack([logprobs[0, [0, 1, 2], [3, 4, 1]].sum(), logprobs[1, 0, 2]])
    close(baseline, 0.9 * torch.tensor(-2.0) + 0.1 * captions.mean())
    entropy = -(alphas * alphas.log()).sum(-1)[real].sum()
    drawn = ((captions + 2) * torch.stack([chosen[0].sum(), chosen[1, 0]])).sum()
    close(loss, -(drawn + ENTROPY_WEIGHT * entropy) / 4)
    (gradient,) = torch.autograd.grad(loss, chosen)
    close(gradient, -(captions + 2)[:, None].expand(2, 3) * real / 4)


def test_reinforce_learns_where_to_look() -> None:
    """Only one place tells the word: it comes to be looked at, though drawing has no gradient."""
    torch.manual_seed(1)
    score = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([score], lr=0.5)
    baseline = torch.zeros(())
    told = torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, 5.0], [0.0, 5.0]])  # by what is seen
    after = torch.zeros(32, 1, dtype=torch.long)
    real = torch.ones_like(after, dtype=torch.bool)
    for _ in range(100):
        alphas = score.softmax(0).expand(32, 1, 4)
        place = torch.multinomial(alphas[:, 0].detach(), 1)
        chosen = alphas[:, 0].gather(1, place).log()
        output = DecoderOutput(told[place[:, 0]], alphas, chosen)
        loss, baseline = reinforce(output, after, real, baseline)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert score.softmax(0)[0] > 0.9
