"""torchvision's networks: DeepLabv3, LR-ASPP and Mask R-CNN."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter

DEEPLAB = {
    "mobilenet": segmentation.deeplabv3_mobilenet_v3_large,
    "resnet50": segmentation.deeplabv3_resnet50,
    "resnet101": segmentation.deeplabv3_resnet101,
}


class Torchvisions(Segmenter):
    """A network of torchvision's as it is, without its auxiliary classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def logits(self, images: Tensor) -> Tensor:
        if self.training and len(images) == 1:
            # Its pooled branch has one value a channel then, which has no variance to norm by.
            raise DlkitError("deeplabv3 and lraspp learn from 2 images or more: --batch-size 2")
        out: Tensor = self.network(images)["out"]
        return out


def deeplabv3(classes: int, backbone: str = "mobilenet") -> Segmenter:
    """Atrous spatial pyramid pooling (Chen et al. 2017)."""
    make = DEEPLAB[known(backbone, DEEPLAB)]
    return Torchvisions(make(weights=None, weights_backbone=None, num_classes=classes))


def lraspp(classes: int) -> Segmenter:
    """The light head of MobileNetV3 (Howard et al. 2019, section 6.4)."""
    return Torchvisions(
        segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes
        )
    )


class Instances(NamedTuple):
    """The objects of one image: masks (N, H, W) bool, labels (N,), scores (N,) falling, boxes.

    Boxes (N, 4) are x1, y1, x2, y2 in pixels.
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor
    boxes: Tensor


class MaskRCNN(nn.Module):
    """Regions that may hold an object; of each its label, box and mask (He et al. 2017).

    torchvision's network, called as torchvision's: lists of images (3, H, W) with values from 0 to
    1, labels counted from 1. The images come resized, so its own resizing is left out.
    """

    instances = True

    def __init__(self, classes: int, backbone: str = "resnet50") -> None:
        super().__init__()
        # 128 regions an image are learned from, as in Girshick 2015, section 2.3 (torchvision's 512
        # take four times as long on a CPU).
        chosen = {"_skip_resize": True, "box_batch_size_per_image": 128}
        if known(backbone, ("mobilenet", "resnet50")) == "resnet50":
            self.network = detection.maskrcnn_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=classes + 1, **chosen
            )
        else:
            maps = mobilenet_backbone(
                backbone_name="mobilenet_v3_large",
                weights=None,
                fpn=True,
                norm_layer=nn.BatchNorm2d,
                trainable_layers=6,
            )
            anchors = detection.rpn.AnchorGenerator(
                ((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3
            )
            self.network = detection.MaskRCNN(
                maps, classes + 1, rpn_anchor_generator=anchors, **chosen
            )
        self.dtype = torch.float32

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """In training the losses by name, else of each image boxes, labels, scores and masks.

        `targets` hold boxes (N, 4), labels (N,) counted from 1 and uint8 masks (N, H, W).
        """
        return self.network(images, targets)

    @torch.inference_mode()
    def predict(self, images: list[Tensor], threshold: float, limit: int = 100) -> list[Instances]:
        """The objects of uint8 images (3, H, W) that score at least `threshold`, best first."""
        heads = self.network.roi_heads
        heads.score_thresh, heads.detections_per_img = threshold, limit
        device = next(self.parameters()).device
        values = [image.to(device) / 255 for image in images]
        mixed = self.dtype != torch.float32
        # Without a dtype of its own it keeps to the autocast around it, as in training.
        with torch.autocast(device.type, self.dtype) if mixed else nullcontext():
            found = self.network(values)
        return [
            Instances(
                f["masks"][:, 0] >= 0.5, f["labels"] - 1, f["scores"].float(), f["boxes"].float()
            )
            for f in found
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: products in `dtype`; torchvision's own operators keep fp32."""
        self.eval()
        self.dtype = dtype


def known(backbone: str, names: Any) -> str:
    """The name of the backbone; a DlkitError unless it is one of these."""
    if backbone not in names:
        raise DlkitError(f"no backbone {backbone!r} here: there is {', '.join(names)}")
    return backbone
