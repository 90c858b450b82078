"""The segmenters against their papers, other code, and what each is made of."""

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from dlkit.classify import backbones
from dlkit.classify.backbones import Backbone
from dlkit.classify.data import Preprocessing
from dlkit.classify.model import build as classifier
from dlkit.classify.models.network import Network
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.segment import torchvision_zoo
from dlkit.segment.model import ARCHITECTURES, build, find, load_backbone
from dlkit.segment.models.dilated import DILATIONS, WIDTHS, Context
from dlkit.segment.models.fcn import Upsampling
from dlkit.segment.models.segmenter import mirror_pad
from dlkit.segment.models.torchvision_models import MaskRCNN

SEMANTIC = [name for name, arch in ARCHITECTURES.items() if not arch.instances]
PREPROCESSING = {
    "image_size": 96,
    "fit": "squash",
    "channels": 3,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
}
RESNET: dict[str, Any] = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": 96, "channels": 3, "width_multiplier": 0.0625},
    "preprocessing": PREPROCESSING,
}


def vgg(image_size: int, **settings: Any) -> dict[str, Any]:
    network = {
        "num_labels": 2,
        "image_size": image_size,
        "channels": 3,
        "width_multiplier": 0.05,
        **settings,
    }
    preprocessing = PREPROCESSING | {"image_size": image_size}
    return {"arch": "vgg13", "network": network, "preprocessing": preprocessing}


def small(arch: str) -> Any:
    """A narrow network of that architecture, if it can be narrow."""
    torch.manual_seed(1)
    return build(
        arch, 3, width_multiplier=0.05 if "width_multiplier" in find(arch).settings else None
    )


