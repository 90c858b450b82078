"""Networks and files for the tests of style-transfer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.style_transfer import infer
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.features import (
    FeatureNetwork,
    load_features,
)
from tests.style_transfer.helpers import CPU, TINY, smooth


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    """A small untrained feature network."""
    return load_features("random:0", CPU)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, two styles (red noise, stripes), and a file that is no image."""
    examples = tmp_path_factory.mktemp("style")
    rng = np.random.default_rng(0)
    for name in ("photos", "styles"):
        (examples / name).mkdir()
    for number in range(4):
        small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 48)).save(examples / "photos" / f"{number}.png")
    red = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) * np.array([1, 0, 0], np.uint8)
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[::4, :, 2] = 255
    for name, pixels in (("red", red), ("stripes", stripes)):
        Image.fromarray(pixels).save(examples / "styles" / f"{name}.png")
    (examples / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return examples


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs, two styles, a painter of both styles and one of any."""
    monkeypatch.chdir(tmp_path)
    for name, height, width, seed in (
        ("photos/a.png", 64, 96, 1),
        ("photos/b.jpg", 80, 64, 2),
        ("styles/wave.png", 72, 72, 3),
        ("styles/night.png", 64, 80, 4),
    ):
        images.save(infer.to_pillow(smooth(height, width, seed)), Path(name))
    torch.manual_seed(0)
    for arch, settings, labels in (
        ("fast", {"styles": 2, "width": 4}, ["wave", "night"]),
        ("adain", {"features": TINY}, []),
    ):
        network = build(arch, **settings)
        header = Header("style-transfer", arch, settings, labels)
        checkpoint.save(Path(f"{arch}.safetensors"), network.state_dict(), header)
    return tmp_path
