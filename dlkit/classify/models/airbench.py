"""A network for short trainings on small images (Jordan 2024, arXiv 2404.00498).

Shapes: N images, C channels, S x S pixels, K filters.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from dlkit.classify.models.network import Architecture, Network

WIDTHS = (64, 256, 256)  # of the three groups
WHITENED = 2  # pixels per side of the patches that the first layer whitens
EPSILON = 5e-4  # added to the variances by whose roots it divides
SCALE = 1 / 9  # of the pooled features, and so of the logits
BATCH_NORM_MOMENTUM = 0.4


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def norm(width: int) -> nn.BatchNorm2d:
    """Batch norm of which only the bias is trained."""
    layer = nn.BatchNorm2d(width, momentum=BATCH_NORM_MOMENTUM)
    layer.weight.requires_grad_(False)
    return layer


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution whose first filters pass the inputs on (Dirac initialization)."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(inputs, outputs)])
    return layer


def group(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions with batch norm and GELU, the first one with a 2x2 pool."""
    return nn.Sequential(
        OrderedDict(
            conv1=convolution(inputs, outputs),
            pool=nn.MaxPool2d(2),
            norm1=norm(outputs),
            gelu1=nn.GELU(),
            conv2=convolution(outputs, outputs),
            norm2=norm(outputs),
            gelu2=nn.GELU(),
        )
    )


def airbench(
    arch: str, num_labels: int, image_size: int, channels: int = 3, width_multiplier: float = 1.0
) -> Network:
    """Build the network; its first layer is not trained, but set by `whiten`."""
    filters = 2 * channels * WHITENED**2
    first = nn.Conv2d(channels, filters, WHITENED, bias=False)
    first.weight.requires_grad_(False)
    features = nn.Sequential(OrderedDict(whiten=first, gelu=nn.GELU()))
    inputs = filters
    for number, width in enumerate(WIDTHS, start=1):
        outputs = round(width * width_multiplier)
        features.add_module(f"group{number}", group(inputs, outputs))
        inputs = outputs
    head = OrderedDict(
        pool=nn.AdaptiveMaxPool2d(1),
        flat=nn.Flatten(),
        scale=Scale(SCALE),
        fc=nn.Linear(inputs, num_labels, bias=False),
    )
    return Network(features, nn.Sequential(head))


@torch.no_grad()
def whiten(network: Network, images: Tensor) -> None:
    """Set the first layer from normalized images (N, C, S, S).

    Its filters are the eigenvectors of the covariance of 2x2 patches, each divided by the root of
    its variance, and their negatives: their outputs are uncorrelated, of variance 1.
    """
    channels = images.shape[1]
    patches = nn.functional.unfold(images.double(), WHITENED).transpose(1, 2).flatten(0, 1)
    variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = vectors.T / (variances[:, None] + EPSILON).sqrt()
    filters = filters.flip(0).view(-1, channels, WHITENED, WHITENED)  # the largest variance first
    network.features.get_parameter("whiten.weight").copy_(torch.cat([filters, -filters]))


ARCHITECTURES = {"airbench": Architecture(airbench)}
