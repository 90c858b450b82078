"""The base of torchvision's detectors, with dlkit's resizing, precision and suppression."""

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
from dlkit.core.vision.imagenet import MEAN, STD
from dlkit.detect.boxes import MAX_CANDIDATES, suppress
from dlkit.detect.models.detector import (
    ScoredBoxes,
    channels_at,
    maps_at,
    pad_narrow_maps,
)
from dlkit.detect.options import Suppression

PYRAMID_STRIDES, PYRAMID_WIDTH = (8, 16, 32), 128


class TorchvisionDetector(nn.Module):
    """One of torchvision's networks, without its resizing and suppression.

    `heads` are the layers whose outputs are decoded to boxes; labels start from `first_label`.
    """

    def __init__(self, network: Any, heads: Iterable[nn.Module], first_label: int = 0) -> None:
        super().__init__()
        network.transform = NormalizeOnly(normalize=not isinstance(network.backbone, Pyramid))
        pad_narrow_maps(network.backbone.fpn)
        for part in (network.backbone, *heads):
            part.register_forward_hook(to_float32)
        self.network, self.first_label = network, first_label
        # Suppression is ours.
        self.box_selector.nms_thresh, self.box_selector.detections_per_img = 1.0, MAX_CANDIDATES
        self.dtype = torch.float32

    @property
    def box_selector(self) -> Any:
        """The part of the network that selects boxes by score."""
        return getattr(self.network, "roi_heads", self.network)

    @property
    def backbone(self) -> Any:
        """The backbone, which may be one of `dlkit.classify`."""
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
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        self.box_selector.score_thresh = threshold
        mixed = self.dtype != torch.float32
        # In fp32 the surrounding autocast stays in effect, as in training.
        with torch.autocast(images.device.type, self.dtype) if mixed else nullcontext():
            results = self.network(list(images))
        return [
            ScoredBoxes(
                *suppress(
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
        """For inference: compute in `dtype`; torchvision's own operators keep fp32."""
        self.dtype = dtype
        if isinstance(self.backbone, backbones.Backbone):
            self.backbone.fuse()
            self.backbone.to(dtype)


class NormalizeOnly(nn.Module):
    """A replacement of torchvision's transform that normalizes images without resizing them.

    Backbones of `dlkit.classify` normalize images themselves.
    """

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        batch = torch.stack(images)
        if self.normalize:
            scales = [[255 * value for value in values] for values in (MEAN, STD)]
            mean, std = torch.tensor(scales, device=batch.device).view(2, 3, 1, 1)
            batch = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
        return ImageList(batch, [(image.shape[-2], image.shape[-1]) for image in images]), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Any) -> list[dict[str, Tensor]]:
        return found


class Pyramid(nn.Module):
    """A backbone of `dlkit.classify` with the feature pyramid of Lin et al. 2017 on its maps."""

    def __init__(self, settings: backbones.BackboneSettings, extra: ExtraFPNBlock) -> None:
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


def build_one_stage(
    network: Callable[..., Any],
    on_resnet50: Callable[..., Any],
    num_labels: int,
    backbone: str | backbones.BackboneSettings,
) -> Any:
    """Build one of torchvision's one-stage networks on five maps at strides 8 to 128, untrained.

    `backbone` is "resnet50" or the settings of a backbone of `dlkit.classify`.
    """
    if isinstance(backbone, str):
        return on_resnet50(weights=None, weights_backbone=None, num_classes=num_labels)
    pyramid = Pyramid(backbone, LastLevelP6P7(PYRAMID_WIDTH, PYRAMID_WIDTH))
    return network(pyramid, num_labels)


def to_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """A forward hook that converts features to fp32: torchvision computes boxes in their precision.

    In bf16 a box would be exact to four pixels only.
    """
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: value.float() for name, value in output.items()}
    return type(output)(to_float32(_module, _inputs, value) for value in output)
