"""torchvision's segmentation networks: DeepLabv3, LR-ASPP and Mask R-CNN."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from dlkit.core.errors import DlkitError
from dlkit.segment.architecture import InstancePrediction
from dlkit.segment.models.segmenter import Segmenter

DEEPLAB = {
    "mobilenet": segmentation.deeplabv3_mobilenet_v3_large,
    "resnet50": segmentation.deeplabv3_resnet50,
    "resnet101": segmentation.deeplabv3_resnet101,
}
MASK_RCNN = ("mobilenet", "resnet50")


class TorchvisionSegmenter(Segmenter):
    """A semantic segmentation network of torchvision, without its auxiliary classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def logits(self, images: Tensor) -> Tensor:
        if self.training and len(images) == 1:
            # The pooled branch then has one value per channel, without variance for a batch norm.
            raise DlkitError("--batch-size 1: deeplabv3 and lraspp need at least --batch-size 2")
        out: Tensor = self.network(images)["out"]
        return out


def deeplabv3(num_labels: int, backbone: str = "mobilenet") -> Segmenter:
    """Atrous spatial pyramid pooling (Chen et al. 2017)."""
    network = DEEPLAB[backbone](weights=None, weights_backbone=None, num_classes=num_labels)
    return TorchvisionSegmenter(network)


def lraspp(num_labels: int) -> Segmenter:
    """The lite reduced ASPP head of MobileNetV3 (Howard et al. 2019, section 6.4)."""
    return TorchvisionSegmenter(
        segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=num_labels
        )
    )


class MaskRCNN(nn.Module):
    """Region proposals with a label, box and mask for each (He et al. 2017).

    torchvision's network with torchvision's interface: lists of images (3, H, W) with values from
    0 to 1, labels from 1. Its own resizing is off, since images are already resized.
    """

    def __init__(self, num_labels: int, backbone: str = "resnet50") -> None:
        super().__init__()
        # 128 regions per image in training, as in Girshick 2015, section 2.3; torchvision's 512
        # take four times as long on a CPU.
        options = {"_skip_resize": True, "box_batch_size_per_image": 128}
        if backbone == "resnet50":
            self.network = detection.maskrcnn_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=num_labels + 1, **options
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
                maps, num_labels + 1, rpn_anchor_generator=anchors, **options
            )
        self.dtype = torch.float32

    def normalize(self, images: Tensor) -> Tensor:
        """Images with values from 0 to 255 as values from 0 to 1; the network does the rest."""
        return images / 255

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """The losses by name in training, else boxes, labels, scores and masks of each image.

        `targets` hold boxes (N, 4), labels (N,) from 1 and uint8 masks (N, H, W).
        """
        return self.network(images, targets)

    @torch.inference_mode()
    def predict(
        self, images: list[Tensor], threshold: float, limit: int = 100
    ) -> list[InstancePrediction]:
        """The objects in uint8 images (3, H, W) with a score of at least `threshold`."""
        heads = self.network.roi_heads
        heads.score_thresh, heads.detections_per_img = threshold, limit
        device = next(self.parameters()).device
        values = [self.normalize(image.to(device)) for image in images]
        mixed = self.dtype != torch.float32
        # In fp32, an autocast context of the caller still applies, as in training.
        with torch.autocast(device.type, self.dtype) if mixed else nullcontext():
            outputs = self.network(values)
        return [
            InstancePrediction(
                o["masks"][:, 0] >= 0.5, o["labels"] - 1, o["scores"].float(), o["boxes"].float()
            )
            for o in outputs
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """Prepare for inference: autocast to `dtype`; torchvision's own operators keep fp32."""
        self.eval()
        self.dtype = dtype
