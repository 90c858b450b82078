"""Style transfer: feature networks, losses against their formulas, and painting by optimization."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import to_pil_image

from dlkit.classify.model import build as build_classifier
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint, weights
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.lbfgs import LBFGS
from dlkit.style_transfer.loss import (
    CHUNK,
    content_loss,
    gram,
    statistics_loss,
    style_loss,
    total_variation,
)
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.adain import AdaIN
from dlkit.style_transfer.models.fast import Fast
from dlkit.style_transfer.models.features import (
    STAGES,
    WIDTHS,
    FeatureNetwork,
    load_features,
    photo_like_noise,
)
from dlkit.style_transfer.models.statistics import mean_and_std
from dlkit.style_transfer.optimize import (
    Objective,
    Step,
    StyleTransferLoss,
    initial_picture,
    optimize,
)
from dlkit.style_transfer.publish import publish

CPU = torch.device("cpu")


def picture(seed: int, height: int = 32, width: int = 40) -> Tensor:
    """Smooth noise (1, 3, H, W) from 0 to 1."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return load_features("random:0", CPU)


# ---- losses --------------------------------------------------------------------------------------


def test_gram_by_hand() -> None:
    # Two maps of two places: 1 3 and 2 -1; sums of products over 2 places.
    maps = torch.tensor([[[[1.0, 3.0]], [[2.0, -1.0]]]])
    assert gram(maps).tolist() == [[[5.0, -0.5], [-0.5, 2.5]]]


def test_gram_and_its_gradient_are_those_of_einsum() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7, dtype=torch.double).float().requires_grad_()
    weights = torch.randn(2, 5, 5)
    expected = torch.einsum("bihw,bjhw->bij", maps, maps) / 42
    torch.testing.assert_close(gram(maps), expected)
    (own,) = torch.autograd.grad((gram(maps) * weights).sum(), maps)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), maps)
    torch.testing.assert_close(own, theirs)


def test_gram_of_bf16_is_better_than_a_sum_in_bf16() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 3, CHUNK + 5).bfloat16()
    exact = torch.einsum("bihw,bjhw->bij", maps.double(), maps.double()) / (3 * (CHUNK + 5))
    error = (gram(maps) - exact).abs().max()
    assert error < 0.5 * 2**-8 * exact.abs().max()


def test_a_mask_counts_its_places_only() -> None:
    maps = torch.randn(1, 4, 6, 8)
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., :3] = 1
    torch.testing.assert_close(gram(maps, mask), gram(maps[..., :3]))


def test_content_and_style_losses_are_the_papers_up_to_means() -> None:
    maps, targets = {"a": torch.randn(1, 3, 4, 5)}, {"a": torch.randn(1, 3, 4, 5)}
    # Equation 1 has half the sum of squares over 3 maps of 20 places.
    expected = 0.5 * (maps["a"] - targets["a"]).square().sum()
    torch.testing.assert_close(content_loss(maps, targets, {"a": 2.0}) * 60 / 4, expected)
    # Equation 4 has sums in the Gram matrices, over 4 N^2 M^2, here with N = 3 and M = 20.
    grams = [torch.einsum("bihw,bjhw->bij", m, m) for m in (maps["a"], targets["a"])]
    expected = (grams[0] - grams[1]).square().sum() / (4 * 9 * 400)
    found = style_loss(maps, {"a": gram(targets["a"])}, {"a": 0.25})
    torch.testing.assert_close(found, expected)


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    # Down 0.5 and -0.5, across 1 and 0.
    assert float(total_variation(image)) == pytest.approx(0.25 + 0.5)


def test_adain_gives_maps_the_styles_mean_and_deviation(network: FeatureNetwork) -> None:
    torch.manual_seed(0)
    painter = AdaIN(network.settings)
    style = picture(2, 48, 48)
    content, wanted = torch.randn(1, 64, 8, 8), painter.maps(style)
    made = painter.blend(content, painter.code(style))
    for own, theirs in zip(mean_and_std(made), mean_and_std(wanted), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-3, atol=5e-3)
    assert float(statistics_loss({"a": made}, {"a": wanted}, {"a": 1.0})) < 1e-4
    assert float(statistics_loss({"a": content}, {"a": wanted}, {"a": 1.0})) > 0.1


# ---- feature networks ----------------------------------------------------------------------------


