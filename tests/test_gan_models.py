"""Networks, losses and augmentation of `dlkit gan-sample`, against formulas and by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.gan_sample import diffaugment, latents
from dlkit.gan_sample.generate import BATCH, generate
from dlkit.gan_sample.loss import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    reconstruction_loss,
    sparsity_loss,
)
from dlkit.gan_sample.model import ARCHITECTURES, GanModel, build, find_architecture, restore
from dlkit.gan_sample.models.autoencoder import reparameterize
from dlkit.gan_sample.models.dcgan import count_doublings, largest_size
from dlkit.gan_sample.models.residual import DownBlock, UpBlock

SMALL: dict[str, dict[str, Any]] = {
    "gan": {"hidden": 20},
    "cgan": {"width": 4, "classes": 3},
    "cyclegan": {"width": 4, "blocks": 1},
}


def small(arch: str, image_size: int = 16, channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    chosen = SMALL.get(arch, {"width": 4})
    latent = {} if arch == "cyclegan" else {"latent": 6}
    return build(arch, image_size, channels, **{**chosen, **latent, **settings})


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


# Losses


def test_the_optimal_discriminator_is_p_over_p_plus_q() -> None:
    """On four points with a logit for each: D* = p / (p + q) minimizes the loss, which is convex.

    Its value there is log 4 - 2 JSD(p, q) (Goodfellow et al. 2014, equation 4).
    """
    p, q = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    # Ten draws of each distribution, in its shares.
    real, fake = (torch.arange(4).repeat_interleave((10 * s).round().long()) for s in (p, q))
    best = (p / (p + q)).logit().requires_grad_()
    loss = discriminator_loss("minimax", best[real], best[fake])
    loss.backward()
    assert best.grad is not None
    assert torch.allclose(best.grad, torch.zeros(4), atol=1e-6)
    logits = best.detach()
    for step in torch.eye(4):
        moved = logits + 0.3 * step
        assert discriminator_loss("minimax", moved[real], moved[fake]) > loss
    middle = (p + q) / 2
    jsd = 0.5 * ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum())
    assert float(loss.detach()) == pytest.approx(math.log(4) - 2 * float(jsd), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "of_logit"),
    [
        ("minimax", lambda x: -torch.sigmoid(x)),  # of log(1 - D)
        ("non-saturating", lambda x: torch.sigmoid(x) - 1),  # of -log D
        ("least-squares", lambda x: x - 1),
        ("hinge", lambda x: -torch.ones_like(x)),
        ("wasserstein", lambda x: -torch.ones_like(x)),
    ],
)
def test_gradients_of_the_generators_losses(kind: str, of_logit: Any) -> None:
    logits = torch.tensor([-8.0, -1.0, 0.0, 2.0], requires_grad=True)
    generator_loss(kind, logits).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, of_logit(logits.detach()) / 4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("minimax", math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))),
        ("non-saturating", math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))),
        ("least-squares", 0.5 * (1.0 + 0.25)),
        ("hinge", 0.0 + 1.5),
        ("wasserstein", 0.5 - 2),
    ],
)
def test_discriminators_losses_by_hand(kind: str, expected: float) -> None:
    loss = discriminator_loss(kind, torch.tensor([2.0]), torch.tensor([0.5]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_the_saturating_loss_saturates_where_the_other_does_not() -> None:
    sure = torch.tensor([-20.0], requires_grad=True)
    (flat,) = torch.autograd.grad(generator_loss("minimax", sure), sure)
    (steep,) = torch.autograd.grad(generator_loss("non-saturating", sure), sure)
    assert abs(float(flat)) < 1e-8
    assert float(steep) == pytest.approx(-1, abs=1e-6)


def test_the_penalty_on_a_linear_critic_by_hand() -> None:
    """A linear critic's gradient is its weight everywhere: the penalty is (|w| - 1)^2."""
    weight = torch.tensor([2.0, 3.0, 6.0, 0.0], requires_grad=True)  # of length 7

    def critic(images: Tensor) -> Tensor:
        return images.flatten(1) @ weight + 5

    real, fake = torch.randn(5, 1, 2, 2), torch.randn(5, 1, 2, 2)
    penalty = gradient_penalty(critic, real, fake)
    assert float(penalty.detach()) == pytest.approx(36)
    penalty.backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, 2 * 6 * weight.detach() / 7)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    """On a critic x^2 / 2 in one dimension, whose gradient is the place x itself."""

    def critic(images: Tensor) -> Tensor:
        return 0.5 * images.flatten(1).square().sum(dim=1)

    torch.manual_seed(0)
    real, fake = torch.full((4000, 1, 1, 1), 3.0), torch.full((4000, 1, 1, 1), 1.0)
    # x uniform from 1 to 3: E (x - 1)^2 = 4 / 3.
    penalty = gradient_penalty(critic, real, fake).detach()
    assert float(penalty) == pytest.approx(4 / 3, rel=0.05)


def test_kl_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    gaussian = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(gaussian, normal).sum(dim=1)
    assert torch.allclose(kl_divergence(mean, log_variance), expected, atol=1e-5)
    assert float(kl_divergence(torch.zeros(1, 5), torch.zeros(1, 5))) == 0


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


