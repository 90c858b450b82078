"""Anchors on a feature pyramid, learnt with the focal loss: torchvision's implementation."""

from typing import Any

from torchvision.models import detection
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dlkit.detect.models.torchvision_detector import PYRAMID_WIDTH, Pyramid, TorchvisionDetector


class RetinaNet(TorchvisionDetector):
    """One stage that learns from all boxes, from easy ones less (Lin et al. 2017).

    Nine anchors a place on five maps at strides 8 to 128; on torchvision's ResNet-50 (`resnet50`)
    or on a network of `dlkit.classify`.
    """

    def __init__(self, num_labels: int, backbone: str | dict[str, Any]) -> None:
        if isinstance(backbone, str):
            network = detection.retinanet_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=num_labels
            )
        else:
            pyramid = Pyramid(backbone, LastLevelP6P7(PYRAMID_WIDTH, PYRAMID_WIDTH))
            network = detection.RetinaNet(pyramid, num_labels)
        super().__init__(network, (network.head,))
