"""The losses of torchvision's detectors."""

from torch import Tensor, nn


def torchvision_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The losses that the network returns itself.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding.
    """
    losses: dict[str, Tensor] = network(images, boxes, labels)
    return losses
