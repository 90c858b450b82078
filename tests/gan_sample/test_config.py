"""Options of the architectures and their defaults."""

from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store.renamed import upgrade_settings
from dlkit.gan_sample.config import GanTrainConfig, by_arch


@pytest.mark.parametrize(
    ("arch", "option", "message"),
    [
        ("dcgan", {"beta": 2.0}, "--beta is for vae, not dcgan"),
        ("gan", {"width": 8}, "--width is for .*, not gan"),
        ("wgan", {"loss": "hinge"}, "--loss is for .*, not wgan"),
        ("wgan", {"beta1": 0.9}, "--beta1 is for adam"),
        ("cgan", {"hidden": 8}, "--hidden has no effect in convolutional"),
        ("vae", {"network": "dense", "kernel": 3}, "--kernel has no effect in a dense network"),
        ("vae", {"network": "residual"}, "--network residual is for cgan"),
        ("autoencoder", {"activity": 0.1}, "--activity has no effect without --sparsity"),
        ("autoencoder", {"eval_samples": 99}, "--eval-samples is for"),
        (
            "cyclegan",
            {"loss": "hinge"},
            "choose from least-squares, non-saturating",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    arch: Any, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(DlkitError, match=message):
        by_arch(GanTrainConfig(data=Path("x"), arch=arch, **option))


def test_what_is_left_open_is_the_papers() -> None:
    wgan = by_arch(GanTrainConfig(data=Path("x"), arch="wgan"))
    assert (wgan.optimizer, wgan.lr, wgan.d_steps, wgan.clip_weights) == ("rmsprop", 5e-5, 5, 0.01)
    penalized = by_arch(GanTrainConfig(data=Path("x"), arch="wgan-gp"))
    assert (penalized.lr, penalized.beta1, penalized.d_steps) == (1e-4, 0, 5)
    assert penalized.gradient_penalty == 10
    dcgan = by_arch(GanTrainConfig(data=Path("x"), arch="dcgan", lr=1e-3))
    assert (dcgan.lr, dcgan.beta1, dcgan.loss) == (1e-3, 0.5, "non-saturating")


def test_settings_of_version_0_1_are_renamed() -> None:
    assert upgrade_settings({"score": "kid"}, "gan-sample") == {"best_metric": "kid"}
