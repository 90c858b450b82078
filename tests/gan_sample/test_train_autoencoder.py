"""Autoencoders: corruption of inputs, and the encoder as the start of a classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.classify import infer as classifying
from dlkit.core.store import checkpoint
from dlkit.gan_sample import infer
from dlkit.gan_sample.data import (
    from_uint8,
)
from dlkit.gan_sample.train_autoencoder import corrupt
from tests.conftest import run


def test_a_denoising_autoencoder_sees_corrupted_pictures() -> None:
    torch.manual_seed(0)
    images = torch.full((40, 3, 10, 10), 0.5)
    assert torch.equal(corrupt(images, 0, 0), images)
    noisy = corrupt(images, 0.3, 0) - images
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.05)
    masked = corrupt(images, 0, 0.25)
    assert float((masked[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(masked[:, 0], masked[:, 2])  # whole pixels


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten bright and ten dark pictures of 28 pixels, in a folder each."""
    folder = tmp_path_factory.mktemp("labeled")
    rng = np.random.default_rng(2)
    for label, level in (("bright", 120), ("dark", 0)):
        (folder / label).mkdir()
        for number in range(10):
            pixels = rng.integers(level, level + 100, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def train(network: str) -> Path:
        out = tmp_path_factory.mktemp(network) / "run"
        size = ("--hidden", 24) if network == "dense" else ("--width", 4)
        done = run(
            "gan-sample", "train", labeled, "--arch", "autoencoder", "--network", network, *size,
            "--latent", 5, "--epochs", 1, "--steps-per-epoch", 3, "--batch-size", 8, "--out", out,
            "--device", "cpu", "--precision", "fp32",
        )  # fmt: skip
        assert done.code == 0, done.err
        return Path(done.out.strip())

    return train


@pytest.mark.slow
@pytest.mark.parametrize(("network", "arch"), [("convolutional", "encoder"), ("dense", "mlp")])
def test_an_encoder_starts_a_classifier(
    labeled: Path, trained: Callable[[str], Path], network: str, arch: str, tmp_path: Path
) -> None:
    model = trained(network)
    options = (
        "--epochs",
        1,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        0,
    )
    start = ("--init-from", model, "--out", tmp_path / "run")
    done = run("classify", "train", labeled, "--arch", arch, *start, *options, "--lr", 0)
    assert done.code == 0, done.err
    assert "tensors start from" in done.err
    classifier = classifying.load(done.out.strip(), "cpu", "fp32")
    autoencoder: Any = infer.load(str(model), precision="fp32").network
    pixels = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    with torch.inference_mode():
        expected = autoencoder.encoder.features(from_uint8(pixels))
        inputs = classifier.preprocessing.normalize(pixels)
        if network == "dense":
            found = classifier.network.head[:-1](inputs)  # type: ignore[index,operator]
        else:
            maps = classifier.network.features(inputs)  # type: ignore[operator]
            found = maps.permute(0, 2, 3, 1).flatten(1)
    # Training moved the statistics of batch norm, and nothing else, at a rate of 0.
    if network == "dense":
        torch.testing.assert_close(found, expected)
    header, weights = checkpoint.load(Path(done.out.strip()), "classify")
    theirs = autoencoder.encoder.features.state_dict()
    ours = {k.partition(".")[2]: v for k, v in weights.items() if k.startswith("features.")}
    if network == "convolutional":
        assert ours.keys() == theirs.keys()
        assert found.shape == expected.shape
        for name, tensor in theirs.items():
            if "running" not in name and "num" not in name:
                torch.testing.assert_close(ours[name], tensor)
    assert header.config["init_from"] == str(model)
    wrong = run("classify", "train", labeled, "--arch", "resnet9", *start, *options)
    assert wrong.code == 2
    assert f"its encoder needs --arch {arch}" in wrong.err
