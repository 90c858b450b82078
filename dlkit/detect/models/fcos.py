"""FCOS, an anchor-free detector: torchvision's implementation."""

from torch import nn
from torchvision.models import detection

from dlkit.classify import backbones
from dlkit.detect.models.torchvision_detector import TorchvisionDetector, build_one_stage


class FCOS(TorchvisionDetector):
    """Fully convolutional one-stage detection (Tian et al. 2019), with its center-ness.

    Five maps at strides 8 to 128, each for objects of its own range of sizes; on torchvision's
    ResNet-50 (`resnet50`) or on a backbone of `dlkit.classify`. The initial distances of sides are
    about three strides: torchvision starts at 0, where the last ReLU may die in the first steps.
    """

    def __init__(self, num_labels: int, backbone: str | backbones.BackboneSettings) -> None:
        make = detection.fcos_resnet50_fpn
        network = build_one_stage(detection.FCOS, make, num_labels, backbone)
        nn.init.constant_(network.head.regression_head.bbox_reg.bias, 3.0)
        super().__init__(network, (network.head,))
