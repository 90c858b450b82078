"""Proposed regions, each cut out and put through the network: R-CNN.

Shapes: B images, R regions of all images, C labels, D channels of the last map.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from dlkit.classify import backbones
from dlkit.detect.boxes import Suppression, decode
from dlkit.detect.models.detector import Found, channels_at
from dlkit.detect.models.regions import found_in, numbered, proposals

CONTEXT = 16 / 227  # of a crop, on each side, is what surrounds the region (appendix A)
CROPS_AT_ONCE = 128


class RCNN(nn.Module):
    """A classification network for every region (Girshick et al. 2014).

    Regions come from selective search, are warped to the size that the backbone was trained at,
    and told apart by a linear SVM for each label, on the means of the last map; a linear
    regression for each label, on that map, corrects the box. The network is trained with a softmax
    over labels and background, which is not used afterwards; then `dlkit.detect.svm` fits the rest.
    A score is how likely a region with the SVM's margin shows the label (Platt 1999).
    """

    svms: Tensor
    corrections: Tensor

    def __init__(self, num_labels: int, backbone: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbones.build(backbone)
        self.side = self.backbone.preprocessing.image_size
        [channels] = channels_at((32,), self.backbone)
        cells = (-(-self.side // 32)) ** 2
        self.softmax = nn.Linear(channels, 1 + num_labels)
        # Each with a bias, the last number. Fitted, not learned by gradients.
        self.register_buffer("svms", torch.zeros(num_labels, channels + 1))
        self.register_buffer("corrections", torch.zeros(num_labels, 4, channels * cells + 1))

    def forward(self, images: Tensor, regions: list[Tensor]) -> Tensor:
        """Logits (R, 1 + C), the background first, for the regions (N, 4) of each image."""
        crops = self.random_affine(images, numbered(regions))
        means: Tensor = self.backbone(crops)[-1].mean(dim=(2, 3))
        return self.softmax(means.to(self.softmax.weight.dtype)).float()

    def random_affine(self, images: Tensor, regions: Tensor) -> Tensor:
        """Crops (R, 3, side, side) of regions (R, 5), normalized; gray beyond the image."""
        normal = self.backbone.preprocessing.normalize(images)
        half = (regions[:, 3:] - regions[:, 1:3]) / 2
        centers = regions[:, 1:3] + half
        half = half / (1 - 2 * CONTEXT)
        wider = torch.cat([regions[:, :1], centers - half, centers + half], dim=1)
        crops = roi_align(normal, wider, self.side, sampling_ratio=1, aligned=True)
        return crops.contiguous(memory_format=torch.channels_last)

    def last_maps(self, images: Tensor, regions: Tensor) -> Iterator[Tensor]:
        """The last map (N, D, h, w) of the crops of regions (R, 5), some at a time."""
        dtype = self.softmax.weight.dtype
        for part in regions.split(CROPS_AT_ONCE):
            yield self.backbone(self.random_affine(images, part).to(dtype))[-1].float()

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[Found]:
        """The objects of each image that score at least `threshold`, best first."""
        regions = proposals(images)
        scores, boxes = [images.new_zeros(0, len(self.svms)).float()], []
        for maps in self.last_maps(images, numbered(regions)):
            scores.append(torch.sigmoid(linear(maps.mean(dim=(2, 3)), self.svms)))
            boxes.append(linear(maps.flatten(1), self.corrections))
        references = torch.cat(regions)[:, None]
        corrected = decode(torch.cat(boxes), references) if boxes else references
        return found_in(regions, torch.cat(scores), corrected, threshold, suppression, limit)

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        self.backbone.fuse()
        self.backbone.to(dtype)
        self.softmax.to(dtype)


def linear(x: Tensor, weights: Tensor) -> Tensor:
    """What linear functions (..., D + 1), the bias last, say of x (R, D): (R, ...)."""
    return torch.tensordot(x, weights[..., :-1], dims=([-1], [-1])) + weights[..., -1]
