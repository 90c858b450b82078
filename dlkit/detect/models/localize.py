"""Localization of one object per image: its label and box, or its keypoints.

Shapes: B images, C labels, K keypoints.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.detect.models.detector import BackboneDetector, ScoredBoxes, channels_at, maps_at
from dlkit.detect.models.yolo_v1 import pad_to_square
from dlkit.detect.options import Suppression

STRIDE = 32  # of the backbone's map
CHANNELS, HIDDEN = 64, 256


class LocalizerOutput(NamedTuple):
    """Logits (B, C), and boxes (B, 4) in fractions of the square image's side."""

    labels: Tensor
    boxes: Tensor


class BackboneRegressor(BackboneDetector):
    """A regression of `outputs` numbers from the last map of a backbone of `dlkit.classify`.

    The fully connected layers see the whole map, without pooling.
    """

    def __init__(self, outputs: int, image_size: int, backbone: backbones.BackboneSettings) -> None:
        super().__init__(backbone)
        cells = -(-image_size // STRIDE)
        self.side = cells * STRIDE
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
        """Numbers (B, outputs) of uint8 images (B, 3, H, W), which are padded to squares."""
        (features,) = maps_at((STRIDE,), self.backbone, pad_to_square(images, self.side))
        numbers: Tensor = self.head(features).float()
        return numbers


class Localizer(BackboneRegressor):
    """A classifier with four more outputs: the box of the one object of an image.

    After Sermanet et al. 2014, section 4, with label and box from one head.
    """

    def __init__(
        self, num_labels: int, image_size: int, backbone: backbones.BackboneSettings
    ) -> None:
        super().__init__(num_labels + 4, image_size, backbone)
        self.num_labels = num_labels

    def forward(self, images: Tensor) -> LocalizerOutput:
        """Label logits and boxes of uint8 images (B, 3, H, W)."""
        numbers = self.numbers(images)
        return LocalizerOutput(numbers[:, : self.num_labels], numbers[:, self.num_labels :])

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The object of each image, if it scores at least `threshold`; nothing is suppressed."""
        output = self(images)
        scores, labels = output.labels.softmax(dim=1).max(dim=1)
        boxes = output.boxes * max(images.shape[-2:])
        found = []
        for box, score, label in zip(boxes.split(1), scores.split(1), labels.split(1), strict=True):
            kept = score >= threshold
            found.append(ScoredBoxes(box[kept], score[kept], label[kept]))
        return found


class KeypointLocalizer(BackboneRegressor):
    """A regression of the keypoints of one object (Toshev and Szegedy 2014, the first stage)."""

    def __init__(
        self,
        keypoints: int,
        image_size: int,
        backbone: backbones.BackboneSettings,
        skeleton: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(2 * keypoints, image_size, backbone)
        if any(end >= keypoints for line in skeleton for end in line):
            raise DlkitError(f"its skeleton has more than the {keypoints} keypoints")
        self.skeleton = [(first, second) for first, second in skeleton]

    def forward(self, images: Tensor) -> Tensor:
        """Keypoints (B, K, 2) of uint8 images (B, 3, H, W) in fractions of the square's side."""
        # Training starts from the center.
        return 0.5 + self.numbers(images).view(len(images), -1, 2)

    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        raise DlkitError("the model finds keypoints, not boxes; use dlkit.detect.keypoints.locate")
