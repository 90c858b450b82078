"""R-CNN: each proposed region is cropped and classified on its own.

Shapes: B images, R regions of all images, C labels, D channels of the last map.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from dlkit.classify import backbones
from dlkit.detect.boxes import decode
from dlkit.detect.models.detector import BackboneDetector, ScoredBoxes, channels_at
from dlkit.detect.models.regions import propose_regions, select_per_image, to_rois
from dlkit.detect.options import Suppression

CONTEXT = 16 / 227  # margin around the region on each side, as a fraction of the crop (appendix A)
CROPS_AT_ONCE = 128


class RCNN(BackboneDetector):
    """A classification network for every region (Girshick et al. 2014).

    Regions come from selective search, are warped to the backbone's training size, and classified
    by a linear SVM per label on the means of the last map; a linear regression per label on that
    map corrects the box. The network is trained with a softmax over labels and background, which
    is not used at inference; `dlkit.detect.svm` fits SVMs and corrections. A score is the
    probability of the label given the SVM's margin (Platt 1999).
    """

    svms: Tensor
    corrections: Tensor

    def __init__(self, num_labels: int, backbone: backbones.BackboneSettings) -> None:
        super().__init__(backbone)
        self.side = self.backbone.preprocessing.image_size
        [channels] = channels_at((32,), self.backbone)
        cells = (-(-self.side // 32)) ** 2
        self.softmax = nn.Linear(channels, 1 + num_labels)
        # The last number of each is a bias. Fitted, not learned by gradients.
        self.register_buffer("svms", torch.zeros(num_labels, channels + 1))
        self.register_buffer("corrections", torch.zeros(num_labels, 4, channels * cells + 1))

    def forward(self, images: Tensor, regions: list[Tensor]) -> Tensor:
        """Logits (R, 1 + C), the background first, for the regions (N, 4) of each image."""
        crops = self.warp(images, to_rois(regions))
        means: Tensor = self.backbone(crops)[-1].mean(dim=(2, 3))
        logits: Tensor = self.softmax(means.to(self.softmax.weight.dtype)).float()
        return logits

    def warp(self, images: Tensor, regions: Tensor) -> Tensor:
        """Crops (R, 3, side, side) of regions (R, 5), normalized; gray beyond the image."""
        normal = self.backbone.preprocessing.normalize(images)
        half = (regions[:, 3:] - regions[:, 1:3]) / 2
        centers = regions[:, 1:3] + half
        half = half / (1 - 2 * CONTEXT)
        wider = torch.cat([regions[:, :1], centers - half, centers + half], dim=1)
        crops: Tensor = roi_align(normal, wider, self.side, sampling_ratio=1, aligned=True)
        return crops.contiguous(memory_format=torch.channels_last)

    def last_maps(self, images: Tensor, regions: Tensor) -> Iterator[Tensor]:
        """Yield the last map (N, D, h, w) of the crops of regions (R, 5) in chunks."""
        dtype = self.softmax.weight.dtype
        for part in torch.split(regions, CROPS_AT_ONCE):
            yield self.backbone(self.warp(images, part).to(dtype))[-1].float()

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        regions = propose_regions(images)
        scores, boxes = [images.new_zeros(0, len(self.svms)).float()], []
        for maps in self.last_maps(images, to_rois(regions)):
            scores.append(torch.sigmoid(linear(maps.mean(dim=(2, 3)), self.svms)))
            boxes.append(linear(maps.flatten(1), self.corrections))
        references = torch.cat(regions)[:, None]
        corrected = decode(torch.cat(boxes), references) if boxes else references
        return select_per_image(
            regions, torch.cat(scores), corrected, threshold, suppression, limit
        )

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        self.backbone.fuse()
        self.backbone.to(dtype)
        self.softmax.to(dtype)


def linear(x: Tensor, weights: Tensor) -> Tensor:
    """Apply linear functions (..., D + 1), bias last, to x (R, D): (R, ...)."""
    products: Tensor = torch.tensordot(x, weights[..., :-1], dims=([-1], [-1]))
    return products + weights[..., -1]
