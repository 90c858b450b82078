"""A bundled classifier in whose features pictures are compared, not pixel by pixel.

Shapes: N pictures, C channels, S x S pixels, D numbers of a descriptor, L classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.classify import features, infer
from dlkit.core.vision.augment import GRAY_WEIGHTS

BATCH = 256


@dataclass(frozen=True)
class FeatureNetwork:
    """`describe` gives what the classifier's last layer sees, and what it says.

    Distances compare only within one network, so results name it.
    """

    name: str
    classifier: Any  # of dlkit.classify; its outputs are descriptors

    @property
    def labels(self) -> list[str]:
        return list(self.classifier.labels)

    @torch.inference_mode()
    def describe(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (N, D) and the indices (N,) of the best labels of uint8 pictures."""
        descriptors = [
            self.classifier.outputs(self.fitted(part.float())) for part in pixels.split(BATCH)
        ]
        found = torch.cat(descriptors)
        last_layer = self.classifier.network.source
        return found, last_layer(found.to(self.classifier.device)).argmax(dim=1).cpu()

    def fitted(self, pixels: Tensor) -> Tensor:
        """Pictures (N, C, S, S) from 0 to 255 in the size and colors of the classifier."""
        inputs = self.classifier.preprocessing
        if inputs.channels == 1 and pixels.shape[1] == 3:
            pixels = (pixels * torch.tensor(GRAY_WEIGHTS).view(3, 1, 1)).sum(dim=1, keepdim=True)
        pixels = pixels.expand(-1, inputs.channels, -1, -1)
        if pixels.shape[-1] == inputs.image_size:
            return pixels
        size = 2 * [inputs.image_size]
        return F.interpolate(pixels, size, mode="bilinear", antialias=True).clamp(0, 255)


def load(name: str, image_size: int, channels: int, device: str = "auto") -> FeatureNetwork:
    """The classifier of that name, file or URL; `auto` is the one that suits the pictures."""
    if name == "auto":
        name = "digits" if channels == 1 else "cifar10" if image_size <= 32 else "caltech101"
    # In fp32, so that scores are the same on every machine.
    return FeatureNetwork(name, features.describer(infer.load(name, device, "fp32")))