def test_maps_are_those_of_torchvisions_vgg(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = make_layers(cfgs["D"])  # VGG-16
    names = {f"features.{k}": v for k, v in theirs.state_dict().items()}
    torch.save(names, tmp_path / "vgg.pth")
    own = load_features(str(tmp_path / "vgg.pth"), CPU, pooling="max")
    image = picture(1)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        for name, layers in (("relu2_2", 9), ("relu4_1", 19)):
            expected = theirs[:layers]((image - mean) / std)
            same_up_to_scales(own(image, [name])[name], expected)
        caffe = load_features(str(tmp_path / "vgg.pth"), CPU, pooling="max", caffe=True)
        x = 255 * image - torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
        same_up_to_scales(caffe(image, ["relu1_1"])["relu1_1"], theirs[:2](x.flip(1)))


def same_up_to_scales(own: Tensor, expected: Tensor) -> None:
    """Each map has a scale of its own, by which its mean became 1."""
    squares = expected.square().sum((0, 2, 3))
    scale = (own * expected).sum((0, 2, 3)) / squares.clamp(min=1e-12)
    torch.testing.assert_close(own, expected * scale[:, None, None], rtol=1e-3, atol=1e-3)
    assert (scale > 0).any()


def test_normalized_maps_have_a_mean_of_1(network: FeatureNetwork) -> None:
    images = photo_like_noise(2, 64)
    copied = FeatureNetwork(**network.settings)
    with torch.no_grad():
        for _, convolution in copied.convolutions():
            convolution.bias.fill_(0.1)  # type: ignore[union-attr]
    before = copied(images, ["relu3_1"])["relu3_1"]
    copied.normalize(images)
    after = copied(images, ["relu1_2", "relu3_1", "relu5_1"])
    means = after["relu1_2"].mean((0, 2, 3))
    assert float(means.max()) == pytest.approx(1, abs=1e-3)
    # What was seldom active stays below 1; the others are at 1, and what they show is the same.
    assert (after["relu5_1"].mean((0, 2, 3)) < 1.001).all()
    normal = [m[0] / m[0].norm(dim=(1, 2), keepdim=True) for m in (before, after["relu3_1"])]
    torch.testing.assert_close(*normal, rtol=1e-3, atol=1e-4, equal_nan=True)


def test_nothing_beyond_the_last_layer_is_computed(network: FeatureNetwork) -> None:
    seen = []
    hooks = [
        step.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, step in network.steps.items()
    ]
    network(picture(0), ["relu1_1", "relu2_1"])
    for hook in hooks:
        hook.remove()
    assert seen[-1] == "relu2_1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar10", "not a VGG"),
        ("random:x", "the seed is not a number"),
        ("nothing.pth", "no such file"),
        ("nothing", "unknown model"),
    ],
)
def test_what_is_no_feature_network_is_said(name: str, said: str) -> None:
    if name == "cifar10":
        name = str(weights.folder("classify") / "cifar10.safetensors")
    with pytest.raises(DlkitError, match=said):
        load_features(name, CPU)


def test_layers_and_preprocessings_it_does_not_have_are_refused(network: FeatureNetwork) -> None:
    with pytest.raises(DlkitError, match="unknown layer 'relu9_1'; choose from conv1_1"):
        network(picture(0), ["relu9_1"])
    with pytest.raises(DlkitError, match="has its own"):
        load_features("random:0", CPU, caffe=True)