def random_norms(network: nn.Module) -> None:
    """Norms and scores as after training: otherwise errors in their order would not show."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif name.startswith("scores."):
            nn.init.normal_(module.weight, std=0.1)


@pytest.mark.parametrize("arch", SEMANTIC)
def test_logits_for_images_of_any_size(arch: str) -> None:
    network = small(arch)
    random_norms(network)
    images = torch.randint(0, 256, (2, 3, 37, 50), dtype=torch.uint8)
    inputs = network.normalize(images)
    logits = network(inputs)
    assert logits.shape == (2, 3, 37, 50)
    logits.square().mean().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in still if not name.endswith("bias")}  # ReLUs may be off

    network.eval()
    with torch.no_grad():
        before = network(inputs)
        network.prepare(torch.float32)
        assert torch.allclose(network(inputs), before, rtol=1e-3, atol=1e-4)
        assert network(inputs[:1, :, :1, :1]).shape == (1, 3, 1, 1)
        network.prepare(torch.bfloat16)
        rounded = network(inputs)
    assert rounded.dtype == torch.float32
    assert (rounded - before).abs().mean() < 0.1 * before.std()


@pytest.mark.parametrize(
    "arch", ["fcn32s", "fcn16s", "fcn8s", "unet", "dilated", "patch", "shift-and-stitch"]
)
def test_a_trained_backbone_is_taken_over(arch: str) -> None:
    trained, settings = load_backbone(arch, "caltech101")
    network = build(arch, 4, backbone=settings)
    network.backbone.load_state_dict(trained.state_dict())
    assert network.mean == trained.preprocessing.mean
    images = torch.randint(0, 256, (1, 3, 40, 64), dtype=torch.uint8)
    expected = trained.preprocessing.normalize(images)
    assert torch.allclose(network.normalize(images), expected, atol=1e-5)
    with torch.no_grad():
        assert network.eval()(expected).shape == (1, 4, 40, 64)


def test_what_does_not_fit_is_refused() -> None:
    gray = RESNET | {
        "network": RESNET["network"] | {"channels": 1},
        "preprocessing": PREPROCESSING | {"channels": 1, "mean": [0.5], "std": [0.2]},
    }
    fine = RESNET | {"network": RESNET["network"] | {"image_size": 32}}
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("unknown architecture 'fcn'; choose from fcn32s", "fcn", {}),
        ("--depth: not an option of fcn8s", "fcn8s", {"depth": 3}),
        ("takes 1-channel images", "unet", {"backbone": gray}),
        ("and an FCN needs", "fcn32s", {"backbone": fine}),
        ("segnet needs a vgg", "segnet", {"backbone": RESNET}),
        ("dilated needs a resnet or vgg", "dilated", {"backbone": RESNET | {"arch": "resnet9"}}),
        ("unknown context 'huge'", "dilated", {"context": "huge"}),
        ("unknown padding 'full'", "unet", {"padding": "full"}),
        ("a backbone has a fixed width", "fcn8s", {"backbone": RESNET, "width_multiplier": 0.5}),
        ("--depth: not for a unet with a backbone", "unet", {"backbone": RESNET, "depth": 3}),
        ("unknown backbone 'vgg'", "deeplabv3", {"backbone": "vgg"}),
        ("--window 31: smaller", "patch", {"backbone": RESNET, "window": 31}),
        ("--step 5: does not divide", "shift-and-stitch", {"backbone": RESNET, "step": 5}),
    ]
    for error, arch, settings in refused:
        with pytest.raises(DlkitError, match=error):
            build(arch, 3, **settings)
    with pytest.raises(DlkitError, match="choose one of its own backbones"):
        load_backbone("deeplabv3", "caltech101")
    with pytest.raises(DlkitError, match="--batch-size 2"):
        build("lraspp", 3).train()(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("shape", [(5, 7), (2, 1), (3, 12)])
def test_borders_are_mirrored_as_numpy_does(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 9), (4, 11)), mode="reflect")
    assert np.array_equal(mirror_pad(images, 4, 9, 11).numpy(), expected)


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_upsampling_starts_as_bilinear_interpolation(factor: int) -> None:
    maps = torch.randn(2, 3, 5, 4)
    with torch.no_grad():
        upsampled = Upsampling(3, factor)(maps)
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    assert torch.allclose(upsampled, expected, atol=1e-5)


def test_fcn_skips_start_from_the_coarser_network() -> None:
    """16s begins as 32s, and 8s as 16s, but for what a doubling does to bilinear interpolation."""
    images = torch.randn(1, 3, 64, 96)
    coarser: dict[str, Tensor] = {}
    scores = torch.zeros(0)
    for arch in ("fcn32s", "fcn16s", "fcn8s"):
        network = build(arch, 3, backbone=RESNET).eval()
        fitting = {n: w for n, w in coarser.items() if w.shape == network.state_dict()[n].shape}
        assert fitting.keys() == coarser.keys()
        network.load_state_dict(fitting, strict=False)
        with torch.no_grad():
            logits = network(images)
            if arch == "fcn32s":
                random_norms(network)
                last = network.backbone(images)[-1]
                scores, logits = network.scores["32"](last), network(images)
            else:
                scores = F.interpolate(scores, scale_factor=2.0, mode="bilinear")
        expected = F.interpolate(scores, images.shape[-2:], mode="bilinear")
        assert logits.std() > 0.01
        assert torch.allclose(logits, expected, atol=1e-5)
        coarser = network.state_dict()


def test_fcn_adds_the_scores_of_pools_of_a_vgg() -> None:
    network = build("fcn8s", 3, backbone=vgg(96)).eval()
    random_norms(network)
    images = torch.randn(1, 3, 64, 64)
    pools: dict[int, Tensor] = {}
    x = images
    with torch.no_grad():
        for layer in [layer for stage in network.backbone.stages for layer in stage]:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pools[64 // x.shape[-1]] = x
        maps = network.maps(images)
    assert torch.equal(maps[8], pools[8])
    assert torch.equal(maps[16], pools[16])
    assert torch.equal(maps[32], x)


@pytest.mark.parametrize("image_size", [96, 128])
def test_fully_connected_layers_as_convolutions(image_size: int) -> None:
    """In the middle of an image of the size it was trained on, VGG says what it says of it."""
    settings = vgg(image_size)
    torch.manual_seed(3)
    network = classifier(settings["arch"], **settings["network"]).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    inputs = Preprocessing(**settings["preprocessing"])
    backbone = Backbone(network, inputs, head=True).eval()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        fc7 = network.head[:-1](network.features(images))  # type: ignore[index]
        fc7 = network.head[-1][:-1](fc7)  # type: ignore[index]
        maps = backbone(images)[-1]
    side = image_size // 32
    assert maps.shape == (2, backbone.channels[-1], side, side)
    assert fc7.std() > 0.01
    assert torch.allclose(maps[:, :, side // 2, side // 2], fc7, rtol=1e-4, atol=1e-5)


def test_a_head_comes_with_the_settings() -> None:
    plain, whole = vgg(96), vgg(96) | {"head": True}
    assert backbones.build(plain).channels == [3, 6, 13, 26, 26, 26]  # 64 to 512, times 0.05
    assert len(backbones.build(whole).state_dict()) == len(backbones.build(plain).state_dict()) + 4
    pooled = backbones.build(RESNET).state_dict()
    assert backbones.build(RESNET | {"head": True}).state_dict().keys() == pooled.keys()


def test_unpooling_puts_values_where_the_maxima_were() -> None:
    network = build("segnet", 1, width_multiplier=0.05)
    network.backbone.stages = nn.ModuleList(
        [nn.Sequential(nn.Identity()), *(nn.Sequential(nn.MaxPool2d(2)) for _ in range(2))]
    )
    network.decoder = nn.ModuleList(nn.Identity() for _ in range(3))
    image = torch.tensor(
        [
            [1.0, 2, 0, 0, 5, 1, 1, 1],
            [3, 0, 0, 4, 1, 1, 1, 6],
            [0, 0, 1, 0, 2, 0, 0, 0],
            [9, 0, 0, 0, 0, 0, 3, 0],
        ]
    )
    expected = torch.zeros(4, 8)
    expected[3, 0], expected[1, 7] = 9, 6  # of the 4x4 blocks, two pools deep
    assert torch.equal(network.logits(image[None, None])[0, 0], expected)


def test_segnet_mirrors_its_encoder() -> None:
    with torch.device("meta"):
        network = build("segnet", 11)
    decoder = [m for blocks in reversed(network.decoder) for m in blocks.modules()]
    encoder = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)]
    widths = [(m.in_channels, m.out_channels) for m in decoder if isinstance(m, nn.Conv2d)]
    mirror = [(m.out_channels, m.in_channels) for m in reversed(encoder)]
    assert len(widths) == 13
    assert widths == [*mirror[:-1], (64, 11)]


def seen(layers: nn.Module) -> int:
    """Side of what the middle of the last map sees of the first."""
    image = torch.ones(1, 1, 101, 101, requires_grad=True)
    layers(image)[0, 0, 50, 50].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()  # type: ignore[union-attr]
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize(
    ("dilations", "sides"),
    [
        ((1, 2, 4, 8), [3, 7, 15, 31]),  # section 2 of the paper
        (DILATIONS, [3, 5, 9, 17, 33, 65, 67]),  # table 1
    ],
)
def test_what_the_context_module_sees(dilations: tuple[int, ...], sides: list[int]) -> None:
    context = Context(1, (1,) * len(dilations), dilations)
    layers = list(context)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    assert [seen(nn.Sequential(*layers[: 2 * n + 2])) for n in range(len(dilations))] == sides
    assert seen(context) == sides[-1]


@pytest.mark.parametrize("size", ["basic", "large"])
def test_the_context_module_starts_as_the_identity(size: str) -> None:
    scores = torch.rand(1, 5, 20, 20)
    with torch.no_grad():
        passed = Context(5, WIDTHS[size])(scores)
    assert torch.allclose(passed, scores, atol=0 if size == "basic" else 0.05)


def test_the_dilated_front_end_is_the_classifier_at_every_8th_pixel() -> None:
    network = build("dilated", 3, backbone=RESNET).eval()
    random_norms(network)
    strided = backbones.build(RESNET).eval()
    strided.load_state_dict(network.backbone.state_dict())
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        dense, coarse = network.backbone(images)[-1], strided(images)[-1]
    assert dense.shape[-2:] == (12, 20)
    assert torch.allclose(dense[..., ::4, ::4], coarse, atol=1e-5)


def test_a_class_with_negative_scores_still_learns_through_the_context_module() -> None:
    network = build("dilated", 3, backbone=RESNET)
    nn.init.constant_(network.score.bias, -9.0)
    images = torch.randn(2, 3, 32, 32)
    network(images)[:, 1].sum().backward()
    assert network.score.weight.grad[1].any()


def test_the_front_end_of_a_vgg_leaves_out_two_pools() -> None:
    network = build("dilated", 3, backbone=vgg(128) | {"head": True}, context="none").eval()
    layers = [m for m in network.backbone.modules() if not list(m.children())]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 3
    dilations = [layer.dilation[0] for layer in layers if isinstance(layer, nn.Conv2d)]
    assert dilations == [1] * 8 + [2, 2] + [4, 4]  # section 4: conv5 by 2, fc6 by 4; fc7 is 1x1
    maps = network.backbone(torch.randn(1, 3, 64, 96))
    assert maps[-1].shape[-2:] == (8, 12)


def test_unet_is_the_papers() -> None:
    with torch.device("meta"):
        network = build("unet", 2)
        tile = build("unet", 2, padding="valid").logits(torch.empty(1, 3, 572, 572))
    assert tile.shape == (1, 2, 388, 388)  # figure 1
    # https://github.com/milesial/Pytorch-UNet, UNet(3, 2), has as many.
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_037_698


@pytest.mark.parametrize(("depth", "margin"), [(1, 8), (2, 20), (3, 44), (4, 92)])
def test_valid_convolutions_see_a_mirrored_border(depth: int, margin: int) -> None:
    network = build("unet", 2, padding="valid", width_multiplier=0.05, depth=depth).eval()
    assert network.margin == margin
    images = torch.randn(1, 3, 22, 35)
    sides = [network.padded_side(side) for side in images.shape[-2:]]
    added = [(margin, sides[axis] - margin - images.shape[2 + axis]) for axis in range(2)]
    padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), *added), mode="reflect"))
    with torch.no_grad():
        inside = network.logits(padded)
        assert inside.shape[-2:] == tuple(side - 2 * margin for side in sides)
        assert all(0 <= extra < 2**depth for extra in (inside.shape[2] - 22, inside.shape[3] - 35))
        assert torch.allclose(network(images), inside[..., :22, :35], atol=1e-6)


@pytest.mark.parametrize(("window", "step"), [(33, 1), (32, 1), (35, 4)])
def test_patch_is_cropping_by_hand(window: int, step: int) -> None:
    network = build("patch", 3, backbone=RESNET, window=window, step=step).eval()
    random_norms(network)
    images = torch.randn(2, 3, 6, 9)
    before = window // 2
    padding = ((0, 0), (0, 0), (before, window), (before, window))
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    places = torch.cartesian_prod(torch.arange(2), torch.arange(0, 6, step), torch.arange(9))
    places = places[places[:, 2] % step == 0]
    with torch.no_grad():
        expected = torch.cat(
            [
                network.classify(padded[b, None, :, y : y + window, x : x + window])
                for b, y, x in places.tolist()
            ]
        )
        logits = network(images)
        assert torch.allclose(network(images, places), expected, atol=1e-5)
    found = logits[places[:, 0], :, places[:, 1], places[:, 2]]
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, atol=1e-5)
    middle = (logits[..., 0, 0] + logits[..., 0, step]) / 2  # of two windows' logits, on a line
    assert step % 2 or torch.allclose(logits[..., 0, step // 2], middle, atol=1e-5)


def tiny_backbone(*_: object) -> Backbone:
    convolutions = [nn.Conv2d(inputs, 6, 3, padding=1) for inputs in (3, 6, 6)]
    first, second, third = (nn.Sequential(layer, nn.ReLU()) for layer in convolutions)
    features = nn.Sequential(first, nn.MaxPool2d(2), second, nn.MaxPool2d(2), third)
    return Backbone(Network(features, nn.Identity()), Preprocessing(**PREPROCESSING))  # type: ignore[arg-type]


def test_shift_and_stitch_is_the_network_evaluated_densely() -> None:
    with mock.patch("dlkit.segment.models.patch.make_backbone", tiny_backbone):
        every = build("shift-and-stitch", 2, step=1).eval()
        some = build("shift-and-stitch", 2, step=2).eval()
    some.load_state_dict(every.state_dict())
    assert every.stride == 4
    images = torch.randn(1, 3, 33, 41, requires_grad=True)
    dense = copy.deepcopy(every.backbone.stages)
    dense[1][0], dense[2][0] = nn.MaxPool2d(2, 1), nn.MaxPool2d(2, 1, dilation=2)
    for stage, dilation in ((1, 2), (2, 4)):
        convolution = dense[stage][1][0]
        convolution.dilation = convolution.padding = (dilation, dilation)
    expected = every.score(nn.Sequential(*dense)(images))
    stitched = every(images)
    assert stitched.shape == (1, 2, 33, 41)
    # Away from the borders, where the zeros of the padding lie elsewhere.
    inside = slice(12, 21)
    assert expected[..., inside, inside].std() > 0.01
    # Two pools move the middle by 0.5 and 1 pixels, of which the whole one is taken back.
    earlier = slice(inside.start - 1, inside.stop - 1)
    assert torch.allclose(stitched[..., inside, inside], expected[..., earlier, earlier], atol=1e-5)
    assert torch.allclose(some(images)[..., ::2, ::2], stitched[..., ::2, ::2], atol=1e-5)

    stitched[0, 0, 16, 18].backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()  # type: ignore[union-attr]
    assert abs(float(rows.min() + rows.max()) / 2 - 16) <= 0.5


def test_shift_and_stitch_learns_from_one_pass() -> None:
    with mock.patch("dlkit.segment.models.patch.make_backbone", tiny_backbone):
        network = build("shift-and-stitch", 2, step=1)
    images = torch.randn(1, 3, 9, 14)
    with torch.no_grad():
        learning, exact = network.train()(images), network.eval()(images)
    assert torch.allclose(learning[..., ::4, ::4], exact[..., ::4, ::4], atol=1e-5)
    assert not torch.allclose(learning, exact, atol=1e-3)


def test_torchvisions_weights_give_torchvisions_logits() -> None:
    torch.manual_seed(0)
    theirs = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    random_norms(theirs)
    network = build("deeplabv3", 21, backbone="mobilenet").eval()
    network.load_state_dict(torchvision_zoo.weights_of(theirs.state_dict(), frozen_eps=False))
    images = torch.randn(1, 3, 45, 60)
    with torch.no_grad():
        assert torch.allclose(network(images), theirs(images)["out"], atol=1e-5)


def test_frozen_norms_without_epsilon_give_the_same_maps() -> None:
    theirs = resnet_fpn_backbone(backbone_name="resnet50", weights=None).eval()
    for module in theirs.modules():
        if hasattr(module, "running_var"):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            module.eps = 0.0
    network = MaskRCNN(90).eval()
    state = {f"backbone.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = torchvision_zoo.weights_of(state, frozen_eps=True)
    missing = network.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys
    assert not [name for name in missing.missing_keys if name.startswith("network.backbone")]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(images), network.network.backbone(images)
    for level, maps in expected.items():
        assert (found[level] - maps).abs().max() < 1e-4 * maps.abs().max()


def test_a_published_model_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path))
    theirs = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    file = tmp_path / "fetched.pth"
    torch.save(theirs.state_dict(), file)
    with mock.patch.object(torchvision_zoo, "download", return_value=file):
        path = torchvision_zoo.fetch("lraspp-voc")
    assert torchvision_zoo.fetch("lraspp-voc") == path
    assert not file.exists()
    header, weights = checkpoint.load(path, "segment")
    assert (len(header.labels), header.labels[0], header.labels[15]) == (21, "background", "person")
    build(header.arch, len(header.labels), **header.settings).load_state_dict(weights)
    file.write_bytes(b"no weights")
    with (
        mock.patch.object(torchvision_zoo, "download", return_value=file),
        pytest.raises(DlkitError, match="not a file of weights"),
    ):
        torchvision_zoo.fetch("deeplabv3-voc")


def test_instances_of_mask_rcnn() -> None:
    torch.manual_seed(0)
    network = build("maskrcnn", 2, backbone="mobilenet")
    images = [torch.rand(3, 64, 80), torch.rand(3, 48, 64)]
    masks = torch.zeros(1, 48, 64, dtype=torch.uint8)
    masks[:, 10:30, 20:50] = 1
    target = {
        "boxes": torch.tensor([[20.0, 10, 50, 30]]),
        "labels": torch.tensor([2]),
        "masks": masks,
    }
    # Fewer regions than the usual 2000: quick.
    network.network.rpn._post_nms_top_n = {"training": 20, "testing": 20}
    losses = network.train()(images[1:], [target])
    assert {"loss_classifier", "loss_box_reg", "loss_mask"} <= losses.keys()
    assert all(loss.isfinite() for loss in losses.values())
    network.prepare(torch.float32)
    assert network.normalize(torch.tensor(255.0)) == 1
    for image, found in zip(
        images, network.predict([(255 * i).byte() for i in images], 0.1, limit=4), strict=True
    ):
        assert len(found.labels) == 4
        assert found.masks.shape == (4, *image.shape[1:])
        assert found.masks.dtype == torch.bool
        assert set(found.labels.tolist()) <= {0, 1}
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert found.scores.min() >= 0.1
    assert not len(network.predict([torch.zeros(3, 64, 64, dtype=torch.uint8)], 1.0)[0].labels)