def test_reconstruction_losses_by_hand() -> None:
    images, halves = torch.tensor([[[[1.0, -0.5]]]]), torch.tensor([[[[0.3, 2.0]]]])
    made = halves.tanh()
    errors = (made - images)[0, 0, 0].tolist()
    assert float(reconstruction_loss("mse", images, halves)) == pytest.approx(
        0.5 * (errors[0] ** 2 + errors[1] ** 2)
    )
    assert float(reconstruction_loss("l1", images, halves)) == pytest.approx(
        abs(errors[0]) + abs(errors[1])
    )
    shares = 0.5 * (made + 1)
    bce = F.binary_cross_entropy(shares, 0.5 * (images + 1), reduction="sum")
    assert float(reconstruction_loss("bce", images, halves)) == pytest.approx(float(bce), rel=1e-5)


def test_sparsity_is_the_divergence_of_mean_activities() -> None:
    codes = torch.tensor([[0.2, 0.05], [0.4, 0.05]])  # means 0.3 and 0.05
    expected = 0.05 * math.log(0.05 / 0.3) + 0.95 * math.log(0.95 / 0.7)
    assert float(sparsity_loss(codes, 0.05)) == pytest.approx(expected, abs=1e-6)


# Latent vectors


def test_a_latent_vector_depends_on_seed_and_number_alone() -> None:
    together = latents.draw(3, range(50), 7)
    assert torch.equal(latents.draw(3, [41, 0], 7), together[[41, 0]])
    assert not torch.equal(latents.draw(4, [0], 7), together[:1])
    many = latents.draw(0, range(2000), 8)
    assert abs(float(many.mean())) < 0.03
    assert float(many.std()) == pytest.approx(1, abs=0.03)


def test_truncation_bounds_the_vectors_and_keeps_their_order() -> None:
    whole = latents.draw(0, range(300), 4)
    cut = latents.draw(0, range(300), 4, truncation=0.7)
    assert float(cut.abs().max()) <= 0.7
    assert torch.equal(whole.flatten().argsort(), cut.flatten().argsort())
    # The variance of a normal between -t and t: 1 - 2 t phi(t) / (2 Phi(t) - 1).
    density = math.exp(-0.5 * 0.49) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * 0.7 * density / math.erf(0.7 / math.sqrt(2))
    assert float(cut.var()) == pytest.approx(variance, rel=0.08)
    assert torch.allclose(latents.draw(0, range(300), 4, truncation=8.0), whole, atol=1e-4)


def test_the_arc_between_two_vectors() -> None:
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    arc = latents.slerp(start, end, torch.tensor([0.0, 1 / 3, 1.0]))
    third = 2 * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    assert torch.allclose(arc, torch.stack([start, third, end]), atol=1e-6)
    same = latents.slerp(start, 3 * start, torch.tensor([0.5]))
    assert torch.allclose(same, 2 * start[None])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_is_the_same_whatever_others_are_made_with_it(precision: str) -> None:
    model = small("dcgan").eval()
    count = 2 * BATCH + 3
    z = latents.draw(0, range(count), 6)
    together = torch.cat(list(generate(model, z, precision=precision)))
    assert together.shape == (count, 3, 16, 16)
    assert together.dtype == torch.uint8
    for numbers in ([0], [count - 1], [40, 2, 7], [*range(30, 66)]):
        alone = torch.cat(list(generate(model, latents.draw(0, numbers, 6), precision=precision)))
        assert torch.equal(alone, together[numbers])


# Augmentation


def test_augmentation_lets_gradients_through() -> None:
    torch.manual_seed(0)
    images = (0.5 * torch.randn(4, 3, 8, 8)).requires_grad_()
    diffaugment.augment(images, ["color", "translation", "cutout"]).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_translation_moves_whole_pictures_by_an_eighth_at_most() -> None:
    torch.manual_seed(0)
    images = torch.zeros(200, 1, 16, 16)
    images[:, :, 8, 8] = 1
    places = diffaugment.translate(images).nonzero()[:, 2:] - 8
    assert len(places) == 200
    assert places.min() == -2
    assert places.max() == 2
    ones = diffaugment.translate(torch.ones(200, 1, 16, 16))
    assert set(ones.sum(dim=(1, 2, 3)).tolist()) == {
        float(h * w) for h in (14, 15, 16) for w in (14, 15, 16)
    }


def test_cutout_takes_a_square_of_half_the_side() -> None:
    torch.manual_seed(0)
    left = diffaugment.cutout(torch.ones(300, 2, 16, 16))
    removed = (1 - left[:, 0]).sum(dim=(1, 2))
    assert removed.max() == 64
    assert removed.min() == 16  # a quarter of the hole, in a corner
    assert torch.equal(left[:, 0], left[:, 1])
    rows, columns = (1 - left[0, 0]).sum(dim=0), (1 - left[0, 0]).sum(dim=1)
    assert len(set(rows[rows > 0].tolist())) == len(set(columns[columns > 0].tolist())) == 1


def test_recoloring_changes_no_gray_picture_into_a_colored_one() -> None:
    torch.manual_seed(0)
    gray = torch.randn(20, 1, 6, 6).expand(-1, 3, -1, -1)
    out = diffaugment.jitter_color(gray)
    assert torch.allclose(out[:, 0], out[:, 2], atol=1e-5)
    contrast = out.std(dim=(1, 2, 3)) / gray.std(dim=(1, 2, 3))
    assert float(contrast.min()) >= 0.5
    assert float(contrast.max()) <= 1.5
    assert float((out - gray).mean(dim=(1, 2, 3)).abs().max()) <= 0.5 + 1e-5


def test_a_policy_is_named() -> None:
    assert diffaugment.parse_policy("none") == []
    assert diffaugment.parse_policy("cutout, color") == ["cutout", "color"]
    with pytest.raises(DlkitError, match="--augment hue: unknown; choose from none, color"):
        diffaugment.parse_policy("hue")


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
