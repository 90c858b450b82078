"""RetinaNet: torchvision's implementation."""

from torchvision.models import detection

from dlkit.classify import backbones
from dlkit.detect.models.torchvision_detector import TorchvisionDetector, build_one_stage


class RetinaNet(TorchvisionDetector):
    """A one-stage detector on a feature pyramid with the focal loss (Lin et al. 2017).

    Nine anchors per cell on five maps at strides 8 to 128; on torchvision's ResNet-50 (`resnet50`)
    or on a backbone of `dlkit.classify`.
    """

    def __init__(self, num_labels: int, backbone: str | backbones.BackboneSettings) -> None:
        make = detection.retinanet_resnet50_fpn
        network = build_one_stage(detection.RetinaNet, make, num_labels, backbone)
        super().__init__(network, (network.head,))
