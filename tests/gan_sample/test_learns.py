"""Trainings that must reach a score."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.core.store import checkpoint
from dlkit.gan_sample.data import (
    Shape,
    from_uint8,
)
from dlkit.gan_sample.model import restore
from dlkit.gan_sample.train import train
from tests.gan_sample.helpers import SIDE, log_of, settings

pytestmark = pytest.mark.slow


def test_a_gan_learns_where_the_bar_is(bars: Path, tmp_path: Path) -> None:
    """The mean of its pictures comes close to the mean of those it saw."""
    out = tmp_path / "run"
    best = train(
        settings(
            bars, out, "dcgan", width=8, epochs=1, steps_per_epoch=120, lr=2e-3, loss="hinge",
            augment="none", spectral_norm=False,
        )
    )  # fmt: skip
    header, weights = checkpoint.load(best)
    made = restore("run", header, weights).sample(torch.randn(64, 5)).mean(dim=0)
    paths = sorted(bars.rglob("*.png"))
    real = from_uint8(torch.stack([Shape(SIDE, 1).read(path)[0] for path in paths])).mean(dim=0)
    start = np.square(real.numpy()).mean() ** 0.5  # of gray, which it makes at first
    apart = float((made - real).detach().square().mean().sqrt())
    assert apart < 0.5 * start


def test_a_vae_learns_to_reconstruct(bars: Path, tmp_path: Path) -> None:
    changed = {"epochs": 3, "steps_per_epoch": 60, "hidden": 64, "lr": 3e-3}
    train(settings(bars, tmp_path / "vae", "vae", **changed))
    records = log_of(tmp_path / "vae")
    assert records[-1]["val_reconstruction"] < 0.9 * records[0]["val_reconstruction"]
    assert records[-1]["val_loss"] == pytest.approx(
        records[-1]["val_reconstruction"] + records[-1]["val_kl"]
    )
    train(settings(bars, tmp_path / "tight", "vae", beta=50.0, **changed))
    # So strong a prior leaves the codes almost nothing to say.
    assert log_of(tmp_path / "tight")[-1]["val_kl"] / 50 < 0.2 * records[-1]["val_kl"]
    assert (tmp_path / "vae" / "samples" / "epoch-0003-reconstructions.png").exists()


def test_a_sparse_autoencoders_codes_are_sparse(bars: Path, tmp_path: Path) -> None:
    changed = {"network": "dense", "width": None, "hidden": 64, "steps_per_epoch": 80, "lr": 3e-3}
    means = []
    for weight in (1e-6, 100.0):
        out = tmp_path / str(weight)
        options = {"sparsity": weight, "noise": 0.0, "masking": 0.0, **changed}
        best = train(settings(bars, out, "autoencoder", **options))
        header, weights = checkpoint.load(best)
        model = restore("run", header, weights)
        assert torch.equal(model.code_mean, weights["code_mean"])
        means.append(float(model.code_mean.mean()))
    assert means[1] == pytest.approx(0.05, abs=0.03)
    assert means[0] > 2 * means[1]
