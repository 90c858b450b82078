"""A classifier as a bundled feature network."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from dlkit.classify.model import build as build_classifier
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.models.features import (
    load_features,
)
from dlkit.style_transfer.publish import publish
from tests.style_transfer.helpers import CPU, picture


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
    described = {"network": settings, "preprocessing": inputs, "loss": "cross-entropy"}
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
