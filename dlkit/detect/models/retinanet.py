"""Anchors on a feature pyramid, learned with the focal loss: torchvision's implementation."""

from typing import Any

from torchvision.models import detection

from dlkit.detect.models.torchvision_detector import TorchvisionDetector, one_stage


class RetinaNet(TorchvisionDetector):
    """One stage that learns from all boxes, from easy ones less (Lin et al. 2017).

    Nine anchors a place on five maps at strides 8 to 128; on torchvision's ResNet-50 (`resnet50`)
    or on a network of `dlkit.classify`.
    """

    def __init__(self, num_labels: int, backbone: str | dict[str, Any]) -> None:
        make = detection.retinanet_resnet50_fpn
        network = one_stage(detection.RetinaNet, make, num_labels, backbone)
        super().__init__(network, (network.head,))
