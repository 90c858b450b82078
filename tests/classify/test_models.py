"""The image architectures: shapes and parameter counts of their papers, gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlkit.classify.model import ARCHITECTURES, build
from dlkit.classify.models.airbench import whiten
from dlkit.classify.models.lenet import TABLE, ScaledTanh
from dlkit.classify.models.network import PooledHead, WithAuxiliary
from dlkit.classify.models.resnet import BasicBlock
from tests.classify.helpers import FAMILIES, TRAINABLE, on_meta

FLAT = [arch for arch, architecture in ARCHITECTURES.items() if architecture.flat]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("arch", "image_size", "parameters"),
    [
        ("linear", 28, 28 * 28 * 3 * 1000 + 1000),
        ("mlp", 32, 3072 * 512 + 512 + 512 * 256 + 256 + 256 * 1000 + 1000),
        ("alexnet", 224, 62_378_344),
        ("vgg11", 224, 132_863_336),
        ("vgg13", 224, 133_047_848),
        ("vgg16", 224, 138_357_544),
        ("vgg19", 224, 143_667_240),
        ("nin", 224, 7_595_176),
        ("googlenet", 224, 13_004_888),  # 6.4 M of them in the auxiliary classifiers
        ("inception-v3", 299, 27_161_264),
        ("resnet18", 224, 11_689_512),
        ("resnet34", 224, 21_797_672),
        ("resnet50", 224, 25_557_032),
        ("resnet101", 224, 44_549_160),
        ("resnet152", 224, 60_192_808),
        ("densenet121", 224, 7_978_856),
        ("densenet169", 224, 14_149_480),
        ("densenet201", 224, 20_013_928),
        ("mobilenet-v2", 224, 3_504_872),
        ("mobilenet-v3", 224, 5_483_032),
    ],
)
def test_as_many_parameters_as_the_papers(arch: str, image_size: int, parameters: int) -> None:
    assert count(on_meta(arch, image_size)) == parameters


def test_airbench_has_the_papers_parameters() -> None:
    """1.97 million (Jordan 2024, section 3), of which the first layer and norms' weights rest."""
    network = on_meta("airbench", 32, 10)
    assert count(network) == 1_972_792 - 24  # without the first layer's bias
    trained = [p for p in network.parameters() if p.requires_grad]
    norms = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert norms == 2 * (64 + 256 + 256)
    assert sum(p.numel() for p in trained) == count(network) - norms - 24 * 3 * 2 * 2


def test_airbench_passes_its_inputs_on_before_training() -> None:
    """Dirac initialization: the first filters of each convolution copy its inputs."""
    torch.manual_seed(0)
    network = build("airbench", 3, 32, width_multiplier=0.5)
    maps = torch.randn(2, 24, 9, 9)
    out = network.features.get_submodule("group1.conv1")(maps)
    torch.testing.assert_close(out[:, :24], maps)
    assert not torch.allclose(out[:, 24:28], maps[:, :4])


