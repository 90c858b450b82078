"""Region proposals, and a closer look at each: torchvision's implementation."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from dlkit.detect.boxes import MOST_CANDIDATES, Suppression, suppressed
from dlkit.detect.models.detector import IMAGENET, Found

RCNN_BACKBONES = {
    "mobilenet": detection.fasterrcnn_mobilenet_v3_large_fpn,
    "resnet50": detection.fasterrcnn_resnet50_fpn,
}


class FasterRCNN(nn.Module):
    """Two stages: regions that may hold an object, then a closer look at each (Ren et al. 2015).

    torchvision's region proposal network, RoI align and heads on a feature pyramid. The images
    come resized, so torchvision's own resizing is left out.
    """

    def __init__(self, num_labels: int, backbone: str = "mobilenet") -> None:
        super().__init__()
        make = RCNN_BACKBONES[backbone]
        # torchvision counts the background as label 0; 128 regions an image are learnt from, as
        # in Girshick 2015, section 2.3 (torchvision's 512 take four times as long on a CPU).
        self.network = make(
            weights=None,
            weights_backbone=None,
            num_classes=num_labels + 1,
            box_batch_size_per_image=128,
        )
        self.dtype = torch.float32

    def features(self, images: Tensor) -> tuple[ImageList, dict[str, Tensor]]:
        """The images as torchvision's list, and the maps of the feature pyramid."""
        mean, std = torch.tensor(IMAGENET, device=images.device).view(2, 3, 1, 1)
        x = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        return ImageList(x, sizes), self.network.backbone(x)

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The four losses; `targets` hold boxes (N, 4) and labels (N,) counted from 1."""
        listed, maps = self.features(images)
        proposals, first = self.network.rpn(listed, maps, targets)
        _, second = self.network.roi_heads(maps, proposals, listed.image_sizes, targets)
        return {**first, **second}

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[Found]:
        """The objects of each image that score at least `threshold`, best first."""
        heads = self.network.roi_heads
        # All that score well; of those that overlap, ours decides.
        heads.score_thresh, heads.nms_thresh = threshold, 1.0
        heads.detections_per_img = MOST_CANDIDATES
        mixed = self.dtype != torch.float32
        # Without a dtype of its own it keeps to the autocast around it, as in training.
        with torch.autocast(images.device.type, self.dtype) if mixed else nullcontext():
            listed, maps = self.features(images)
            proposals, _ = self.network.rpn(listed, maps)
            results, _ = heads(maps, proposals, listed.image_sizes)
        return [
            Found(
                *suppressed(
                    r["boxes"].float(),
                    r["scores"].float(),
                    r["labels"] - 1,
                    threshold,
                    suppression,
                    limit,
                )
            )
            for r in results
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: products in `dtype`; torchvision's own operators keep fp32."""
        self.dtype = dtype
