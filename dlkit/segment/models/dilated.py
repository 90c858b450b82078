"""Dilated convolutions: a dense front end and a context module (Yu and Koltun 2016).

Shapes: B images, C classes, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.classify.backbones import Backbone
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, upsampled

STRIDE = 8  # of the front end's map: pool4 and pool5 of a VGG are left out
DILATIONS = (1, 1, 2, 4, 8, 16, 1)  # table 1
# Channels of each layer, as multiples of the classes.
WIDTHS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}
# These have strides in convolutions, or in pools that begin a stage.
BACKBONES = ("vgg", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "preact-resnet")
NOISE = 1e-3  # of the large module's first weights: far below what they pass on


class Context(nn.Sequential):
    """Logits (B, C, h, w) of logits, seen with ever wider surroundings, at one resolution.

    3x3 convolutions whose dilation grows: a stack of 1, 2, 4, ... sees 3, 7, 15, ... pixels a
    side, and DILATIONS see 67. They start as the identity (equations 4 and 5).
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...] = WIDTHS["basic"],
        dilations: tuple[int, ...] = DILATIONS,
    ) -> None:
        super().__init__()
        inputs = classes
        for width, dilation in zip(widths, dilations, strict=True):
            outputs = classes * width
            layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
            pass_on(layer, classes)
            self.extend([layer, nn.ReLU(inplace=True)])
            inputs = outputs
        self.append(nn.Conv2d(inputs, classes, 1))
        pass_on(self[-1], classes)  # type: ignore[arg-type]


@torch.no_grad()
def pass_on(layer: nn.Conv2d, classes: int) -> None:
    """Start a layer so that each class's maps are those of the layer before (equation 5)."""
    outputs, inputs, side, _ = layer.weight.shape
    same = (
        torch.arange(outputs)[:, None] * classes // outputs
        == torch.arange(inputs) * classes // inputs
    )
    nn.init.normal_(layer.weight, std=0 if outputs == inputs == classes else NOISE / outputs)
    layer.weight[:, :, side // 2, side // 2] += same * classes / outputs
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class Dilated(Segmenter):
    """A classifier without its last strides, its later convolutions dilated instead.

    With the same weights it says at every 8th pixel what the classifier says there, but for pools
    that begin a stage (VGG's), which are left out (section 4). `context` is the module on top:
    basic, large or none.
    """

    def __init__(
        self,
        classes: int,
        backbone: dict[str, Any] | None = None,
        width: float | None = None,
        context: str = "basic",
    ) -> None:
        if backbone is not None and not backbone["arch"].startswith(BACKBONES):
            raise DlkitError(
                f"dilated needs a resnet or vgg as its backbone, not {backbone['arch']}"
            )
        if context not in (*WIDTHS, "none"):
            raise DlkitError(f"no context {context!r}: there is {', '.join(WIDTHS)}, none")
        super().__init__(make_backbone(backbone, width))
        undo_strides(self.backbone)
        self.stride = STRIDE
        self.score = nn.Conv2d(self.backbone.channels[-1], classes, 1)
        self.context = None if context == "none" else Context(classes, WIDTHS[context])

    def logits(self, images: Tensor) -> Tensor:
        scores = self.score(self.backbone(images)[-1])
        if self.context is not None:
            # The module's ReLUs cut negative scores off, and with them what a class learns from.
            # The paper trains the front end first, and alone; the sum learns both at once.
            scores = scores + self.context(scores)
        return upsampled(scores, images)


def undo_strides(backbone: Backbone) -> None:
    """Keep the resolution of the map at STRIDE in all later stages; what they see stays."""
    if STRIDE not in backbone.strides:
        raise DlkitError(
            f"this backbone has maps at strides {backbone.strides}, and the front end of dilated"
            f" needs {STRIDE}: take another, such as caltech101"
        )
    dilation = 1
    for index, stride in enumerate(backbone.strides):
        if stride <= STRIDE:
            continue
        stage = backbone.stages[index]
        before, dilation = dilation, stride // STRIDE
        if isinstance(next(stage.children()), nn.MaxPool2d):
            stage.add_module("0", nn.Identity())
            before = dilation
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d):
                # The convolution with the stride still sees the map of the stage before.
                own = before if layer.stride[0] > 1 else dilation
                layer.dilation = (own, own)
                padding: Any = layer.padding
                layer.padding = tuple(side * own for side in padding)
                layer.stride = (1, 1)
            elif isinstance(layer, nn.ZeroPad2d):
                left, right, top, bottom = (side * dilation for side in layer.padding)
                layer.padding = (left, right, top, bottom)
        backbone.strides[index] = STRIDE
