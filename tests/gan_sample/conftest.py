"""Data and models for the tests of gan-sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.gan_sample.model import build
from tests.gan_sample.helpers import LABELS, SETTINGS, SIDE, draw


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than the training."""
    monkeypatch.setattr("dlkit.core.train.run.curves", lambda *_: None)


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 30 bars of each direction, which are the classes."""
    root = tmp_path_factory.mktemp("bars")
    for label, name in enumerate(("across", "upright")):
        for seed in range(30):
            draw(root / "train" / name / f"{seed:02}.png", label, 100 * label + seed)
    return root


@pytest.fixture(scope="session")
def domains(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    for source, name in (("across", "trainA"), ("upright", "trainB")):
        (root / name).symlink_to(bars / "train" / source)
    return root


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind, untrained, with contrast and without discriminators."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for arch, settings in SETTINGS.items():
        torch.manual_seed(1)
        settings = {"image_size": SIDE, **settings}
        model = build(arch, **settings)
        for name, layer in model.named_modules():
            if name.startswith(("generator", "decoder")) and hasattr(layer, "weight"):
                nn.init.normal_(layer.weight, std=0.4)
        if arch == "autoencoder":
            model.fit(torch.randn(50, 5) * torch.arange(5.0) + 1)  # the first code is constant
        weights = {k: v for k, v in model.state_dict().items() if "discriminator" not in k}
        paths[arch] = folder / f"{arch}.safetensors"
        header = Header("gan-sample", arch, settings, LABELS.get(arch, []))
        checkpoint.save(paths[arch], weights, header)
    return paths


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of several sizes, one of them gray, and two that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = rng.integers(16, 40, 2)
        smooth = Image.fromarray(rng.integers(0, 255, (3, 3, 3), dtype=np.uint8))
        picture = smooth.resize((int(width), int(height)), Image.Resampling.BICUBIC)
        (picture.convert("L") if number == 5 else picture).save(folder / f"{number:02}.png")
    return folder
