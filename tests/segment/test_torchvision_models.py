"""torchvision's networks give torchvision's outputs."""

import pytest
import torch
from torchvision.models import segmentation

from dlkit.segment import torchvision_zoo
from dlkit.segment.model import build
from tests.segment.helpers import random_norms


def test_torchvisions_weights_give_torchvisions_logits() -> None:
    torch.manual_seed(0)
    theirs = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    random_norms(theirs)
    network = build("deeplabv3", 21, backbone="mobilenet").eval()
    network.load_state_dict(torchvision_zoo.weights_of(theirs.state_dict(), frozen_eps=False))
    images = torch.randn(1, 3, 45, 60)
    with torch.no_grad():
        assert torch.allclose(network(images), theirs(images)["out"], atol=1e-5)


@pytest.mark.slow
def test_instances_of_mask_rcnn() -> None:
    torch.manual_seed(0)
    network = build("maskrcnn", 2, backbone="mobilenet")
    images = [torch.rand(3, 64, 80), torch.rand(3, 48, 64)]
    masks = torch.zeros(1, 48, 64, dtype=torch.uint8)
    masks[:, 10:30, 20:50] = 1
    target = {
        "boxes": torch.tensor([[20.0, 10, 50, 30]]),
        "labels": torch.tensor([2]),
        "masks": masks,
    }
    # Fewer regions than the usual 2000: quick.
    network.network.rpn._post_nms_top_n = {"training": 20, "testing": 20}
    losses = network.train()(images[1:], [target])
    assert {"loss_classifier", "loss_box_reg", "loss_mask"} <= losses.keys()
    assert all(loss.isfinite() for loss in losses.values())
    network.prepare(torch.float32)
    assert network.normalize(torch.tensor(255.0)) == 1
    for image, found in zip(
        images, network.predict([(255 * i).byte() for i in images], 0.1, limit=4), strict=True
    ):
        assert len(found.labels) == 4
        assert found.masks.shape == (4, *image.shape[1:])
        assert found.masks.dtype == torch.bool
        assert set(found.labels.tolist()) <= {0, 1}
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert found.scores.min() >= 0.1
    assert not len(network.predict([torch.zeros(3, 64, 64, dtype=torch.uint8)], 1.0)[0].labels)
