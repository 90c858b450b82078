"""torchvision's weights as checkpoints."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn
from torchvision.models import segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.segment import torchvision_zoo
from dlkit.segment.model import build
from dlkit.segment.models.torchvision_models import MaskRCNN


def test_frozen_norms_without_epsilon_give_the_same_maps() -> None:
    theirs = resnet_fpn_backbone(backbone_name="resnet50", weights=None).eval()
    for module in theirs.modules():
        if hasattr(module, "running_var"):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            module.eps = 0.0
    network = MaskRCNN(90).eval()
    state = {f"backbone.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = torchvision_zoo.weights_of(state, frozen_eps=True)
    missing = network.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys
    assert not [name for name in missing.missing_keys if name.startswith("network.backbone")]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(images), network.network.backbone(images)
    for level, maps in expected.items():
        assert (found[level] - maps).abs().max() < 1e-4 * maps.abs().max()


def test_a_published_model_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path))
    theirs = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    file = tmp_path / "fetched.pth"
    torch.save(theirs.state_dict(), file)
    with mock.patch.object(torchvision_zoo, "download", return_value=file):
        path = torchvision_zoo.fetch("lraspp-voc")
    assert torchvision_zoo.fetch("lraspp-voc") == path
    assert not file.exists()
    header, weights = checkpoint.load(path, "segment")
    assert (len(header.labels), header.labels[0], header.labels[15]) == (21, "background", "person")
    build(header.arch, len(header.labels), **header.settings).load_state_dict(weights)
    file.write_bytes(b"no weights")
    with (
        mock.patch.object(torchvision_zoo, "download", return_value=file),
        pytest.raises(DlkitError, match="not a file of weights"),
    ):
        torchvision_zoo.fetch("deeplabv3-voc")
