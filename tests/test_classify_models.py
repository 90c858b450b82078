"""The image architectures: their papers' shapes and counts, torchvision's outputs, options."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from dlkit.classify import torchvision_zoo
from dlkit.classify.config import IMAGES, OWN, PUBLISHED
from dlkit.classify.model import ARCHITECTURES, build, options
from dlkit.classify.models.activations_and_init import ACTIVATIONS, INITS
from dlkit.classify.models.dense import dense
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.lenet import TABLE, ScaledTanh
from dlkit.classify.models.network import Network, PooledHead, WithAuxiliary
from dlkit.classify.models.resnet import BasicBlock
from dlkit.classify.torchvision_zoo import parse_name, rename_weights, torchvision_name
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.vision import imagenet

NETWORKS = [arch for arch in ARCHITECTURES if arch != "knn"]  # that has nothing to learn
FLAT = [arch for arch, architecture in ARCHITECTURES.items() if architecture.flat]
FAMILIES = list({ARCHITECTURES[arch]: arch for arch in reversed(NETWORKS)}.values())


def on_meta(arch: str, image_size: int, num_labels: int = 1000, **settings: Any) -> Network:
    """A network without numbers, in evaluation mode."""
    with torch.device("meta"):
        return build(arch, num_labels, image_size, **settings).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_statistics(network: nn.Module) -> None:
    """Norms as after training: otherwise errors in their order would not show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)


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


@pytest.mark.parametrize("arch", NETWORKS)
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
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("arch", FAMILIES)
def test_settings_and_weights_rebuild_the_network_on_no_device(arch: str) -> None:
    chosen = json.loads(json.dumps({"channels": 1, "init": "auto"}))
    first = build(arch, 3, 28, **chosen).eval()
    second = on_meta(arch, 28, num_labels=3, channels=1)
    second.load_state_dict(first.state_dict(), assign=True)
    images = torch.randn(1, 1, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(second(images), first(images))


@pytest.mark.parametrize(("arch", "more"), [("googlenet", 2), ("inception-v3", 1)])
def test_auxiliary_classifiers_speak_in_training_only(arch: str, more: int) -> None:
    network = on_meta(arch, 32, num_labels=5)
    images = torch.empty(2, 3, 32, 32, device="meta")
    assert isinstance(network(images), Tensor)
    output = network.train()(images)
    assert isinstance(output, WithAuxiliary)
    assert [tuple(logits.shape) for logits in output.auxiliary] == [(2, 5)] * more
    assert isinstance(on_meta(arch, 32, auxiliary=False).train()(images), Tensor)


def torchvisions(arch: str, **settings: Any) -> nn.Module:
    """The same architecture in torchvision, with random statistics in its norms."""
    if arch in ("googlenet", "inception-v3"):
        settings |= {"aux_logits": True, "init_weights": False}
    network: nn.Module = get_model(torchvision_name(arch), **settings)
    random_statistics(network)
    return network.eval()


@pytest.mark.parametrize(
    "arch",
    [
        "vgg11", "vgg11-bn", "googlenet", "inception-v3", "resnet18", "resnet50",
        "densenet121", "mobilenet-v2", "mobilenet-v3",
    ],
)  # fmt: skip
def test_logits_equal_torchvisions(arch: str) -> None:
    torch.manual_seed(0)
    theirs = torchvisions(arch)
    name, settings = parse_name(f"{arch}-imagenet")
    with torch.device("meta"):
        ours = build(name, **settings).eval()
    # assign: VGG's classifier is half a gigabyte.
    ours.load_state_dict(rename_weights(name, theirs.state_dict()), assign=True)
    side = 224 if arch == "resnet18" else 128  # the layers are the same
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("arch", ["mlp", "lenet", "resnet18"])
def test_any_activation_can_take_the_relus_place(arch: str, activation: str) -> None:
    network = build(arch, 2, 28, channels=1, activation=activation)
    kinds = {type(module) for module in network.modules()}
    assert type(ACTIVATIONS[activation]()) in kinds
    assert ScaledTanh not in kinds
    assert activation == "relu" or nn.ReLU not in kinds
    output = network(torch.randn(2, 1, 28, 28))
    assert output.isfinite().all()


@pytest.mark.parametrize("init", INITS)
def test_weights_start_as_chosen(init: str) -> None:
    torch.manual_seed(0)
    network = build("lenet", 10, 32, channels=1, init=init)
    fan_in, fan_out = 120, 84
    expected = {
        "xavier": (2 / (fan_in + fan_out)) ** 0.5,
        "he": (2 / fan_in) ** 0.5,
        "normal": 0.01,
        "zeros": 0,
    }[init]
    layer = network.head.get_submodule("f6")
    assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)  # type: ignore[operator]
    assert not layer.bias.any()  # type: ignore[operator]
    weights = network.features.get_submodule("c3").weight
    assert weights.any() == (init != "zeros")  # type: ignore[operator]


