"""Style transfer by optimization."""

import math

import pytest
import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.lbfgs import LBFGS
from dlkit.style_transfer.loss import (
    gram,
)
from dlkit.style_transfer.models.features import (
    FeatureNetwork,
    load_features,
)
from dlkit.style_transfer.optimize import (
    Objective,
    Step,
    StyleTransferLoss,
    initial_picture,
    optimize,
)
from tests.style_transfer.helpers import CPU, picture, smooth


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


def test_a_layer_without_weight_is_skipped(network: FeatureNetwork) -> None:
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


def test_a_step_that_goes_astray_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network, photo, style = load_features("random:0", CPU), smooth(32, 48, 1), smooth(32, 32, 3)
    steps = iter(range(100))
    step = LBFGS.step

    def wild(self: LBFGS, x: Tensor, loss: float, gradient: Tensor) -> None:
        step(self, x, loss, gradient)
        if next(steps) in {6, 14}:
            x.copy_(torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).round())

    monkeypatch.setattr(LBFGS, "step", wild)
    style_alone = Objective(content_weight=0)
    start = photo[None]
    found = list(optimize(start, [(style[None], 1.0)], start, network, style_alone, 15))
    totals = [step.losses["total"] for step in found]
    assert [step.number for step in found] == list(range(16))
    assert max(totals[1:]) <= totals[0] * 1.01
    # The pictures yielded are those of the losses.
    assert torch.equal(found[7].picture, found[totals[:7].index(min(totals[:7]))].picture)
    assert totals[10] < 0.9 * totals[7]
    assert totals[15] == min(totals[:15])
