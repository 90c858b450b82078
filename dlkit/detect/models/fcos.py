"""No anchors: each place says how far an object's sides are. torchvision's implementation."""

from typing import Any

from torchvision.models import detection
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dlkit.detect.models.torchvision_detector import PYRAMID_WIDTH, Pyramid, TorchvisionDetector


class FCOS(TorchvisionDetector):
    """Fully convolutional one-stage detection (Tian et al. 2019), with its center-ness.

    Five maps at strides 8 to 128, each for objects of its own range of sizes; on torchvision's
    ResNet-50 (`resnet50`) or on a network of `dlkit.classify`.
    """

    def __init__(self, num_labels: int, backbone: str | dict[str, Any]) -> None:
        if isinstance(backbone, str):
            network = detection.fcos_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=num_labels
            )
        else:
            pyramid = Pyramid(backbone, LastLevelP6P7(PYRAMID_WIDTH, PYRAMID_WIDTH))
            network = detection.FCOS(pyramid, num_labels)
        super().__init__(network, (network.head,))
