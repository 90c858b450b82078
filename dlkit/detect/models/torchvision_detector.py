"""What torchvision's detectors share: images that come resized, precision, suppression of ours."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelP6P7

from dlkit.classify import backbones
from dlkit.detect.boxes import MOST_CANDIDATES, Suppression, suppressed
from dlkit.detect.models.detector import IMAGENET, Found, channels_at, maps_at, widen_narrow_maps

PYRAMID_STRIDES, PYRAMID_WIDTH = (8, 16, 32), 128


class TorchvisionDetector(nn.Module):
    """One of torchvision's networks, without its resizing and suppression.

    The outputs of its `heads` become boxes; its first label has the number `first_label`.
    """

    def __init__(self, network: Any, heads: Iterable[nn.Module], first_label: int = 0) -> None:
        super().__init__()
        network.transform = AsGiven(normalize=not isinstance(network.backbone, Pyramid))
        widen_narrow_maps(network.backbone.fpn)
        for part in (network.backbone, *heads):
            part.register_forward_hook(as_floats)
        self.network, self.first_label = network, first_label
        # All that score well are left to our suppression.
        self.chooses.nms_thresh, self.chooses.detections_per_img = 1.0, MOST_CANDIDATES
        self.dtype = torch.float32

    @property
    def chooses(self) -> Any:
        """The part of the network that picks boxes by score."""
        return getattr(self.network, "roi_heads", self.network)

    @property
    def backbone(self) -> Any:
        """The network of `dlkit.classify` it stands on, if it stands on one."""
        return self.network.backbone.body

    def forward(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses, for uint8 images (B, 3, H, W), boxes (B, N, 4) and labels (B, N)."""
        targets = [
            {"boxes": own[present >= 0], "labels": present[present >= 0] + self.first_label}
            for own, present in zip(boxes, labels, strict=True)
        ]
        losses: dict[str, Tensor] = self.network(list(images), targets)
        return losses

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[Found]:
        """The objects of each image that score at least `threshold`, best first."""
        self.chooses.score_thresh = threshold
        mixed = self.dtype != torch.float32
        # Without a dtype of its own it keeps to the autocast around it, as in training.
        with torch.autocast(images.device.type, self.dtype) if mixed else nullcontext():
            results = self.network(list(images))
        return [
            Found(
                *suppressed(
                    result["boxes"].float(),
                    result["scores"].float(),
                    result["labels"] - self.first_label,
                    threshold,
                    suppression,
                    limit,
                )
            )
            for result in results
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: products in `dtype`; torchvision's own operators keep fp32."""
        self.dtype = dtype
        if isinstance(self.backbone, backbones.Backbone):
            self.backbone.fuse()
            self.backbone.to(dtype)


class AsGiven(nn.Module):
    """In the place of torchvision's transform, which resizes: only makes the images normal.

    Backbones of `dlkit.classify` do even that themselves.
    """

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        batch = torch.stack(images)
        if self.normalize:
            mean, std = torch.tensor(IMAGENET, device=batch.device).view(2, 3, 1, 1)
            batch = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
        return ImageList(batch, [(image.shape[-2], image.shape[-1]) for image in images]), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Any) -> list[dict[str, Tensor]]:
        return found


class Pyramid(nn.Module):
    """A network of `dlkit.classify`, and the feature pyramid of Lin et al. 2017 on its maps."""

    def __init__(self, settings: dict[str, Any], extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body = backbones.build(settings)
        channels = channels_at(PYRAMID_STRIDES, self.body)
        self.out_channels = PYRAMID_WIDTH
        self.fpn = FeaturePyramidNetwork(channels, self.out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The maps (B, K, h, w) of uint8 images (B, 3, H, W) by name, the finest first."""
        maps = maps_at(PYRAMID_STRIDES, self.body, images)
        found: dict[str, Tensor] = self.fpn(OrderedDict(zip("012", maps, strict=True)))
        return found


def one_stage(
    network: Callable[..., Any],
    on_resnet50: Callable[..., Any],
    num_labels: int,
    backbone: str | dict[str, Any],
) -> Any:
    """One of torchvision's one-stage networks, untrained, on five maps at strides 8 to 128.

    They come of its ResNet-50, or of the network of `dlkit.classify` with these settings.
    """
    if isinstance(backbone, str):
        return on_resnet50(weights=None, weights_backbone=None, num_classes=num_labels)
    pyramid = Pyramid(backbone, LastLevelP6P7(PYRAMID_WIDTH, PYRAMID_WIDTH))
    return network(pyramid, num_labels)


def as_floats(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """A hook after `forward`: torchvision makes anchors and boxes in the precision of features.

    In bf16 a box would be right to four pixels only.
    """
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: value.float() for name, value in output.items()}
    return type(output)(as_floats(_module, _inputs, value) for value in output)