def test_the_first_layer_of_airbench_whitens_patches() -> None:
    """Its outputs, in float64 by NumPy's decomposition of the covariance of all 2x2 patches."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(50, 3, 8, 8)).cumsum(axis=2).cumsum(axis=3) / 4
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (2, 2), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances, vectors = np.linalg.eigh(patches.T @ patches / len(patches))

    network = build("airbench", 3, 32)
    whiten(network, torch.from_numpy(pixels).float())
    weight = network.features.get_parameter("whiten.weight").detach()
    filters = weight.double().numpy().reshape(24, 12)
    assert np.allclose(filters[:12], -filters[12:])
    expected = (vectors / np.sqrt(variances + 5e-4)).T[::-1]
    signs = np.sign((filters[:12] * expected).sum(axis=1, keepdims=True))
    assert np.allclose(filters[:12], signs * expected, atol=1e-4)
    outputs = nn.functional.conv2d(torch.from_numpy(pixels).float(), weight)
    outputs = outputs[:, :12].movedim(1, -1).reshape(-1, 12)
    second = (outputs.T @ outputs / len(outputs)).numpy()
    assert np.allclose(second, np.diag(variances / (variances + 5e-4))[::-1, ::-1], atol=1e-3)


def test_googlenet_without_auxiliary_classifiers_has_torchvisions_parameters() -> None:
    assert count(on_meta("googlenet", 224, auxiliary=False)) == 6_624_904
    assert count(on_meta("inception-v3", 299, auxiliary=False)) == 23_834_568


def test_nin_for_cifar_has_the_papers_parameters() -> None:
    assert count(on_meta("nin", 32, num_labels=10)) == 966_986


def test_lenet_has_60000_parameters_up_to_f6() -> None:
    network = on_meta("lenet", 32, num_labels=10, channels=1)
    counts = {name: count(part) for name, part in (*named(network.features), *named(network.head))}
    assert [counts[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6")] == [
        156, 12, 1516, 32, 48_120, 10_164,
    ]  # fmt: skip
    assert count(network) == 60_000 + 85 * 10
    assert network.features(torch.empty(1, 1, 32, 32, device="meta")).shape == (1, 16, 5, 5)


def named(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(module.named_children())


def test_lenet_connects_c3_as_the_papers_table() -> None:
    network = build("lenet", 10, 32, channels=1)
    layer = network.features.get_submodule("c3")
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    for to, out in enumerate(layer(x).flatten()):
        (gradient,) = torch.autograd.grad(out, x, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 2, 3)).nonzero().flatten().tolist()
        assert seen == sorted(TABLE[to])
    assert [len(sources) for sources in TABLE] == [3] * 6 + [4] * 9 + [6]
    assert TABLE[12] == (0, 1, 3, 4)


def test_lenet_pads_28_pixels_with_their_border_and_squashes_one_to_one() -> None:
    pad_ids = build("lenet", 10, 28).features.get_submodule("pad")(torch.ones(1, 3, 28, 28))
    assert pad_ids.shape == (1, 3, 32, 32)
    assert pad_ids.min() == 1
    assert ScaledTanh()(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([-1, 1], abs=1e-4)


@pytest.mark.parametrize("image_size", [224, 227])
def test_alexnet_has_the_papers_shapes(image_size: int) -> None:
    features = on_meta("alexnet", image_size).features
    shapes = {}
    x = torch.empty(1, 3, image_size, image_size, device="meta")
    for name, layer in features.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes["conv1"] == (96, 55, 55)
    assert shapes["conv5"] == (256, 13, 13)
    assert 256 * 13 * 13 == 43_264
    assert features.get_submodule("conv5").weight.numel() == 884_736  # type: ignore[operator]
    assert shapes["pool5"] == (256, 6, 6)


def test_response_norm_equals_pytorchs() -> None:
    x = 10 * torch.randn(2, 16, 5, 5)
    expected = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(x)
    found = build("alexnet", 2, 32).features.get_submodule("norm1")(x)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("arch", TRAINABLE)
def test_logits_have_a_column_for_each_label(arch: str) -> None:
    for image_size in (28, 32, 45, 64, 65, 224) if arch in FAMILIES else (28, 224):
        network = on_meta(arch, image_size, num_labels=7)
        device = "meta" if image_size == 224 else "cpu"  # which is faster for few pixels
        if device == "cpu":
            network.to_empty(device="cpu")
            for tensor in network.state_dict().values():
                tensor.zero_()
        with torch.inference_mode():
            features = network.features(torch.zeros(2, 3, image_size, image_size, device=device))
            assert network.head(features).shape == (2, 7)
        assert features.dim() == 4
        if isinstance(network.head, PooledHead):
            assert features.shape[1] == network.head.fc.in_features


@pytest.mark.parametrize("arch", [*FAMILIES, "resnet50", "preact-resnet"])
def test_gradients_reach_every_parameter(arch: str) -> None:
    torch.manual_seed(0)
    network = build(arch, 3, 28, channels=1)
    output = network(torch.randn(2, 1, 28, 28))
    logits = [output] if isinstance(output, Tensor) else [output.logits, *output.auxiliary]
    torch.stack(logits).square().sum().backward() if arch not in FLAT else logits[
        0
    ].sum().backward()
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    without = [name for name, p in trained if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "more"), [("googlenet", 2), ("inception-v3", 1)])
def test_auxiliary_classifiers_are_used_in_training_only(arch: str, more: int) -> None:
    network = on_meta(arch, 32, num_labels=5)
    images = torch.empty(2, 3, 32, 32, device="meta")
    assert isinstance(network(images), Tensor)
    output = network.train()(images)
    assert isinstance(output, WithAuxiliary)
    assert [tuple(logits.shape) for logits in output.auxiliary] == [(2, 5)] * more
    assert isinstance(on_meta(arch, 32, auxiliary=False).train()(images), Tensor)


def test_mlp_takes_hidden_layers_as_text_or_list() -> None:
    network = build("mlp", 2, 28, hidden="16,8", norm="batch", dropout=0.1)
    widths = [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
    assert widths == [16, 8, 2]
    assert str(network) == str(build("mlp", 2, 28, hidden=[16, 8], norm="batch", dropout=0.1))


def test_stochastic_depth_drops_residuals_of_samples_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    block = BasicBlock(2, 2, 1, drop=0.25).eval()
    x = torch.randn(1, 2, 3, 3).relu().expand(4000, -1, -1, -1)
    with torch.no_grad():
        residual = block.residual(x[:1])
        added = added_in_training(block, x)
    dropped = (added.abs() < 1e-6).flatten(1).all(dim=1)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(added[~dropped][0], residual[0] / 0.75)
    torch.testing.assert_close(added.mean(dim=0), residual[0], rtol=0.05, atol=0.01)


def added_in_training(block: BasicBlock, x: Tensor) -> Tensor:
    """What the block adds to x, dropping residuals though its norms keep their statistics."""
    block.training = True
    sums: list[Tensor] = []
    block.relu.register_forward_pre_hook(lambda _, inputs: sums.append(inputs[0].clone()))
    block(x)
    return sums[-1] - x


def test_stochastic_depth_rises_linearly_to_the_last_block() -> None:
    network = on_meta("resnet18", 32, drop_path=0.4)
    rates = [block.drop for block in network.modules() if isinstance(block, BasicBlock)]
    assert rates == pytest.approx([0.05 * i for i in range(1, 9)])
