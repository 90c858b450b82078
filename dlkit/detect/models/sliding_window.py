"""A classifier of windows that slide over the image.

Shapes: B images, Y x X windows, C labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.detect.models.detector import BackboneDetector, ScoredBoxes, channels_at, select_boxes
from dlkit.detect.options import Suppression

STRIDE = 16  # of the windows and of the map, in pixels of the image as scaled for a window
WINDOW = 112  # side that every window is scaled to
CROP = 224  # side of what the classifier sees: the window and what surrounds it
CROPS_AT_ONCE = 64
SIDES = (1.0, 0.7, 0.5, 0.35)  # of windows, as shares of the image's longest side
SHAPES = (1.0, 2.0, 0.5)  # width / height


class SlidingWindow(BackboneDetector):
    """A classifier of windows of several sizes, with a label for background.

    The classifier is a linear layer on the center of the backbone's map at stride 16 of a crop
    around the window. It sees no pixel beyond the crop, so that one pass over the image computes
    all windows of a size, one per cell of the map (Sermanet et al. 2014): exactly the same numbers,
    with shared computation. Boxes are the windows themselves.
    """

    def __init__(self, num_labels: int, backbone: backbones.BackboneSettings) -> None:
        super().__init__(backbone)
        [channels] = channels_at((STRIDE,), self.backbone)
        del self.backbone.stages[self.backbone.strides.index(STRIDE) + 1 :]
        self.labels = nn.Linear(channels, 1 + num_labels)
        self.by_cropping = False  # compute each window on its own, as before Sermanet et al.

    def forward(self, images: Tensor, width: float, height: float) -> Tensor:
        """Logits (B, Y, X, 1 + C), the background first, of all windows of a size in pixels."""
        scaled = self.scaled(images, width, height)
        middle = CROP // 2 // STRIDE
        if not self.by_cropping:
            places = self.backbone(scaled)[-1].permute(0, 2, 3, 1)
            rows, columns = (side // STRIDE - 2 * middle + 1 for side in scaled.shape[-2:])
            places = places[:, middle : middle + rows, middle : middle + columns]
            at_once: Tensor = self.labels(places).float()
            return at_once
        crops = scaled.unfold(2, CROP, STRIDE).unfold(3, CROP, STRIDE).permute(0, 2, 3, 1, 4, 5)
        logits = [
            self.labels(self.backbone(part)[-1][:, :, middle, middle]).float()
            for part in torch.split(crops.flatten(0, 2), CROPS_AT_ONCE)
        ]
        return torch.cat(logits).view(*crops.shape[:3], -1)

    def scaled(self, images: Tensor, width: float, height: float) -> Tensor:
        """Normalize and scale images so that windows of that size have the side WINDOW.

        A gray border is added for the crops of windows at the edge.
        """
        normal = self.backbone.preprocessing.normalize(images)
        lengths = [
            max(1, round(side * WINDOW / window))
            for side, window in zip(images.shape[-2:], (height, width), strict=True)
        ]
        normal = F.interpolate(normal, lengths, mode="bilinear", antialias=True)
        # The last windows' centers are at the edge, or less than a stride beyond it.
        beyond = [CROP // 2 + -length % STRIDE for length in lengths]
        edge = (CROP // 2, beyond[1], CROP // 2, beyond[0])
        dtype = self.labels.weight.dtype
        return F.pad(normal, edge).to(dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        scores, boxes = [], []
        for width, height in sizes(images):
            logits = self(images, width, height)
            scores.append(logits.softmax(dim=-1)[..., 1:].flatten(1, 2))
            boxes.append(windows(images, width, height).flatten(0, 1))
        every = torch.cat(boxes)
        return [
            select_boxes(every, own, threshold, suppression, limit)
            for own in torch.cat(scores, dim=1)
        ]


def sizes(images: Tensor) -> list[tuple[float, float]]:
    """Widths and heights of the windows, in pixels of images (B, 3, H, W)."""
    longest = max(images.shape[-2:])
    return [
        (longest * side * shape**0.5, longest * side / shape**0.5)
        for side in SIDES
        for shape in SHAPES
    ]


def windows(images: Tensor, width: float, height: float) -> Tensor:
    """The boxes (Y, X, 4) of all windows of a size, in pixels of images (B, 3, H, W)."""
    lengths = []
    for side, window in zip(images.shape[-2:], (height, width), strict=True):
        scaled = max(1, round(side * WINDOW / window))
        places = torch.arange(-(-scaled // STRIDE) + 1, device=images.device)
        lengths.append(places * STRIDE * side / scaled)
    y, x = torch.meshgrid(*lengths, indexing="ij")
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
