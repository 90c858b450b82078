"""The networks of every architecture."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.gan_sample.model import ARCHITECTURES, GanModel, build, find_architecture, restore
from dlkit.gan_sample.models.autoencoder import reparameterize
from dlkit.gan_sample.models.dcgan import count_doublings, largest_size
from dlkit.gan_sample.models.residual import DownBlock, UpBlock
from tests.gan_sample.helpers import small


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "cyclegan"])
@pytest.mark.parametrize(("image_size", "channels"), [(16, 3), (28, 1), (40, 3)])
def test_every_generator_makes_pictures(arch: str, image_size: int, channels: int) -> None:
    model = small(arch, image_size, channels)
    assert (model.latent, model.image_size, model.channels) == (6, image_size, channels)
    labels = torch.tensor([0, 2]) if model.classes else None
    made = model.sample(torch.randn(2, 6), labels)
    assert made.shape == (2, channels, image_size, image_size)
    assert made.abs().max() <= 1
    if isinstance(model, GanModel):
        assert model.discriminator is not None
        assert model.discriminator(made, labels).shape == (2,)
    else:
        assert model.reconstruct(made).shape == made.shape


def test_dcgan_has_the_shapes_of_the_papers_figure_1() -> None:
    """With 128 maps: 4 x 4 x 1024, 8 x 8 x 512, 16 x 16 x 256, 32 x 32 x 128, 64 x 64 x 3.

    Here with 4, a 32nd.
    """
    model = build("dcgan", 64, 3, width=4, kernel=5)
    shapes = []
    x = torch.randn(2, 100)
    for layer in model.generator.body:
        x = layer(x)
        if not isinstance(layer, nn.BatchNorm2d | nn.ReLU):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(32, 4, 4), (16, 8, 8), (8, 16, 16), (4, 32, 32), (3, 64, 64)]
    convolutions = [m for m in model.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert {(c.kernel_size, c.stride) for c in convolutions} == {((5, 5), (2, 2))}
    judged = [m.weight.shape[:2] for m in model.discriminator.body if isinstance(m, nn.Conv2d)]
    assert judged == [(4, 3), (8, 4), (16, 8), (32, 16)]
    assert model.discriminator.head.weight.shape == (1, 32 * 4 * 4)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6, 7])
def test_transposed_convolutions_double_with_every_kernel(kernel: int) -> None:
    model = small("dcgan", kernel=kernel)
    made = model.sample(torch.randn(2, 6))
    assert made.shape[-1] == 16
    assert model.discriminator(made).shape == (2,)


def test_sizes_that_doubling_makes() -> None:
    assert [count_doublings(size) for size in (8, 28, 32, 64, 96)] == [1, 2, 3, 4, 4]
    assert [largest_size(size) for size in (7, 27, 28, 50, 64, 100)] == [8, 24, 28, 48, 64, 96]
    for size in (50, 34, 6):
        with pytest.raises(DlkitError, match=f"--image-size {largest_size(size)}"):
            count_doublings(size)


def test_a_mistaken_setting_is_named() -> None:
    with pytest.raises(
        DlkitError,
        match="gan has no option --kernel; choose from --latent",
    ):
        build("gan", 16, 1, kernel=4)
    with pytest.raises(DlkitError, match="unknown architecture 'x'; choose from residual, gan"):
        find_architecture("x")
    with pytest.raises(DlkitError, match="--network residual"):
        build("cgan", 16, 1, classes=2, network="residual", kernel=4)


@pytest.mark.parametrize("network", ["dense", "convolutional", "residual"])
def test_a_conditional_model_depends_on_the_class_and_needs_one(network: str) -> None:
    size = {"hidden": 20} if network == "dense" else {"width": 4}
    model = build("cgan", 16, 1, classes=3, network=network, latent=6, **size).eval()
    z = torch.randn(1, 6).expand(3, 6)
    labels = torch.arange(3)
    made = model.sample(z, labels)
    assert not torch.equal(made[0], made[1])
    logits = model.discriminator(made[:1].expand(3, -1, -1, -1), labels)
    assert len(set(logits.tolist())) == 3
    with pytest.raises(DlkitError, match="a class for every picture"):
        model.sample(z)
    with pytest.raises(DlkitError, match="has no classes"):
        small("dcgan").sample(z, labels)


def test_the_projection_is_miyatos() -> None:
    """The logit is w x + b + <v_y, x> + c_y, of the features x and the class y."""
    model = small("cgan")
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    judge = model.discriminator
    features = judge.body(images)
    head = judge.head
    expected = features @ head.weight[0] + head.bias[0]
    expected += (features * head.weight[1 + labels]).sum(1) + head.bias[1 + labels]
    assert torch.allclose(judge(images, labels), expected, atol=1e-6)


def test_maxout_takes_the_largest_of_five() -> None:
    layer = build("gan", 8, 1, hidden=10).discriminator.body[1]
    x = torch.randn(3, 64)
    values = (x @ layer.linear.weight.T + layer.linear.bias).view(3, 2, 5)
    assert torch.allclose(layer(x), values.amax(2))


def doubled(x: Tensor, dimension: int) -> Tensor:
    """Twice the length, linearly: each new place lies a quarter of an old one beside an old one."""
    last = x.shape[dimension] - 1
    places = range(last + 1)
    before = x.index_select(dimension, torch.tensor([max(place - 1, 0) for place in places]))
    after = x.index_select(dimension, torch.tensor([min(place + 1, last) for place in places]))
    pairs = torch.stack([(before + 3 * x) / 4, (after + 3 * x) / 4], dimension + 1)
    return pairs.flatten(dimension, dimension + 1)


def test_residual_blocks_are_residual() -> None:
    """With its second convolution at zero, a block is its shortcut."""
    x = torch.randn(2, 4, 6, 6)
    up, down = UpBlock(4, 3), DownBlock(4, 3)
    for block in (up, down):
        nn.init.zeros_(block.conv2.weight)
        assert block.conv2.bias is not None
        nn.init.zeros_(block.conv2.bias)
    enlarged = doubled(doubled(x, 2), 3)
    assert torch.allclose(up(x), up.shortcut(enlarged), atol=1e-6)
    halved = x.view(2, 4, 3, 2, 3, 2).mean(dim=(3, 5))
    assert torch.allclose(down(x), down.shortcut(halved), atol=1e-6)


def test_spectral_norm_bounds_each_matrix() -> None:
    judge = small("dcgan", spectral_norm=True).discriminator
    with torch.no_grad():
        for _ in range(100):
            judge(torch.randn(2, 3, 16, 16))
    for layer in judge.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert float(largest.detach()) == pytest.approx(1, abs=1e-3)


def test_a_shipped_model_has_no_discriminator() -> None:
    model = small("residual").eval()
    weights = {n: w for n, w in model.state_dict().items() if n.startswith("generator.")}
    settings = {"image_size": 16, "channels": 3, "width": 4, "latent": 6}
    shipped = restore("x", Header("gan-sample", "residual", settings, []), weights)
    assert shipped.discriminator is None
    z = torch.randn(2, 6)
    assert torch.equal(shipped.sample(z), model.sample(z))


def test_the_patch_discriminator_sees_70_pixels() -> None:
    """Section 4: each logit is of an overlapping 70 x 70 patch."""
    judge = small("cyclegan", 128).discriminator["a"]
    # Norms over the image would let every logit see everything.
    plain = nn.Sequential(*(m for m in judge if not isinstance(m, nn.InstanceNorm2d)))
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    out = plain(image)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    assert image.grad is not None
    touched = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (touched.max(0)[0] - touched.min(0)[0] + 1).tolist() == [70, 70]


def test_a_translator_takes_any_multiple_of_four() -> None:
    model = small("cyclegan")
    assert model.translate(torch.randn(1, 3, 20, 36)).shape == (1, 3, 20, 36)
    there, back = (
        model.translate(torch.ones(1, 3, 8, 8)),
        model.translate(torch.ones(1, 3, 8, 8), True),
    )
    assert not torch.equal(there, back)


def test_a_code_is_drawn_from_its_gaussian_with_gradients() -> None:
    torch.manual_seed(0)
    mean = torch.full((20000, 1), 2.0, requires_grad=True)
    log_variance = torch.full((20000, 1), math.log(9.0), requires_grad=True)
    z = reparameterize(mean, log_variance)
    assert float(z.detach().mean()) == pytest.approx(2, abs=0.1)
    assert float(z.detach().std()) == pytest.approx(3, abs=0.1)
    z.sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert torch.equal(mean.grad, torch.ones_like(mean))
    assert torch.allclose(log_variance.grad, 0.5 * (z - mean).detach(), atol=1e-5)


def test_an_autoencoder_notes_where_its_codes_lie() -> None:
    model = small("autoencoder", sparse=True)
    codes = model.encode(torch.randn(64, 3, 16, 16)).detach()
    assert float(codes.min()) > 0
    assert float(codes.max()) < 1
    given = torch.tensor(np.random.default_rng(0).normal(3, 2, (5000, 6)), dtype=torch.float)
    model.fit(given)
    z = torch.randn(1, 6)
    expected = model.eval().decode(given.mean(0) + given.std(0) * z)
    assert torch.allclose(model.sample(z), expected)
