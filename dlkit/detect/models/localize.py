"""One object an image: its label and its box, or its keypoints.

Shapes: B images, C labels, K keypoints.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.detect.boxes import Suppression
from dlkit.detect.models.detector import Found, channels_at, maps_at
from dlkit.detect.models.yolo_v1 import squared

STRIDE = 32  # of the backbone's map
CHANNELS, HIDDEN = 64, 256


class Answer(NamedTuple):
    """Logits (B, C), and boxes (B, 4) in shares of the square image's side."""

    labels: Tensor
    boxes: Tensor


class Regressor(nn.Module):
    """Numbers for each image, from the last map of a network of `dlkit.classify`.

    The fully connected layers keep the map's places apart.
    """

    def __init__(self, outputs: int, image_size: int, backbone: dict[str, Any]) -> None:
        super().__init__()
        cells = -(-image_size // STRIDE)
        self.side = cells * STRIDE
        self.backbone = backbones.build(backbone)
        (width,) = channels_at((STRIDE,), self.backbone)
        self.head = nn.Sequential(
            nn.Conv2d(width, CHANNELS, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(CHANNELS * cells**2, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, outputs),
        )

    def numbers(self, images: Tensor) -> Tensor:
        """Those (B, outputs) of uint8 images (B, 3, H, W), each the upper left of a square."""
        (features,) = maps_at((STRIDE,), self.backbone, squared(images, self.side))
        numbers: Tensor = self.head(features).float()
        return numbers

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        self.backbone.fuse()
        self.to(dtype)


class Localizer(Regressor):
    """A classifier with four more numbers: the box of the one object that an image shows.

    After Sermanet et al. 2014, section 4, with a label and a box in one go.
    """

    def __init__(self, num_labels: int, image_size: int, backbone: dict[str, Any]) -> None:
        super().__init__(num_labels + 4, image_size, backbone)
        self.num_labels = num_labels

    def forward(self, images: Tensor) -> Answer:
        """What uint8 images (B, 3, H, W) show."""
        labels, boxes = self.numbers(images).split([self.num_labels, 4], dim=1)
        return Answer(labels, boxes)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[Found]:
        """The object of each image, if it scores at least `threshold`; nothing is suppressed."""
        answer = self(images)
        scores, labels = answer.labels.softmax(dim=1).max(dim=1)
        boxes = answer.boxes * max(images.shape[-2:])
        found = []
        for box, score, label in zip(boxes.split(1), scores.split(1), labels.split(1), strict=True):
            kept = score >= threshold
            found.append(Found(box[kept], score[kept], label[kept]))
        return found


class KeypointLocalizer(Regressor):
    """The places of the one object's keypoints (Toshev and Szegedy 2014, the first stage)."""

    def __init__(self, keypoints: int, image_size: int, backbone: dict[str, Any]) -> None:
        super().__init__(2 * keypoints, image_size, backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Keypoints (B, K, 2) of uint8 images (B, 3, H, W) in shares of the square's side."""
        # Learning begins in the middle.
        return 0.5 + self.numbers(images).unflatten(1, (-1, 2))
