"""Fast R-CNN: proposed regions are pooled from one map of the image.

Shapes: B images, R regions of all images, C labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_pool

from dlkit.classify import backbones
from dlkit.detect.boxes import decode
from dlkit.detect.models.detector import BackboneDetector, ScoredBoxes, channels_at, maps_at
from dlkit.detect.models.regions import propose_regions, select_per_image, to_rois
from dlkit.detect.options import Suppression

STRIDE = 16  # of the map, in pixels
MAP_CHANNELS, CELLS, WIDTH = 128, 7, 256
OFFSET_SCALE = (0.1, 0.1, 0.2, 0.2)  # about the standard deviation of each offset


class RegionOutput(NamedTuple):
    """Logits (R, 1 + C) of the regions, background first, and offsets (R, C, 4)."""

    labels: Tensor
    offsets: Tensor


class FastRCNN(BackboneDetector):
    """One pass over the image, then a short one for each region (Girshick 2015).

    Regions come from selective search. RoI pooling scales each region of the map to 7 x 7 cells;
    two fully connected layers follow, then a softmax over labels and background, and a box for
    each label. Differences from the paper: the map joins the backbone's maps at strides 16 and 32,
    and the fully connected layers and the backbone are narrower.
    """

    def __init__(self, num_labels: int, backbone: backbones.BackboneSettings) -> None:
        super().__init__(backbone)
        self.join = nn.Conv2d(sum(channels_at((STRIDE, 32), self.backbone)), MAP_CHANNELS, 1)
        self.fc6 = nn.Linear(MAP_CHANNELS * CELLS**2, WIDTH)
        self.fc7 = nn.Linear(WIDTH, WIDTH)
        self.labels = nn.Linear(WIDTH, 1 + num_labels)
        self.offsets = nn.Linear(WIDTH, 4 * num_labels)
        for layer, deviation in ((self.labels, 0.01), (self.offsets, 0.001)):  # section 2.3
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, regions: list[Tensor]) -> RegionOutput:
        """Classify the regions (N, 4) of each of uint8 images (B, 3, H, W)."""
        dtype = self.fc6.weight.dtype
        fine, coarse = maps_at((STRIDE, 32), self.backbone, images)
        coarse = F.interpolate(coarse, size=fine.shape[-2:])
        shared = F.relu(self.join(torch.cat([fine, coarse], dim=1)))
        # torchvision's pooling has no bf16 on CPUs.
        pooled = roi_pool(shared.float(), to_rois(regions), CELLS, 1 / STRIDE)
        x = F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1).to(dtype)))))
        return RegionOutput(self.labels(x).float(), self.offsets(x).float().unflatten(1, (-1, 4)))

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        regions = propose_regions(images)
        outputs = self(images, regions)
        scores = outputs.labels.softmax(dim=1)[:, 1:]
        scaled = outputs.offsets * outputs.offsets.new_tensor(OFFSET_SCALE)
        boxes = decode(scaled, torch.cat(regions)[:, None])
        return select_per_image(regions, scores, boxes, threshold, suppression, limit)