def test_descriptors_can_have_length_one() -> None:
    network = build("resnet9", 8, 28, unit_length=True, width_multiplier=0.1).eval()
    lengths = network(torch.randn(2, 3, 28, 28)).norm(dim=1)
    assert lengths.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("arch", "settings", "message"),
    [
        ("lenet5", {}, "unknown architecture 'lenet5'; choose from linear"),
        ("linear", {"dropout": 0.5}, "linear has no option dropout; choose from channels"),
        ("linear", {"activation": "relu"}, "linear has no option activation"),
        ("mlp", {"hidden": "512,x"}, "hidden layers '512,x': not widths; give numbers"),
        ("mlp", {"hidden": "0"}, "hidden layers '0'"),
        ("mlp", {"norm": "group"}, "mlp has no norm 'group'; choose from none, batch, layer"),
        ("vgg16", {"norm": "layer"}, "vgg16 has no norm 'layer'; choose from none, batch"),
        (
            "resnet18",
            {"norm": "batch"},
            "resnet18 has no option norm; choose from channels, width_multiplier",
        ),
        ("mlp", {"activation": "gelu"}, "unknown activation 'gelu'; choose from auto, relu"),
        ("mlp", {"init": "ones"}, "unknown initialization 'ones'; choose from auto, xavier"),
        ("resnet18", {"image_size": 27}, "image size 27: too small for resnet18; give 28 or more"),
    ],
)
def test_what_cannot_be_chosen_is_said(arch: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DlkitError, match=message):
        build(arch, **{"num_labels": 2, "image_size": 28, **settings})


