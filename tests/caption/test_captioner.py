"""The properties that all captioners share, and their memory of images."""

from typing import Any

import pytest
import torch

from dlkit.caption.loss import caption_loss
from dlkit.caption.model import build
from dlkit.core.errors import DlkitError
from dlkit.core.nn.fast_inference import pack_linears
from tests.caption.helpers import (
    CLOSE,
    NETWORKS,
    SIDE,
    SPECIAL,
    V,
    close,
    images,
    small,
    start_decoding,
    targets,
)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        yield small(request.param)


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


def test_later_tokens_do_not_change_earlier_logits(network: Any) -> None:
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
    state = start_decoding(network, memory)
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
def test_selected_rows_continue_unchanged(network: Any, rows: list[int]) -> None:
    """Three beams of each image; two of some; anything."""
    memory, target = network.encode(images()), targets()
    expected = network(memory, target).logits
    state = start_decoding(network, memory)
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


def test_a_size_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(DlkitError, match="--image-size 64: not a multiple of --patch 24"):
        build("transformer", **SPECIAL, patch=24)


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
