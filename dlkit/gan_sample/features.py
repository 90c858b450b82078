"""Descriptors of pictures, from the last layer of a classifier of `dlkit classify`.

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
class FeatureExtractor:
    """A classifier whose penultimate features describe pictures.

    Distances compare only within one network, so results name it.
    """

    name: str
    classifier: Any  # a dlkit.classify predictor that outputs descriptors

    @property
    def labels(self) -> list[str]:
        return list(self.classifier.labels)

    @torch.inference_mode()
    def describe(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (N, D) and predicted labels (N,) of uint8 pictures."""
        descriptors = [
            self.classifier.outputs(self.preprocess(part.float())) for part in pixels.split(BATCH)
        ]
        outputs = torch.cat(descriptors)
        last_layer = self.classifier.network.source
        return outputs, last_layer(outputs.to(self.classifier.device)).argmax(dim=1).cpu()

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Pictures (N, C, S, S) from 0 to 255, converted to the classifier's size and channels."""
        inputs = self.classifier.preprocessing
        if inputs.channels == 1 and pixels.shape[1] == 3:
            pixels = (pixels * torch.tensor(GRAY_WEIGHTS).view(3, 1, 1)).sum(dim=1, keepdim=True)
        pixels = pixels.expand(-1, inputs.channels, -1, -1)
        if pixels.shape[-1] == inputs.image_size:
            return pixels
        size = 2 * [inputs.image_size]
        return F.interpolate(pixels, size, mode="bilinear", antialias=True).clamp(0, 255)


def load(name: str, image_size: int, channels: int, device: str = "auto") -> FeatureExtractor:
    """Load a classifier by name, file or URL; `auto` chooses one by size and channels."""
    if name == "auto":
        name = "digits" if channels == 1 else "cifar10" if image_size <= 32 else "caltech101"
    # In fp32, so that scores do not depend on the machine.
    return FeatureExtractor(name, features.make_describer(infer.load(name, device, "fp32")))