def test_none_leaves_the_choice_to_the_architecture() -> None:
    network = build("vgg11", 2, 32, dropout=None, activation=None)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert options("resnet18") == [
        "width_multiplier", "drop_path", "dropout", "activation", "init", "unit_length",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", IMAGES)
def test_the_table_of_own_options_agrees_with_the_networks(arch: str) -> None:
    for name in ("neighbors", "hidden", "norm", "width_multiplier", "drop_path"):
        assert (arch in OWN[name]) == (name in options(arch))


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


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_dense_lenet_equals_the_crops_at_strides_of_4(offset: int) -> None:
    network = build("lenet", 10, 32, channels=1).eval()
    image = torch.randn(1, 1, 32 + 4 * 5 + 1, 32 + 4 * 6)
    with torch.inference_mode():
        logits = dense(network, 32)(image)
        assert logits.shape == (1, 10, 6, 7)
        y, x = 4 * offset, 4 * offset
        crop = network(image[:, :, y : y + 32, x : x + 32])
    torch.testing.assert_close(logits[:, :, offset, offset], crop)


@pytest.mark.parametrize(
    ("arch", "image_size", "more"),
    [
        ("lenet", 28, 32),
        ("alexnet", 32, 64),
        ("vgg11", 40, 64),
        ("nin", 32, 64),
        ("googlenet", 32, 64),
        ("inception-v3", 32, 64),
        ("resnet18", 32, 64),
        ("preact-resnet", 32, 64),
        ("resnet9", 32, 64),
        ("densenet121", 32, 64),
        ("mobilenet-v2", 32, 64),
        ("mobilenet-v3", 32, 64),
    ],
)
def test_a_dense_network_equals_the_network_at_its_own_size(
    arch: str, image_size: int, more: int
) -> None:
    torch.manual_seed(0)
    network = build(arch, 3, image_size, channels=1).eval()
    converted = dense(network, image_size)
    image = torch.randn(1, 1, image_size, image_size)
    with torch.inference_mode():
        torch.testing.assert_close(converted(image)[:, :, 0, 0], network(image))
        batch, labels, height, width = converted(torch.randn(1, 1, more, more + 16)).shape
    assert (batch, labels) == (1, 3)
    assert height > 1
    assert width > height


@pytest.mark.parametrize("image_size", [64 + 32, 224, 256])
def test_dense_vgg_holds_the_adaptive_pool_in_its_convolution(image_size: int) -> None:
    """With 256 pixels its 7x7 places are means of overlapping 2x2; with 96 one place is many."""
    torch.manual_seed(0)
    network = on_meta("vgg11", image_size)
    head = network.head.get_submodule("classifier")
    head[0] = nn.Linear(512 * 49, 8)  # type: ignore[operator]
    head[3], head[6] = nn.Linear(8, 8), nn.Linear(8, 3)  # type: ignore[operator]
    side = image_size // 32
    network.features = nn.Sequential(nn.Conv2d(1, 512, 32, 32))
    image = torch.randn(1, 1, image_size, image_size)
    with torch.inference_mode():
        converted = dense(network, image_size)
        logits = converted(image)
        assert logits.shape == (1, 3, 1, 1)
        torch.testing.assert_close(logits[:, :, 0, 0], network(image))
        bigger = torch.randn(1, 1, 32 * (side + 1), 32 * side)
        crop = network(bigger[:, :, 32:])
        torch.testing.assert_close(converted(bigger)[:, :, 1, 0], crop)


def test_flat_networks_have_no_class_maps() -> None:
    with pytest.raises(DlkitError, match="flat pixels"):
        dense(build("mlp", 2, 28), 28)


@pytest.mark.parametrize(
    ("arch", "norms_left"),
    [
        ("lenet", 0),
        ("googlenet", 0),
        ("inception-v3", 0),
        ("resnet18", 0),
        ("resnet50", 0),
        ("preact-resnet", 9),  # a norm before each block and after the last
        ("resnet9", 3),  # those behind a pool
        ("densenet121", 62),  # a norm before each of 58 dense layers and 3 transitions, one last
        ("mobilenet-v2", 0),
        ("mobilenet-v3", 0),
        ("vgg11", 0),
    ],
)
def test_fused_networks_have_the_same_outputs(arch: str, norms_left: int) -> None:
    torch.manual_seed(0)
    network = build(arch, 3, 28, norm="batch" if arch == "vgg11" else None).eval()
    random_statistics(network)
    fused = fuse(network)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == norms_left
    images = torch.randn(2, 3, 28, 28).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(images)
        assert expected.abs().max() < 1000
        torch.testing.assert_close(fused(images), expected, rtol=1e-4, atol=1e-4)
        low = fused.to(torch.bfloat16)(images.bfloat16())
    assert low.isfinite().all()


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the folder `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def as_in_2017(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a dense layer's parts with a point before their number, and no counts of batches."""
    return {
        re.sub(r"(denselayer\d+\.[a-z]+)([12])", r"\1.\2", name): tensor
        for name, tensor in state.items()
        if "num_batches_tracked" not in name
    }


@pytest.mark.parametrize("arch", ["mobilenet-v2", "densenet121", "googlenet"])
def test_published_weights_become_a_checkpoint(
    arch: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs = torchvisions(arch, **({"transform_input": True} if arch == "googlenet" else {}))
    state = theirs.state_dict()
    torch.save(as_in_2017(state) if arch == "densenet121" else state, tmp_path / "weights.pth")
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, f"{arch}-imagenet", f"{server}/weights.pth")

    path = torchvision_zoo.fetch(f"{arch}-imagenet")

    assert [file.name for file in (tmp_path / "cache").rglob("*.*")] == [path.name]
    header, weights = checkpoint.load(path, "classify")
    assert len(header.labels) == len(set(header.labels)) == 1000
    assert header.labels[0] == "tench"
    assert header.card["source"].endswith("/weights.pth")
    ours = build(header.arch, **header.settings["network"]).eval()
    ours.load_state_dict(weights)
    inputs = header.settings["preprocessing"]
    assert (inputs["image_size"], inputs["fit"], inputs["channels"]) == (224, "crop", 3)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(normalized(pixels, imagenet.MEAN, imagenet.STD))
        found = ours(normalized(pixels, inputs["mean"], inputs["std"]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (tmp_path / "weights.pth").unlink()
    assert torchvision_zoo.fetch(f"{arch}-imagenet") == path  # from the cache


def normalized(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_other_weights_are_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, "resnet18-imagenet", f"{server}/weights.pth")
    with pytest.raises(DlkitError, match="not the weights of resnet18; remove it and try again"):
        torchvision_zoo.fetch("resnet18-imagenet")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_torchvisions_best_weights(name: str) -> None:
    address, _, expected = PUBLISHED[name].partition("#sha256=")
    assert address == get_model_weights(torchvision_name(name)).DEFAULT.url
    assert address.endswith(f"-{expected}.pth")
    assert parse_name(name)[0] in ARCHITECTURES