def test_a_saved_network_comes_back(network: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    header = Header("style-transfer", "features", network.settings, [])
    checkpoint.save(path, network.state_dict(), header)
    again = load_features(str(path), CPU, pooling="max")
    assert again.settings["pooling"] == "max"
    image = picture(3)
    torch.testing.assert_close(again(image, ["relu1_2"]), network(image, ["relu1_2"]))


def test_vgg19_has_the_papers_layers() -> None:
    with torch.device("meta"):
        layers = FeatureNetwork(STAGES[1], WIDTHS).layers
    assert [name for name in layers if name.startswith("relu")][-4:] == [
        "relu5_1", "relu5_2", "relu5_3", "relu5_4",
    ]  # fmt: skip
    assert len(layers) == 2 * 16


# ---- L-BFGS --------------------------------------------------------------------------------------


def test_lbfgs_is_torchs_where_nothing_is_cut_off() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(12, 12, dtype=torch.double)
    matrix = matrix @ matrix.T + torch.eye(12)

    def gradient(x: Tensor) -> Tensor:
        return matrix @ x - 1

    def value(x: Tensor) -> float:
        return 1000 + float((0.5 * x @ matrix @ x - x.sum()).detach())

    own = torch.zeros(12, dtype=torch.double)
    lbfgs = LBFGS(history=5)
    theirs = torch.zeros(12, dtype=torch.double, requires_grad=True)
    peer = torch.optim.LBFGS([theirs], max_iter=15, history_size=5, tolerance_change=0)

    def closure() -> float:
        theirs.grad = gradient(theirs.detach())
        return value(theirs)

    peer.step(closure)
    for _ in range(15):
        lbfgs.step(own, value(own), gradient(own))
    torch.testing.assert_close(own, theirs.detach(), rtol=1e-6, atol=1e-8)


def test_lbfgs_takes_back_a_move_that_made_it_worse() -> None:
    x, lbfgs = torch.tensor([2.0, 2.0], dtype=torch.double), LBFGS()
    losses: list[float] = []
    for _ in range(60):
        a, b = x.tolist()
        # Rosenbrock's function, on which moves without a line search overshoot.
        losses.append(100 * (b - a * a) ** 2 + (1 - a) ** 2)
        lbfgs.step(
            x, losses[-1], torch.tensor([400 * a**3 - 400 * a * b + 2 * a - 2, 200 * (b - a * a)])
        )
    worse = [now > 1.1 * min(losses[:index]) for index, now in enumerate(losses) if index]
    assert any(worse)
    assert min(losses) < 1e-6


def test_lbfgs_stays_within_its_bounds() -> None:
    target = torch.tensor([0.02, 0.3, 0.99], dtype=torch.double)
    scale = torch.tensor([1.0, 5.0, 2.0])
    x, lbfgs = torch.full((3,), 0.5, dtype=torch.double), LBFGS(bounds=(0, 1))
    for _ in range(60):
        lbfgs.step(x, float((scale * (x - target) ** 2).sum() / 2), scale * (x - target))
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
    torch.testing.assert_close(x, target, rtol=0, atol=1e-5)


def torchs(loss: StyleTransferLoss, start: Tensor, evaluations: int) -> float:
    """The loss after `evaluations` of PyTorch's tutorial: torch.optim.LBFGS, clamped."""
    x = start.clone().requires_grad_()
    peer = torch.optim.LBFGS([x])
    done = 0

    def closure() -> float:
        nonlocal done
        x.data.clamp_(0, 1)
        losses, gradient = loss.with_gradient(x.data)
        x.grad = gradient.contiguous()
        done += 1
        return losses["total"]

    while done < evaluations:
        peer.step(closure)
    return loss.evaluate(x.data.clamp(0, 1))["total"]


@pytest.mark.parametrize("style_weight", [10.0, 1e6])
def test_the_loss_is_no_higher_than_with_torchs_lbfgs(
    style_weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp64: within 25 steps in fp32, L-BFGS amplifies rounding, which depends on the CPU, to
    differences of 1e-3, and within 40 to a few percent.
    """
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # losses cast maps to fp32
    network = load_features("natural", CPU).double()
    content, style = picture(10, 24, 24).double(), picture(20, 24, 24).double()
    objective = Objective(style_weight=style_weight)
    loss = StyleTransferLoss(content, [(style, 1.0)], network, objective, None, "fp32")
    *_, last = optimize(content, [(style, 1.0)], content, network, objective, 40, precision="fp32")
    # The steps are the same until one is rejected, up to rounding.
    assert last.losses["total"] <= (1 + 1e-9) * torchs(loss, content, 40)


# ---- painting by optimization --------------------------------------------------------------------


def painted(network: FeatureNetwork, steps: int = 40, **options: object) -> list[Step]:
    settings = {"objective": Objective(), "precision": "fp32", **options}
    styles = settings.pop("styles", [(picture(2, 24, 24), 1.0)])
    start = settings.pop("start", picture(1))
    return list(optimize(picture(1), styles, start, network, steps=steps, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_loss_falls(network: FeatureNetwork, optimizer: str) -> None:
    steps = painted(network, optimizer=optimizer)
    assert [step.number for step in steps] == list(range(41))
    assert steps[-1].losses["total"] < 0.2 * steps[0].losses["total"]
    assert all(float(s.picture.min()) >= 0 and float(s.picture.max()) <= 1 for s in steps)
    parts = {name: value for name, value in steps[-1].losses.items() if name != "total"}
    assert set(parts) == {"content", "style", "tv"}
    assert sum(parts.values()) == pytest.approx(steps[-1].losses["total"])


def test_without_style_the_content_stays_as_it_is(network: FeatureNetwork) -> None:
    for precision in ("fp32", "bf16"):
        steps = painted(
            network, 5, objective=Objective(style_weight=0, tv_weight=0), precision=precision
        )
        assert torch.equal(steps[-1].picture, picture(1))


def test_without_content_the_gram_matrices_become_the_styles(network: FeatureNetwork) -> None:
    layers = ["relu1_1", "relu2_1"]
    objective = Objective(content_weight=0, tv_weight=0, style_layers=dict.fromkeys(layers, 1.0))
    start = initial_picture("noise", picture(1))
    steps = painted(network, 150, objective=objective, start=start)
    style = network(picture(2, 24, 24), layers)
    for name in layers:
        wanted = gram(style[name])
        before, after = (
            float((gram(network(p, [name])[name]) - wanted).norm() / wanted.norm())
            for p in (start, steps[-1].picture)
        )
        assert after < min(0.02, 0.1 * before)


def test_a_seed_means_the_same_picture(network: FeatureNetwork) -> None:
    once, again, other = (
        painted(network, 5, start=initial_picture("noise", picture(1), seed))[-1].picture
        for seed in (3, 3, 4)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_coarse_to_fine_ends_at_full_size(network: FeatureNetwork) -> None:
    objective = Objective(content_layers={"relu2_1": 1.0}, style_layers={"relu3_1": 1.0})
    steps = painted(network, 9, scales=3, objective=objective)
    sides = [tuple(step.picture.shape[-2:]) for step in steps]
    assert sides == [(8, 10)] * 3 + [(16, 20)] * 3 + [(32, 40)] * 4
    assert [step.number for step in steps] == list(range(10))


def test_several_styles_are_the_mean_of_their_gram_matrices(network: FeatureNetwork) -> None:
    styles = [(picture(2), 3.0), (picture(3), 1.0)]
    loss = StyleTransferLoss(picture(1), styles, network, Objective(), None, "fp32")
    (region,) = loss.regions
    grams = [gram(network(style, ["relu2_1"])["relu2_1"]) for style, _ in styles]
    torch.testing.assert_close(region.grams["relu2_1"], 0.75 * grams[0] + 0.25 * grams[1])


def test_a_mask_leaves_the_rest_of_the_picture_alone(network: FeatureNetwork) -> None:
    mask = torch.zeros(32, 40)
    mask[:, :16] = 1
    objective = Objective(content_weight=0, tv_weight=0, style_layers={"relu1_1": 1.0})
    last = painted(network, 10, objective=objective, masks=[mask])[-1].picture
    changed = (last - picture(1)).abs().amax(dim=(0, 1, 2))
    assert float(changed[:15].min()) > 1e-3
    assert float(changed[18:].max()) == 0


def test_a_layer_without_weight_is_left_out(network: FeatureNetwork) -> None:
    layers = {"relu1_1": 1.0, "relu5_1": 0.0}
    aim = Objective(content_weight=0, style_layers=layers)
    assert StyleTransferLoss(
        picture(1), [(picture(2), 1.0)], network, aim, None, "fp32"
    ).layers == ["relu1_1"]


def test_a_loss_that_is_no_number_ends_it_and_names_the_weight(network: FeatureNetwork) -> None:
    seen = 0

    def spoil(_: nn.Module, __: tuple[Tensor, ...], maps: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return maps * (1 if seen < 7 else math.nan)

    hook = network.steps["relu1_1"].register_forward_hook(spoil)
    objective = Objective(content_weight=0, style_weight=7, tv_weight=0)
    steps = optimize(picture(1), [(picture(2), 1.0)], picture(1), network, objective, 20)
    good: list[Step] = []
    with pytest.raises(DlkitError, match=r"is nan at step 5; lower --style-weight \(now 7\)"):
        good.extend(steps)  # what came before the error is in it
    hook.remove()
    assert [step.number for step in good] == [0, 1, 2, 3, 4]
    assert torch.isfinite(good[-1].picture).all()


# ---- painters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 40), (33, 47), (9, 30)])
def test_painters_keep_the_size(network: FeatureNetwork, size: tuple[int, int]) -> None:
    photos = torch.rand(2, 3, *size)
    fast = build("fast", styles=3, width=4)
    any_style = build("adain", features=network.settings)
    for painter, style in ((fast, 1), (any_style, picture(2))):
        made = painter(photos, style)
        assert made.shape == photos.shape
        assert float(made.detach().min()) >= 0
        assert float(made.detach().max()) <= 1


def test_each_style_has_norms_of_its_own_and_codes_mix() -> None:
    torch.manual_seed(0)
    fast = Fast(styles=2, width=4)
    photos = torch.rand(1, 3, 16, 16)
    assert torch.equal(fast(photos, 0), fast(photos, 1))  # both start alike
    with torch.no_grad():
        fast.get_parameter("up.1.norm.shift")[1] += 1.0
    first, second = fast(photos, 0), fast(photos, 1)
    assert not torch.equal(first, second)
    torch.testing.assert_close(fast(photos, torch.tensor([[1.0, 0.0]])), first)
    between = fast(photos, torch.tensor([[0.5, 0.5]]))
    assert not torch.equal(between, first)
    with pytest.raises(DlkitError, match="no style 3 in a model of 2"):
        fast(photos, 2)


def test_strength_goes_from_the_photograph_to_the_style(network: FeatureNetwork) -> None:
    fast = Fast(styles=1, width=4)
    photos = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(fast(photos, 0, 0.0), photos)
    painter = AdaIN(network.settings)
    style, maps = picture(2), painter.maps(photos)
    torch.testing.assert_close(painter.blend(maps, painter.code(style), 0.0), maps)
    torch.testing.assert_close(painter(photos, style, 0.0), painter.decoder(maps))
    code = painter.code(style)
    torch.testing.assert_close(painter(photos, style), painter.paint(photos, code))


def test_no_architecture_of_that_name() -> None:
    with pytest.raises(DlkitError, match="unknown architecture 'slow'; choose from fast, adain"):
        build("slow")


def test_a_classifier_becomes_a_bundled_feature_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "num_labels": 2, "image_size": 32, "channels": 3, "norm": "batch",
        "width_multiplier": 0.125,
    }  # fmt: skip
    classifier: Any = build_classifier("vgg11", **settings).eval()
    for layer in classifier.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(cast(Tensor, layer.running_mean), -0.2, 0.2)
            nn.init.uniform_(cast(Tensor, layer.running_var), 0.5, 2.0)
    inputs = {"image_size": 32, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    described = {"network": settings, "preprocessing": inputs}
    card = {"command": "dlkit classify train cats"}
    header = Header("classify", "vgg11", described, ["a", "b"], {}, {"top1": 0.75}, card)
    checkpoint.save(tmp_path / "run" / "best.safetensors", classifier.state_dict(), header)
    photographs = tmp_path / "photographs"
    for number in range(3):
        photographs.mkdir(exist_ok=True)
        to_pil_image(picture(number, 192, 192)[0]).save(photographs / f"{number}.png")
    monkeypatch.setattr("dlkit.style_transfer.publish.folder", lambda task: tmp_path)

    publish(tmp_path / "run", "tiny", photographs, "photographs of cats", "free")

    header = checkpoint.read_header(tmp_path / "tiny.safetensors", "style-transfer")
    assert header.card["command"] == card["command"]
    assert header.card["score"].startswith("as a classifier top1 0.750")
    network = load_features(str(tmp_path / "tiny.safetensors"), CPU)
    seen = torch.cat([picture(number, 192, 192) for number in range(3)])
    maps = network(seen, ["relu1_1", "relu2_1", "relu5_1"])
    for name, found in maps.items():  # a mean of 1, but for dead channels and rounding to 8 bits
        means = found.mean((0, 2, 3))
        assert float(means.median()) == pytest.approx(1, abs=0.1), name
    with torch.no_grad():
        theirs = classifier.features[:3]((seen - 0.5) / 0.25)[..., 1:-1, 1:-1]
    ours = maps["relu1_1"][..., 1:-1, 1:-1]
    for channel in range(ours.shape[1]):  # the classifier's maps, each times a number of its own
        both = torch.stack([ours[:, channel].flatten(), theirs[:, channel].flatten()])
        assert theirs[:, channel].std() == 0 or float(torch.corrcoef(both)[0, 1]) > 0.999
